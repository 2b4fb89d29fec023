from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from qanas.networks.lstm import LSTMNetwork
from qanas.search_space.training_group import TrainingSettings
from qanas.tasks.base import TaskData
from qanas.tasks.samples import FloatArray, Split
from qanas.tasks.turbofan import Turbofan
from qanas.tasks.turbofan.reader import read_table
from qanas.tasks.turbofan.synthetic import ENGINES, damage, write_synthetic
from qanas.tasks.turbofan.task import SubsetName
from qanas.training.choice import make_trainer
from qanas.training.loop import Epochs, fit
from qanas.training.trainer import TrainingSet

Predict = Callable[[Split], FloatArray]


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def mean_predictor(data: TaskData) -> Predict:
    mean = data.train.targets.mean()
    return lambda split: np.full_like(split.targets, mean)


def linear_predictor(data: TaskData) -> Predict:
    """Least squares on the last cycle."""

    def features(split: Split) -> FloatArray:
        return np.concatenate([split.inputs[:, -1], np.ones_like(split.targets)], axis=1)

    weights = np.linalg.lstsq(features(data.train), data.train.targets, rcond=None)[0]
    return lambda split: np.asarray(features(split) @ weights, dtype=np.float32)


def lstm_predictor(task: Turbofan, data: TaskData, units: int, epochs: int) -> Predict:
    torch.manual_seed(0)
    network = LSTMNetwork(data.input_shape[1], [units], 1, data.target_scale)
    training = TrainingSettings(5e-3, "adam", "cosine", 64, "mae")
    train = TrainingSet(torch.from_numpy(data.train.inputs), torch.from_numpy(data.train.targets))
    fit(make_trainer(network, train, task.loss, training), Epochs(len(train), training, epochs, seed=0))

    def predict(split: Split) -> FloatArray:
        with torch.no_grad():
            return np.asarray(network(torch.from_numpy(split.inputs)).numpy(), dtype=np.float32)

    return predict


def ratios(task: Turbofan, data: TaskData, networks: list[Predict], split: Split) -> tuple[float, float]:
    """MAE of the mean and of the linear model, relative to the best network's."""

    def mae(predict: Predict) -> float:
        return task.evaluate(predict(split), split)["mae"]

    best = min(mae(network) for network in networks)
    return mae(mean_predictor(data)) / best, mae(linear_predictor(data)) / best


@pytest.mark.usefixtures("one_thread")
def test_hard_enough_for_a_short_training() -> None:
    task = Turbofan("synthetic", stride=6)
    data = task.load()
    networks = [lstm_predictor(task, data, units=8, epochs=8)]
    for split in (data.val, data.test):
        mean, linear = ratios(task, data, networks, split)
        assert mean > 3.0
        assert linear > 1.3


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("split_seed", [0, 1])
def test_hard_enough(split_seed: int) -> None:
    task = Turbofan("synthetic", split_seed=split_seed)
    data = task.load()
    networks = [lstm_predictor(task, data, units, epochs=20) for units in (16, 32)]
    for split in (data.val, data.test):
        mean, linear = ratios(task, data, networks, split)
        assert mean > 3.0
        assert linear > 1.3


@pytest.mark.parametrize(("subset", "conditions"), [("FD001", 1), ("FD002", 6), ("FD003", 1), ("FD004", 6)])
def test_is_read_like_the_real_thing(subset: SubsetName, conditions: int) -> None:
    data = Turbofan("synthetic", subset=subset, stride=20).load()
    assert len(data.preprocessing["conditions"]) == conditions
    assert data.preprocessing["sensors"] == [2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21]
    assert data.protocol["source"] == "synthetic"
    assert len(data.test) == ENGINES
    if subset == "FD001":
        assert (data.test.extras["cycle"] < 30).any()  # the padding is exercised
    assert (data.test.extras["uncapped"] > 125).any()  # and so is the cap


def test_files_have_the_format(tmp_path: Path) -> None:
    write_synthetic(tmp_path, "FD001", 5)
    for part in ("train", "test"):
        lines = (tmp_path / f"{part}_FD001.txt").read_text(encoding="ascii").splitlines()
        assert all(line.count(" ") == 27 and line.endswith("  ") for line in lines)
        assert lines[0].startswith("1 1 ")
    assert len(read_table(tmp_path / "RUL_FD001.txt", 1)) == ENGINES


def test_seeded(tmp_path: Path) -> None:
    contents = []
    for index, seed in enumerate((3, 3, 4)):
        folder = tmp_path / str(index)
        folder.mkdir()
        write_synthetic(folder, "FD001", seed)
        contents.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert contents[0] == contents[1]
    assert all(one != other for one, other in zip(contents[0], contents[2], strict=True))


def test_fingerprint_names_the_subset() -> None:
    assert Turbofan("synthetic").fingerprint() == Turbofan("synthetic", window=5).fingerprint()
    assert Turbofan("synthetic").fingerprint() != Turbofan("synthetic", subset="FD003").fingerprint()


def test_no_temporary_files_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    Turbofan("synthetic", stride=50).load()
    assert not list(tmp_path.iterdir())


def test_second_fault_moves_some_sensors_the_other_way(tmp_path: Path) -> None:
    for subset, faults in (("FD001", 1), ("FD003", 2)):
        write_synthetic(tmp_path, subset, 0)
        table = read_table(tmp_path / f"train_{subset}.txt", 26)
        directions = set()
        for engine in range(1, ENGINES + 1):
            seventh = table[table[:, 0] == engine, 11]
            directions.add(bool(seventh[-10:].mean() > seventh[:10].mean()))
        assert len(directions) == faults


@pytest.mark.parametrize("shape", [0, 1, 2])
@pytest.mark.parametrize("steepness", [0.0, 0.5, 0.99])
def test_damage_grows_from_none_to_failure(shape: int, steepness: float) -> None:
    progress = np.linspace(-0.5, 1.0, 151)
    grown = damage(progress, np.full(151, shape), np.full(151, steepness))
    assert grown[progress <= 0] == pytest.approx(0.0)
    assert grown[-1] == pytest.approx(1.0)
    assert (np.diff(grown[progress > 0]) > 0).all()
