"""A pilot whose trainings are planted: what it says of cheaper ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.workflows.conftest import MakePlan

from qanas.workflows.advise import PilotUnit, run_pilot

EPOCHS, TRIALS = 30, 40
LEARNED = 'learning_curve, method = "learned", looked at after {} of 30 epochs'
EARLY = "early_stopping, looked at after {} of 30 epochs"


def crossing(unit: PilotUnit, *_: object) -> dict[str, Any]:
    """Return a training that ends at the learning rate, and whose curve begins with the reverse."""
    rate = float(unit.candidate.training["learning_rate"])
    curve = [1.0 - rate] * (EPOCHS - 1) + [rate]
    return {"loss": curve[-1], "curve": curve, "seconds": 1.0}


@pytest.fixture
def figures(make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(PilotUnit, "run", crossing)
    space = {"name": "sine:ConvOrLSTM", "search": ["architecture", "training"]}
    plan = make_plan(space=space, strategy={"trials": TRIALS}, estimation={"epochs": EPOCHS})
    found: dict[str, Any] = run_pilot(plan, tmp_path / "pilot", 16, lambda _: None).figures["tau"]
    return found


def test_what_is_learnt_from_settings_and_early_losses_ranks_where_curves_cross(figures: dict[str, Any]) -> None:
    assert figures[EARLY.format(3)]["tau"] == pytest.approx(-1)
    assert figures[LEARNED.format(3)]["tau"] > 0.7


def test_it_costs_the_trainings_that_it_learns_from_too(figures: dict[str, Any]) -> None:
    for epochs in (3, 10):
        assert figures[EARLY.format(epochs)]["cost_share"] == pytest.approx(epochs / EPOCHS)
        learned = figures[LEARNED.format(epochs)]["cost_share"]
        assert learned == pytest.approx((10 + (TRIALS - 10) * epochs / EPOCHS) / TRIALS)


def test_few_candidates_teach_nothing(make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PilotUnit, "run", crossing)
    advice = run_pilot(make_plan(estimation={"epochs": EPOCHS}), tmp_path / "pilot", 6, lambda _: None)
    assert not [name for name in advice.figures["tau"] if "learned" in name]


def test_trainings_of_another_recipe_or_other_data_are_not_taken(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def counted(unit: PilotUnit, *_: object) -> dict[str, Any]:
        done.append(unit.name)
        return crossing(unit)

    monkeypatch.setattr(PilotUnit, "run", counted)
    plan = make_plan(estimation={"epochs": EPOCHS})
    other_data = replace(plan, recipe={**plan.recipe, "data_fingerprint": "other"})
    other_candidates = make_plan(estimation={"epochs": EPOCHS}, strategy={"name": "gp"})
    for changed in (plan, other_data, other_candidates):
        before = len(done)
        run_pilot(changed, tmp_path / "pilot", 6, lambda _: None)
        assert len(done) > before
        made = len(done)
        run_pilot(changed, tmp_path / "pilot", 6, lambda _: None)
        assert len(done) == made


def test_what_was_damaged_or_ended_unexpectedly_is_trained_again(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    broken = {"full_001"}

    def counted(unit: PilotUnit, *_: object) -> dict[str, Any]:
        done.append(unit.name)
        if unit.name[:8] in broken:
            raise MemoryError
        return crossing(unit) | ({"loss": float("nan")} if unit.name.startswith("again_002") else {})

    monkeypatch.setattr(PilotUnit, "run", counted)
    plan = make_plan(estimation={"epochs": EPOCHS})
    first = run_pilot(plan, tmp_path / "pilot", 6, lambda _: None)
    assert first.figures["noise"] == 0  # an undefined score tells nothing of noise
    broken.clear()
    damaged = next((tmp_path / "pilot").glob("*/full_003*.json"))
    damaged.write_text(damaged.read_text()[:-9], "utf-8")
    made = len(done)
    run_pilot(plan, tmp_path / "pilot", 6, lambda _: None)
    assert [name[:8] for name in done[made:]] == ["full_001", "full_003"]
