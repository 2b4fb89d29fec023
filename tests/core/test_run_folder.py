import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder, folder_written_atomically, write_atomically

HOLD = """
import sys, time
from pathlib import Path
from qanas.core.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    time.sleep(60)
"""


class Killed(BaseException):
    """Stands for the end of the process at one moment."""


def killed(*_: object, **__: object) -> None:
    raise Killed


def killed_while_writing(folder: Path, name: str) -> None:
    with suppress(Killed), folder_written_atomically(folder) as partial:
        (partial / name).write_text("{")
        raise Killed


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b.txt", b"new")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"], "nothing is left beside it"


@pytest.mark.parametrize("moment", [(os, "fsync"), (Path, "replace")])
def test_killed_before_the_rename_the_old_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: tuple[Any, str]
) -> None:
    path = tmp_path / "front.csv"
    write_atomically(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(*moment, killed)
        with pytest.raises(Killed):
            write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"next")
    assert path.read_bytes() == b"next"
    assert [entry.name for entry in tmp_path.iterdir()] == ["front.csv"]


def test_who_writes_the_same_file_waits(tmp_path: Path) -> None:
    path = tmp_path / "report.html"

    def write(letter: bytes) -> None:
        for _ in range(40):
            write_atomically(path, letter * 200_000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, (b"a", b"b", b"c", b"d")))
    assert len(path.read_bytes()) == 200_000
    assert len(set(path.read_bytes())) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_appears_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "models" / "seed"
    with folder_written_atomically(target) as partial:
        (partial / "card.json").write_text("{}")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["card.json"]
    assert [path.name for path in target.parent.iterdir()] == ["seed"]


def test_a_folder_whose_writing_failed_leaves_the_old_one_and_no_leftovers_later(tmp_path: Path) -> None:
    target = tmp_path / "seed"
    with folder_written_atomically(target) as partial:
        (partial / "old").touch()
    killed_while_writing(target, "half")
    assert [path.name for path in target.iterdir()] == ["old"]
    with folder_written_atomically(target) as partial:
        (partial / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"], "neither the old nor the half file is in it"
    assert [path.name for path in tmp_path.iterdir()] == ["seed"]


def test_a_half_written_model_is_not_among_the_cards(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    killed_while_writing(folder.model("seed"), "card.json")
    assert folder.cards() == {}


def test_a_second_process_is_refused_and_the_lock_is_free_after_a_kill(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder.path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match=f"process {holder.pid}"), folder.locked():
            pytest.fail("two runs in one folder")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with folder.locked():
            assert (folder.path / "lock.pid").read_text() == f"{os.getpid()}\n"


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(Killed), folder.locked():
        raise Killed
    with folder.locked():
        pass


def test_a_run_may_hold_locks_of_two_folders(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "a").locked(), RunFolder(tmp_path / "b").locked():
        pass


def test_a_recipe_round_trips(tmp_path: Path) -> None:
    recipe = {"task": {"name": "turbofan", "stride": 3, "rul_cap": 125.0}, "space": {"search": ["training"]}}
    folder = RunFolder(tmp_path)
    assert not folder.exists()
    folder.write_recipe(recipe)
    folder.require()
    assert folder.read_recipe() == recipe


def test_folders_that_are_no_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        RunFolder(tmp_path / "nowhere").require()
    with pytest.raises(InputError, match=r"recipe\.toml: missing"):
        RunFolder(tmp_path).require()


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe"])
def test_a_damaged_recipe_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "recipe.toml").write_bytes(content)
    with pytest.raises(InputError, match=r"recipe\.toml.*damaged"):
        RunFolder(tmp_path).read_recipe()


def test_tables_have_the_columns_of_all_rows_and_empty_cells(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_table(folder.front, [{"key": "a", "mae": 1.5}, {"key": "b", "units_2": 3}])
    table = pl.read_csv(folder.front)
    assert table.columns == ["key", "mae", "units_2"]
    assert table.rows() == [("a", 1.5, None), ("b", None, 3)]


def test_a_summary_round_trips_and_is_empty_before(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_summary() == {}
    folder.write_summary({"trials": 3})
    assert folder.read_summary() == {"trials": 3}


def test_numbers_that_are_not_finite_are_null_in_a_summary(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_summary({"scores": {"3": [float("nan"), 1.0]}, "tau": float("inf")})
    assert "NaN" not in folder.summary.read_text()
    assert folder.read_summary() == {"scores": {"3": [None, 1.0]}, "tau": None}


def test_a_damaged_card_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.model("seed").mkdir(parents=True)
    (folder.model("seed") / "card.json").write_text("{}")
    with pytest.raises(InputError, match=r"seed/card\.json.*damaged"):
        folder.cards()
    shutil.rmtree(folder.models)
    assert folder.cards() == {}
    folder.model("resnet").mkdir(parents=True)
    (folder.model("resnet") / "card.json").write_text('{"model": "resnet50", "license": "mit"}')  # no run wrote it
    assert folder.cards() == {}
