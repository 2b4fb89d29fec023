"""The installed command in a folder of its own, with small data and recipes that take a second."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

COMMAND = Path(sys.executable).with_name("qanas")
HERE = Path(__file__).parent
TRAIN_CYCLES = (24, 31, 19, 27, 22, 29)
TEST_CYCLES = (12, 20, 4, 25)
TEST_RUL = (15, 3, 28, 9)
WEARING = 6

Tables = dict[str, dict[str, Any]]
Tree = dict[str, tuple[int, bytes]]


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on stderr."""
        assert self.err.endswith("\n"), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.rstrip("\n")


class Prewarmed:
    """The process that runs the command in forks of itself."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.process = subprocess.Popen(
            [sys.executable, HERE / "prewarmed.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, request: Mapping[str, Any]) -> Outcome:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        streams = {name: self.scratch / name for name in ("stdout", "stderr")}
        whole = {"command": str(COMMAND), **request, **{name: str(path) for name, path in streams.items()}}
        self.process.stdin.write(json.dumps(whole) + "\n")
        self.process.stdin.flush()
        code = json.loads(self.process.stdout.readline())
        out, err = (path.read_text("utf-8") for path in streams.values())
        return Outcome(code, out, err)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def tree(folder: Path) -> Tree:
    """Everything in a folder: time of the last change and contents, by relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (path.stat().st_mtime_ns, content)
    return found


@dataclass(frozen=True)
class Workplace:
    """A folder with data, in which the command runs."""

    folder: Path
    prewarmed: Prewarmed
    tables: Tables
    environment: dict[str, str] = field(default_factory=dict)

    def elsewhere(self, folder: Path) -> Workplace:
        """The same with data of its own in another folder."""
        write_engines(folder / "data")
        return Workplace(folder, self.prewarmed, self.tables, self.environment)

    def with_tables(self, tables: Tables) -> Workplace:
        """The same with another recipe."""
        return replace(self, tables=tables)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def python(self) -> str:
        """The interpreter that the command runs in."""
        return sys.executable

    @property
    def calls(self) -> Path:
        """One line a counted call, over all commands of this workplace."""
        return self.prewarmed.scratch / f"calls-{self.folder.name}"

    def recipe(self, changes: Mapping[str, Mapping[str, Any]] | None = None, name: str = "tiny.toml") -> Path:
        """Write a recipe; a changed key of None is left out."""
        tables = {section: dict(table) for section, table in self.tables.items()}
        for section, table in (changes or {}).items():
            merged = tables.get(section, {}) | dict(table)
            tables[section] = {key: value for key, value in merged.items() if value is not None}
        path = self.folder / name
        path.write_text(tomli_w.dumps({section: table for section, table in tables.items() if table}), "utf-8")
        return path

    def qanas(self, *args: str | Path, kill: tuple[str, int] | None = None, count: str = "") -> Outcome:
        """Run the command to its end."""
        request = {
            "args": [str(arg) for arg in args],
            "cwd": str(self.folder),
            "env": self.environment,
            "kill": kill,
            "count": count,
            "calls": str(self.calls),
        }
        return self.prewarmed.run(request)

    def start(self, *args: str | Path) -> subprocess.Popen[str]:
        """Start the command as a shell would, in a process group of its own, Ctrl-C not ignored."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background inherit "ignored"
        try:
            return subprocess.Popen(
                [str(COMMAND), *map(str, args)],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)

    def refusal(self, *args: str | Path) -> str:
        """Run the command on bad input; return its one line, having checked that no file was touched."""
        before = tree(self.folder)
        outcome = self.qanas(*args)
        assert "Traceback" not in outcome.err + outcome.out
        assert outcome.code == 2, outcome
        assert tree(self.folder) == before
        return outcome.line


def _row(generator: random.Random, engine: int, cycle: int, life: int) -> str:
    wear = (cycle / life) ** 2
    sensors = [100.0 * sensor for sensor in range(1, 22)]
    for sensor in range(WEARING):
        sensors[sensor] += 5.0 * (sensor + 1) * wear + generator.gauss(0.0, 0.4)
    numbers = [*(f"{value:.4f}" for value in (0.0, 0.0, 100.0)), *(f"{value:.2f}" for value in sensors)]
    return " ".join([str(engine), str(cycle), *numbers]) + "  \n"


def write_engines(folder: Path, seed: int = 1) -> None:
    """Write a small FD001: six sensors tell of the wear, fifteen are constant."""
    generator = random.Random(seed)  # noqa: S311 - test data
    folder.mkdir(parents=True)
    lives = {
        "train": [(cycles, cycles) for cycles in TRAIN_CYCLES],
        "test": [(cycles, cycles + rul) for cycles, rul in zip(TEST_CYCLES, TEST_RUL, strict=True)],
    }
    for part, engines in lives.items():
        rows = [
            _row(generator, engine, cycle, life)
            for engine, (cycles, life) in enumerate(engines, start=1)
            for cycle in range(1, cycles + 1)
        ]
        (folder / f"{part}_FD001.txt").write_text("".join(rows), "ascii")
    (folder / "RUL_FD001.txt").write_text("".join(f"{rul} \n" for rul in TEST_RUL), "ascii")


def tiny_tables() -> Tables:
    """A recipe whose whole run takes about a second."""
    return {
        "task": {"name": "turbofan", "data": "data", "subset": "FD001", "window": 5, "rul_cap": 20.0, "stride": 2},
        "space": {"name": "lstm", "max_layers": 2, "max_units": 3, "seed_layers": 1, "seed_units": 3},
        "strategy": {"name": "tpe", "trials": 5, "startup_trials": 2},
        "estimation": {"name": "training", "epochs": 2, "jobs": 1},
        "objectives": {"mae_quantized": "minimize", "weight_bytes": "minimize"},
        "finalists": {"count": 2, "seeds": 2},
        "baselines": {"enabled": False},
        "run": {"seed": 3},
    }


@pytest.fixture(scope="session")
def prewarmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prewarmed]:
    warm = Prewarmed(tmp_path_factory.mktemp("prewarmed"))
    yield warm
    warm.close()


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The variables that the command needs, and no others."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "NUMBA_CACHE_DIR", "PYTHONPATH")
    return {name: os.environ[name] for name in kept if name in os.environ}


@pytest.fixture
def workplace(tmp_path: Path, prewarmed: Prewarmed, environment: dict[str, str]) -> Workplace:
    """An empty folder but for the data."""
    write_engines(tmp_path / "data")
    return Workplace(tmp_path, prewarmed, tiny_tables(), environment)


@pytest.fixture(scope="session")
def finished_once(
    tmp_path_factory: pytest.TempPathFactory, prewarmed: Prewarmed, environment: dict[str, str]
) -> Workplace:
    """A workplace with a finished run in runs/tiny; only to be read."""
    folder = tmp_path_factory.mktemp("finished")
    write_engines(folder / "data")
    place = Workplace(folder, prewarmed, tiny_tables(), environment)
    outcome = place.qanas("run", place.recipe())
    assert outcome.code == 0, outcome.err
    return place


@pytest.fixture
def finished(tmp_path: Path, finished_once: Workplace) -> Workplace:
    """A copy of the workplace with a finished run in runs/tiny, to be changed at will."""
    shutil.copytree(finished_once.folder, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "runs").rglob("*"):
        if path.suffix in {".toml", ".json", ".html"}:
            text = path.read_text("utf-8").replace(str(finished_once.folder), str(tmp_path))
            path.write_text(text, "utf-8")
    return Workplace(tmp_path, finished_once.prewarmed, finished_once.tables, finished_once.environment)
