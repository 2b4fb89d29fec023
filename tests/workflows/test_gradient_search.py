"""A search by gradient from a recipe to shipped networks: killed in every stage it ends with the same front."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
import tomli_w

from qanas.core.events import Watch
from qanas.core.run_folder import RunFolder
from qanas.performance_estimation import gated_networks, weight_sharing
from qanas.performance_estimation.base import StageUnit
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.gated_networks import GatesUnit, OptionCostsUnit, ScoreUnit
from qanas.performance_estimation.procedure import FullTraining
from qanas.performance_estimation.weight_sharing import SupernetUnit, WeightSharing
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.workflows.check import forecast
from qanas.workflows.run import run_search
from qanas.workflows.search import Search

if TYPE_CHECKING:
    from pathlib import Path

    from qanas.planning.plan import Plan

LIMIT = 1200.0


def plan_of(folder: Path, **strategy: object) -> Plan:
    tables = {
        "task": {"name": "qanas.testing.small:SmallTask"},
        "space": {"name": "qanas.testing.small:SmallSpace", "weight_bits": [4, 8]},
        "strategy": {
            "name": "gradient", "alphas": [0.0, 2.0], "steps": 6, "batch_size": 8, "gate_learning_rate": 0.2, **strategy
        },
        "supernet": {"steps": 10, "batch_size": 8, "statistics_samples": 16},
        "estimation": {"epochs": 1, "calibration_samples": 8},
        "objectives": {"accuracy_quantized": "maximize", "packed_weight_bytes": "minimize"},
        "limits": {"packed_weight_bytes": LIMIT},
        "finalists": {"count": 1, "seeds": 1},
        "baselines": {"enabled": False},
    }  # fmt: skip
    path = folder / "recipe.toml"
    path.write_text(tomli_w.dumps(tables), "utf-8")
    return load_plan(path)


def searched(plan: Plan, folder: Path) -> list[dict[str, Any]]:
    with LiveDisplay() as display:
        search = Search(plan, RunFolder(folder), display)
        search.run()
    return [record.front_row() for record in search.front()]


Run = Callable[[Any, Bench, Watch], dict[str, Any]]


def killed_at(label: str, run: Run) -> Run:
    """Return a unit's run that is killed where the unit is called so."""

    def killed(unit: StageUnit, bench: Bench, watch: Watch) -> dict[str, Any]:
        if label in unit.label:
            raise KeyboardInterrupt
        return run(unit, bench, watch)

    return killed


def noting(ran: list[str], run: Run) -> Run:
    """Return a unit's run that notes what the unit is called."""

    def noted(unit: StageUnit, bench: Bench, watch: Watch) -> dict[str, Any]:
        ran.append(unit.label)
        return run(unit, bench, watch)

    return noted


def test_what_ships_costs_what_was_taken(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    plan.check()
    with LiveDisplay() as display:
        result = run_search(plan, RunFolder(tmp_path / "run"), display)
    front = pl.read_csv(result.folder.front)
    told = json.loads((tmp_path / "run" / "summary.json").read_text("utf-8"))["gates"]
    assert [row["alpha"] for row in told] == [0.0, 2.0]
    for row in told:
        assert row["discretised"] == row["added_up"]
        assert row["discretised"]["packed_weight_bytes"] <= LIMIT
    shipped = [path for path in (tmp_path / "run" / "models").iterdir() if path.name != "seed"]
    assert shipped
    for path in shipped:
        card = json.loads((path / "card.json").read_text("utf-8"))
        row = front.filter(pl.col("key") == path.name).to_dicts()[0]
        assert card["packed_weight_bytes"] == row["packed_weight_bytes"]
        assert card["macs"] == row["macs"]
        assert row["expected_packed_weight_bytes"] > 0


def test_killed_in_every_stage_it_ends_with_the_same_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path)
    whole = searched(plan, tmp_path / "whole")
    for unit, label in ((SupernetUnit, ""), (OptionCostsUnit, ""), (GatesUnit, "alpha 2"), (ScoreUnit, "")):
        with monkeypatch.context() as patched:
            patched.setattr(unit, "run", killed_at(label, unit.run))
            with pytest.raises(KeyboardInterrupt):
                searched(plan, tmp_path / "killed")
    assert searched(plan, tmp_path / "killed") == whole

    # A further alpha is trained, the others stay.
    ran: list[str] = []
    monkeypatch.setattr(GatesUnit, "run", noting(ran, GatesUnit.run))
    searched(plan_of(tmp_path, alphas=[0.0, 0.5, 2.0]), tmp_path / "killed")
    assert ran == ["alpha 0.5"]


def test_a_check_counts_what_gates_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock on which a step, a network's costs and a score take a second each, and finalists nothing."""

    def second(step: Callable[[], object], calls: int = 1) -> float:
        del calls
        step()
        return 1.0

    for module in (gated_networks, weight_sharing):
        monkeypatch.setattr(module, "seconds_of", second)
    monkeypatch.setattr(FullTraining, "_epoch_seconds", lambda *_: 0.0)
    monkeypatch.setattr(WeightSharing, "forecast_estimate", lambda *_: 1.0)
    supernet, gates, scores = 10, 2 * 6, 2
    costs = 1 + 2 + 3 * 2  # first options; other bits of two blocks; another option of three layers with either bits
    assert forecast(plan_of(tmp_path)).hours == pytest.approx((supernet + gates + scores + costs) / 3600)
