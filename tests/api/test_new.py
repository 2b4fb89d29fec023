"""`qanas new`: a folder becomes a recipe that runs."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qanas import cli
from qanas.core.errors import InputError
from qanas.recipe import load_plan
from qanas.recipe.starting import first_recipe
from qanas.tasks.anomaly.synthetic import write_hums
from qanas.tasks.audio.synthetic import write_recordings
from qanas.tasks.images.synthetic import write_pictures
from qanas.tasks.segmentation.synthetic import write_synthetic
from qanas.tasks.timeseries.synthetic import write_activities, write_machines

Write = Callable[[Path, int], None]
SIDE, RATE, SECONDS = 32, 8000, 0.5


def begun(folder: Path, write: Write, target: str | None = None) -> tuple[dict[str, Any], Path]:
    data = folder / "data"
    data.mkdir()
    write(data, 0)
    text, seen = first_recipe(data, "nrf5340", target)
    assert len(seen) == 1
    recipe = folder / "begun.toml"
    recipe.write_text(text)
    return tomllib.loads(text), recipe


@pytest.mark.parametrize(
    ("write", "task", "space", "keys"),
    [
        (write_pictures, "images", "resnet", {"size": SIDE, "colour": "rgb"}),
        (write_recordings, "audio", "ds_cnn", {"sample_rate": RATE, "seconds": SECONDS}),
        (write_activities, "timeseries", "tcn", {"time": "time"}),
        (write_hums, "anomaly", "autoencoder", {"normal": "normal"}),
    ],
)
def test_what_is_in_a_folder_decides(
    tmp_path: Path, write: Write, task: str, space: str, keys: dict[str, object]
) -> None:
    tables, recipe = begun(tmp_path, write)
    assert (tables["task"]["name"], tables["space"]["name"]) == (task, space)
    assert tables["task"].items() >= keys.items()
    plan = load_plan(recipe, [])
    plan.check()
    assert [limit.cost.column for limit in plan.limits] == ["file_bytes", "arena_bytes"]
    assert plan.main_metric.name == ("auc" if task == "anomaly" else "balanced_accuracy")


def test_masks_get_as_many_classes_as_their_numbers_are(tmp_path: Path) -> None:
    tables, recipe = begun(tmp_path, write_synthetic)
    assert tables["task"]["dataset"] == "folders"
    assert len(tables["task"]["classes"]) == 12
    load_plan(recipe, [])


def test_tables_without_classes_want_a_target(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--target COLUMN; there are time, load, temperature, vibration, wear"):
        begun(tmp_path, write_machines)
    with pytest.raises(InputError, match="has no column tear"):
        first_recipe(tmp_path / "data", "host", "tear")
    text, _ = first_recipe(tmp_path / "data", "host", "wear")
    assert tomllib.loads(text)["task"]["predict"] == "number"
    assert tomllib.loads(text)["objectives"]["mae_quantized"] == "minimize"


def test_folders_that_nothing_can_be_made_of(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone does not exist; name the folder of your data"):
        first_recipe(tmp_path / "gone", "host", None)
    with pytest.raises(InputError, match="holds no file that a task takes"):
        first_recipe(tmp_path, "host", None)
    (tmp_path / "a").mkdir()
    write_pictures(tmp_path / "a", 0)
    with pytest.raises(InputError, match="holds images, not tables; leave it out"):
        first_recipe(tmp_path / "a", "host", "wear")


def test_a_recipe_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_pictures(tmp_path / "data", 0)
    kept = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert cli._new(Path("data"), None, "host", None) == Path("data.toml")
        with pytest.raises(InputError, match=r"data\.toml is there already"):
            cli._new(Path("data"), None, "host", None)
    finally:
        os.chdir(kept)
