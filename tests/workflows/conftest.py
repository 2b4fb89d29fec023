"""Runs inside the test's process, of a task that takes milliseconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tests.cli.unsynced  # noqa: F401 - for its effect
import tomli_w
from tests.workflows import blockwise_runs

from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.workflows.run import RunResult

SINE = Path(__file__).parents[1] / "cli" / "sine.py"

MakePlan = Callable[..., Plan]


@pytest.fixture
def make_plan(tmp_path: Path) -> MakePlan:
    """Return a function that reads a recipe with some changed tables and checks it; None leaves a key out."""

    def make(**changes: dict[str, Any]) -> Plan:
        tables: dict[str, dict[str, Any]] = {
            "task": {"name": "sine:Sine"},
            "space": {"name": "sine:ConvOrLSTM"},
            "strategy": {"name": "random", "trials": 4},
            "estimation": {"epochs": 1},
            "objectives": {"worst_quantized": "minimize", "weight_bytes": "minimize"},
            "finalists": {"count": 2, "seeds": 3},
            "baselines": {"enabled": False},
        }
        for section, table in changes.items():
            merged = tables.get(section, {}) | table
            tables[section] = {key: value for key, value in merged.items() if value is not None}
        shutil.copy(SINE, tmp_path)
        path = tmp_path / "sine.toml"
        path.write_text(tomli_w.dumps(tables), "utf-8")
        plan = load_plan(path)
        plan.check()
        return plan

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """The recipe of a finished block-wise run, and the run; not to be changed."""
    folder = tmp_path_factory.mktemp("blockwise")
    objectives = {"weight_bytes": None, "packed_weight_bytes": "minimize"}
    path = blockwise_runs.recipe(folder, table={"bits": [4, 8]}, objectives=objectives)
    return path, blockwise_runs.run(path, folder / "run")
