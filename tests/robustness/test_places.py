"""Where files lie, how they are encoded, and file systems that lack something."""

from __future__ import annotations

import errno
import fcntl
import importlib
import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from qanas.core.errors import InputError
from qanas.core.keys import Assignment
from qanas.core.run_folder import RunFolder
from qanas.execution.executors import InlineExecutor, Unit
from qanas.exporting.samples import Samples
from qanas.quantization.tracing import Arguments
from qanas.recipe import load_plan
from qanas.training.pretrained import load_weights
from qanas.workflows import trial_store
from qanas.workflows.run import _logged_to
from tests.robustness.small import recipe, run

INPUTS = 200
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_a_recipe_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    path.write_text(path.read_text("utf-8"), "utf-8-sig")
    assert load_plan(path).budget.trials == 3


def test_a_module_that_goes_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    load = "    def load(self):\n"
    path = recipe(tmp_path, ("\nclass MyTask", "import os; os.chdir('/')\n\nclass MyTask"),
                  (load, f"{load}        os.chdir('/')\n"))  # fmt: skip
    result, _ = run(path, Path("out"), strategy__trials=1)
    assert (tmp_path / "here" / "out" / "report.html").is_file()
    assert result.folder == Path("out")
    assert Path.cwd() == tmp_path / "here"


def test_a_file_beside_the_recipe_that_is_called_like_a_library(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    (tmp_path / "random.py").write_text("", "utf-8")
    with pytest.raises(InputError, match=r"estimation\.jobs: .*/random\.py has the name of .*: rename it, or take one"):
        load_plan(path, ["estimation.jobs=2"])
    assert load_plan(path).jobs == 1
    with pytest.raises(InputError, match=r"task\.name: 'random:MyTask' can't be imported: .*/random\.py has .*; ren"):
        load_plan(path, ["task.name='random:MyTask'"])


def test_recipes_whose_modules_have_one_name(tmp_path: Path) -> None:
    paths = [recipe(tmp_path / name) for name in ("a", "b")]
    for place, path in enumerate(paths):
        (module,) = path.parent.glob("mine_*.py")
        module.rename(path.parent / "mine.py")
        path.write_text(path.read_text("utf-8").replace(module.stem, "mine"), "utf-8")
        with (path.parent / "mine.py").open("a") as code:
            code.write(f"\nMyTask.place = {place}\n")
    first, second = map(load_plan, paths)
    assert [getattr(type(plan.bench.task), "place", None) for plan in (first, second)] == [0, 1]
    result, _ = run(paths[0], tmp_path / "out", strategy__trials=1)
    assert len(result.models) == 1


@pytest.mark.parametrize("text", ["a.b=" + "[" * 5000, ".".join("a" * 5000) + "=1", "a.b=" + "{x=" * 3000])
def test_overrides_nested_without_end(tmp_path: Path, text: str) -> None:
    Assignment.parse(text)
    with pytest.raises(InputError):
        load_plan(recipe(tmp_path), [text])


def test_a_recipe_nested_without_end(tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text("a = " + "[" * 20000, "utf-8")
    with pytest.raises(InputError, match="not TOML"):
        load_plan(path)


def test_output_where_a_terminal_has_no_unicode(tmp_path: Path) -> None:
    """The command's own words and a user's come out whatever the encoding is."""
    path = recipe(tmp_path / "stra\udcdfe")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    code = "from qanas.cli import main; main()"
    command: list[str | bytes] = [sys.executable, "-c", code, "check", os.fsencode(path)]
    done = subprocess.run(command, capture_output=True, env=environment, check=False, timeout=300)
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert b"is valid" in done.stdout


def lacking(*_: object) -> None:
    raise OSError(errno.ENOSYS, "Function not implemented")


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lacking)
    monkeypatch.setattr(fcntl, "lockf", lacking)
    trial_store._can_lock.cache_clear()
    try:
        path = recipe(tmp_path)
        result, _ = run(path, tmp_path / "out")
        assert len(result.trials) == 3
        folder = RunFolder(tmp_path / "out")
        with folder.locked(), pytest.raises(InputError, match="another qanas run"), RunFolder(folder.path).locked():
            pass
        (folder.path / "lock.pid").write_text("rubbish", "utf-8")
        with folder.locked():
            pass
    finally:
        trial_store._can_lock.cache_clear()


class Exits(Unit[None, int]):
    def run(self, bench: None, watch: object) -> int:
        del bench, watch
        raise SystemExit(3)


def test_a_unit_that_exits_is_a_failure() -> None:
    with InlineExecutor[None, int](None, lambda *_: True) as executor:
        executor.submit(Exits())
        _, result = executor.next_finished()
    assert "SystemExit: 3" in result.reason  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["calibration", "weights"])
def test_files_of_any_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A short form of the fuzz: taken, or refused in a line that names the file."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    fuzz = importlib.import_module("fuzz")
    row = fuzz.Row(kind)
    _, inputs = fuzz.KINDS[kind]
    inputs.run(row, INPUTS, tmp_path)
    assert not row.bad, row.notes
    assert row.taken
    assert row.distinct > INPUTS / 10


def test_a_calibration_file_with_a_member_that_is_no_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(InputError, match=r"its member 'notes.txt' is no array"):
        Samples.read(tmp_path / "x.npz")


def test_calibration_samples_beyond_float32(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.linspace(0, 1e300, 12).reshape(4, 3))
    with pytest.raises(InputError, match="infinite in float32"):
        Samples.read(tmp_path / "x.npz").of(Arguments.of(nn.Linear(3, 2)))


@pytest.mark.parametrize(
    "state",
    [
        {0: torch.zeros(2, 3), "bias": torch.zeros(2)},
        {"weight": torch.zeros(2, 3, dtype=torch.complex64), "bias": torch.zeros(2)},
        {"weight": torch.zeros(2, 3, dtype=torch.int8), "bias": torch.zeros(2)},
        {"weight": torch.zeros(2, 3).to_sparse(), "bias": torch.zeros(2)},
        {"weight": torch.zeros(2, 3, device="meta"), "bias": torch.zeros(2)},
        {("a", 1): torch.zeros(2, 3)},
    ],
)
def test_odd_state_dicts_are_refused(tmp_path: Path, state: dict[object, torch.Tensor]) -> None:
    path = tmp_path / "x.pt"
    torch.save(state, path)
    with pytest.raises(InputError, match=r"x\.pt"):
        load_weights(nn.Linear(3, 2), path)


def test_a_log_that_cannot_be_written_is_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path)
    folder.log.symlink_to("/dev/full")
    with _logged_to(folder, ["nothing of this has room"]):
        logging.getLogger("qanas").info("nor of this")
    assert capsys.readouterr().err == ""


def test_a_latency_that_cannot_be_had_is_told_at_once_and_kept_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text(
        'version = 2\nname = "b"\ndescription = "d"\n[latency]\nmethod = "table"\npath = "no.json"\n', "utf-8"
    )
    path = recipe(tmp_path, device={"name": "b.toml"})
    result, lines = run(path, tmp_path / "out", strategy__trials=1)
    told = [line for line in lines if line.startswith("latency: b: device.latency.path: ")]
    assert len(told) >= 1
    assert "no.json: No such file" in told[0]
    assert told[0] in (result.folder / "log.txt").read_text("utf-8")
    assert len(result.models) == 1
    with pytest.raises(InputError, match=r"device\.also: unknown device 'stm32l4r6': did you mean 'stm32l4r5'"):
        load_plan(path, ["device.also=['stm32l4r6']"])
