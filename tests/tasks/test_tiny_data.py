"""Three samples a class, fewer than a batch: every task takes them, or says in one line what is lacking."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from qanas.core.errors import InputError
from qanas.recipe import load_plan
from qanas.tasks.anomaly import Anomaly
from qanas.tasks.audio import Audio
from qanas.tasks.base import Task
from qanas.tasks.images import Images
from qanas.tasks.timeseries import TimeSeries
from qanas.workflows.check import checked


def _picture(path: Path, generator: np.random.Generator) -> None:
    Image.fromarray(generator.integers(0, 256, (16, 16, 3)).astype(np.uint8)).save(path.with_suffix(".png"))


def _recording(path: Path, generator: np.random.Generator) -> None:
    soundfile.write(path.with_suffix(".wav"), generator.normal(0, 0.1, 4000), 8000)


def _table(path: Path, generator: np.random.Generator) -> None:
    np.savetxt(path.with_suffix(".csv"), generator.normal(size=(12, 2)), delimiter=",", header="x,y", comments="")


WRITERS: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "images": _picture,
    "audio": _recording,
    "anomaly": _recording,
    "timeseries": _table,
}
KEYS: dict[str, dict[str, float]] = {
    "images": {"size": 16},
    "audio": {"sample_rate": 8000, "seconds": 0.5, "bands": 8},
    "anomaly": {"sample_rate": 8000, "seconds": 0.5, "bands": 8, "context": 2},
    "timeseries": {"window": 4, "hop": 4},
}
TASKS: dict[str, Callable[..., Task]] = {"images": Images, "audio": Audio, "anomaly": Anomaly, "timeseries": TimeSeries}
SPACES = {"images": "resnet", "audio": "ds_cnn", "anomaly": "autoencoder", "timeseries": "lstm"}
OBJECTIVES = {"anomaly": 'auc_quantized = "maximize"'}


def _written(folder: Path, name: str, count: int) -> Path:
    for place, label in enumerate(("normal", "other")):
        (folder / label).mkdir(parents=True)
        for index in range(count):
            WRITERS[name](folder / label / str(index), np.random.default_rng([place, index]))
    return folder


@pytest.mark.parametrize("name", TASKS)
def test_three_of_a_class_are_in_all_splits(name: str, tmp_path: Path) -> None:
    data = TASKS[name](data=str(_written(tmp_path, name, 3)), **KEYS[name]).load()
    assert min(len(data.train), len(data.val), len(data.test)) > 0


@pytest.mark.parametrize("name", TASKS)
def test_one_of_a_class_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        TASKS[name](data=str(_written(tmp_path, name, 1)), **KEYS[name]).load()
    assert "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_sets_smaller_than_a_batch_are_trained_on(name: str, tmp_path: Path) -> None:
    _written(tmp_path / "data", name, 3)
    keys = "\n".join(f"{key} = {value}" for key, value in KEYS[name].items())
    objective = OBJECTIVES.get(name, 'accuracy_quantized = "maximize"')
    (tmp_path / "tiny.toml").write_text(
        f'[task]\nname = "{name}"\ndata = "data"\n{keys}\n[space]\nname = "{SPACES[name]}"\n'
        f"[strategy]\nname = 'random'\ntrials = 2\n[estimation]\nepochs = 1\n[objectives]\n{objective}\n"
    )
    assert checked(load_plan(tmp_path / "tiny.toml")).reference_costs["macs"] > 0
