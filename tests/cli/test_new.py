"""`qanas new`: a folder of data becomes a recipe that can be run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from qanas import cli
from qanas.core.errors import InputError
from qanas.recipe import load_plan
from qanas.recipe.new import suggestion_for, write_recipe
from qanas.tasks.anomaly.synthetic import write_hums
from qanas.tasks.audio.synthetic import write_recordings
from qanas.tasks.detection.synthetic import write_scenes
from qanas.tasks.images.synthetic import write_pictures
from qanas.tasks.segmentation.synthetic import write_synthetic
from qanas.tasks.timeseries.synthetic import write_activities, write_machines


@pytest.mark.parametrize(
    ("write", "task", "said"),
    [
        (write_pictures, "images", "size = 32"),
        (write_recordings, "audio", "sample_rate = 8000"),
        (write_hums, "anomaly", "seconds = 0.5"),
        (write_activities, "timeseries", 'time = "time"'),
        (write_machines, "timeseries", 'target = "wear"'),
        (write_machines, "timeseries", "\n# horizon = 24   # a forecast"),
        (write_machines, "timeseries", "window = 16"),
        (write_synthetic, "segmentation", "class_11"),
        (partial(write_scenes, pictures=30), "detection", 'classes = ["person"]'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_folder_becomes_a_recipe(tmp_path: Path, write: Callable[[Path, int], None], task: str, said: str) -> None:
    data = tmp_path / "my data"
    data.mkdir()
    write(data, 0)
    path = tmp_path / "mine.toml"
    assert write_recipe(data, path, "nrf5340").task == task
    assert said in path.read_text("utf-8")
    plan = load_plan(path)
    assert len(plan.bench.task.load().train) > 0
    assert [limit.cost.column for limit in plan.limits] == ["file_bytes", "arena_bytes"]
    assert plan.bench.networks.settings(plan.bench.shape)
    with pytest.raises(InputError, match="there is such a file"):
        write_recipe(data, path)


def test_long_recordings_are_cut_into_enough_clips(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for index in range(4):
            soundfile.write(tmp_path / label / f"{index}.wav", np.zeros(40000), 4000)
    recipe = suggestion_for(tmp_path).recipe("data", "host")
    assert "seconds = 1.0   # of a clip: recordings of 10 s are cut, into about 28 clips" in recipe
    for label in ("a", "b"):
        (tmp_path / label / "3.wav").unlink()
    assert "seconds = 1.0 " in suggestion_for(tmp_path).recipe("data", "host")


def test_a_target_may_be_named(tmp_path: Path) -> None:
    write_machines(tmp_path, 0)
    assert 'target = "load"' in suggestion_for(tmp_path, "load").recipe("data", "host")
    with pytest.raises(InputError, match="has no column tear: it has time, load"):
        suggestion_for(tmp_path, "tear")


def _table(path: Path, label: Callable[[int, int], object], recordings: int = 8, rows: int = 30) -> Path:
    """Write a table of recordings, one below the other, each with a label a row."""
    values = np.random.default_rng(0).normal(size=(recordings, rows, 2)).round(3)
    lines = [
        f"{one},{row},{values[one, row, 0]},{values[one, row, 1]},{label(one, row)}"
        for one in range(recordings)
        for row in range(rows)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["id,t,x,y,label", *lines]) + "\n", "utf-8")
    return path.parent


@pytest.mark.parametrize(
    ("label", "recordings", "expected"),
    [
        (lambda one, _: one % 2, 8, ('predict = "class"', 'recording = "id"', 'time = "t"')),
        (lambda _, row: row / 7, 8, ('predict = "number"', 'recording = "id"', 'time = "t"')),
        (lambda one, _: "fault" if one % 2 else "ok", 8, ('predict = "class"', 'recording = "id"')),
        (lambda _, row: row // 2 % 2, 1, ('predict = "class"', 'split = "time"', 'time = "t"')),
        (lambda _, row: row // 2 % 2, 2, ('predict = "class"', 'split = "time"', '# time = "t"')),
    ],
    ids=["0 and 1", "numbers", "words", "one recording", "times that go back"],
)
def test_a_recipe_of_one_table_passes_its_own_check(
    tmp_path: Path, label: Callable[[int, int], object], recordings: int, expected: tuple[str, ...]
) -> None:
    data, path = _table(tmp_path / "data" / "d.csv", label, recordings, 240 // recordings), tmp_path / "mine.toml"
    write_recipe(data, path, target="label")
    written = path.read_text("utf-8")
    for line in expected:
        assert f"\n{line}" in written
    assert len(load_plan(path).bench.task.load().train) > 0


def test_a_table_of_labels_of_another_name_is_found(tmp_path: Path) -> None:
    write_pictures(tmp_path, 0)
    files = sorted(tmp_path.glob("*/*.png"))
    lines = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in files]
    (tmp_path / "mine.csv").write_text("\n".join(["file,label", *lines]))
    write_recipe(tmp_path, tmp_path / "mine.toml")
    assert 'labels = "mine.csv"' in (tmp_path / "mine.toml").read_text("utf-8")


def test_texts_beside_pictures_are_no_tables_and_gifs_are_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path, 0)
    for path in sorted(tmp_path.glob("*/*.png")):
        Image.open(path).save(path.with_suffix(".gif"))
        path.unlink()
    (tmp_path / "README.txt").write_text("Pictures of three shapes.")
    (tmp_path / "licence.txt").write_text('Free for all, "and nothing else\n')
    assert write_recipe(tmp_path, tmp_path / "mine.toml").task == "images"
    assert len(load_plan(tmp_path / "mine.toml").bench.task.load().train) > 0


def test_what_holds_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(InputError, match="no pictures, recordings or tables: 1 other files"):
        write_recipe(tmp_path, tmp_path / "mine.toml")
    with pytest.raises(InputError, match="no folder"):
        write_recipe(tmp_path / "gone", tmp_path / "mine.toml")


@pytest.mark.parametrize(
    "name", ["synthetic", "$HOME", "cost$", "~nobody-is-called-so", "new\nline", 'a "quoted\\ one', "日本", "tab\t[x]"]
)
def test_any_name_of_a_folder_is_found_again(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).mkdir()
    write_pictures(tmp_path / name, 0)
    monkeypatch.chdir(tmp_path)
    write_recipe(Path(name), Path("below/mine.toml"))
    assert load_plan(Path("below/mine.toml")).recipe["task"]["data"] == str(tmp_path / name)
    write_recipe(Path(name), Path("mine.toml"))
    assert load_plan(Path("mine.toml")).recipe["task"]["data"] == str(tmp_path / name)


def test_what_is_asked_in_vain_leaves_no_recipe(tmp_path: Path) -> None:
    write_pictures(tmp_path, 0)
    with pytest.raises(InputError, match=r"^--device: unknown device 'hots': did you mean 'host'"):
        write_recipe(tmp_path, tmp_path / "mine.toml", "hots")
    with pytest.raises(InputError, match=r"^--target wear: a column of tables, and .* is for the task images"):
        write_recipe(tmp_path, tmp_path / "mine.toml", target="wear")
    assert not (tmp_path / "mine.toml").exists()


def test_a_devices_file_is_named_from_the_recipe_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    write_pictures(tmp_path / "data", 0)
    monkeypatch.chdir(tmp_path)
    device = resources.files("qanas.hardware.devices").joinpath("nrf5340.toml").read_text("utf-8")
    Path("mine.toml").write_text(device, "utf-8")
    write_recipe(Path("data"), Path("below/recipe.toml"), "mine.toml")
    assert load_plan(Path("below/recipe.toml")).bench.device.name == "nrf5340"


def test_a_recipe_that_fails_its_check_is_said_to_be_there(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_activities(folder, 0)
    path = min(folder.glob("**/*.csv"))
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([*lines[:5], lines[5].rpartition(",")[0] + ",oops", *lines[6:]]), "utf-8")
    told = rf"line 6, column .*'oops' is no number: .* \({tmp_path}/mine\.toml is written: mend the data, or change it"
    with pytest.raises(InputError, match=told):
        cli.new(folder, tmp_path / "mine.toml")
    assert (tmp_path / "mine.toml").is_file()
