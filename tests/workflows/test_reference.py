"""The tuned reference: how long it trains is chosen on validation data, once, and holds for what is made of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from qanas.core.card import Card
from qanas.core.run_folder import RunFolder
from qanas.performance_estimation.procedure import FullTraining
from qanas.reporting.headline import sentences
from qanas.reporting.live import LiveDisplay
from qanas.reporting.run_data import read_run
from qanas.shipping.reference import TuningUnit, epochs_tried, tuned_reference
from qanas.workflows.run import run_search

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workflows.conftest import MakePlan

    from qanas.core.events import Watch
    from qanas.performance_estimation.bench import Bench
    from qanas.performance_estimation.procedure import Procedure

SHORT = {"estimation": {"epochs": 8}, "strategy": {"trials": 1}, "finalists": {"count": 1, "seeds": 1}}


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The trainings that were done, each of which scores its distance from four epochs."""
    done: list[str] = []

    def run(self: TuningUnit, bench: Bench, watch: Watch) -> tuple[float, float]:
        del bench, watch
        done.append(self.name)
        return abs(self.procedure.epochs - 4) + 0.1 * self.repetition, 1.5

    monkeypatch.setattr(TuningUnit, "run", run)
    return done


def epochs_of(procedure: Procedure) -> int:
    assert isinstance(procedure, FullTraining)
    return procedure.epochs


def test_the_best_length_ships_and_stays(make_plan: MakePlan, tmp_path: Path, scored: list[str]) -> None:
    plan = make_plan(**SHORT)
    assert plan.recipe["reference"] == {"tune": 2}
    folder = RunFolder(tmp_path / "run")
    with LiveDisplay() as display:
        result = run_search(plan, folder, display)
        assert scored == ["8 epochs, training 2", "4 epochs, training 1", "4 epochs, training 2"]
        more = make_plan(**SHORT, reference={"tune": 3})
        run_search(more, folder, display)
    assert scored[3:] == ["8 epochs, training 3", "4 epochs, training 3"]
    reference = result.shipments[0].finalist
    assert epochs_of(reference.procedure) == 4
    assert reference.variant
    card = Card.model_validate_json((folder.model("seed") / "card.json").read_bytes())
    assert card.protocol["epochs"] == 4
    told = folder.read_summary()["reference_tuning"]
    in_search = told["scores"]["8"][0]  # the reference's own trial is the first
    assert told == {
        "epochs": 4, "metric": "worst", "cpu_seconds": 7.5, "scores": {"8": [in_search, 4.1, 4.2], "4": [0.0, 0.1, 0.2]}
    }  # fmt: skip
    (sentence,) = [sentence for sentence in sentences(read_run(folder)) if sentence.startswith("The reference trains")]
    assert sentence.startswith(
        "The reference trains 4 epochs, the best of 8 and 4 on validation (worst, mean of 3 train"
    )
    assert sentence.endswith(", 4: 0.100).")


def test_killed_it_goes_on_and_a_damaged_file_is_nothing(
    make_plan: MakePlan, tmp_path: Path, scored: list[str]
) -> None:
    plan, folder = make_plan(**SHORT), RunFolder(tmp_path / "run")
    display = LiveDisplay()
    first = tuned_reference(plan, folder, display)
    (kept,) = folder.trainings.glob("*tuning*.json")
    content = json.loads(kept.read_text("utf-8"))
    del content["4 epochs, training 2"]
    kept.write_text(json.dumps(content), "utf-8")
    assert tuned_reference(plan, folder, display).scores == first.scores
    assert scored[4:] == ["4 epochs, training 2"]
    kept.write_text("{", "utf-8")
    assert tuned_reference(plan, folder, display).scores == first.scores
    assert len(scored) == 9


def test_scores_of_another_metric_are_not_taken_for_its_own(
    make_plan: MakePlan, tmp_path: Path, scored: list[str]
) -> None:
    folder, display = RunFolder(tmp_path / "run"), LiveDisplay()
    tuned_reference(make_plan(**SHORT), folder, display)
    (kept,) = folder.trainings.glob("*tuning*.json")
    content = json.loads(kept.read_text("utf-8"))
    assert content["metric"] == "worst_quantized"
    kept.write_text(json.dumps({**content, "metric": "other_quantized"}), "utf-8")
    tuned_reference(make_plan(**SHORT), folder, display)
    assert len(scored) == 8
    of_an_early_run = {name: scores for name, scores in content.items() if name != "metric"}
    kept.write_text(json.dumps(of_an_early_run), "utf-8")
    tuned_reference(make_plan(**SHORT), folder, display)
    assert len(scored) == 8


def test_it_is_really_trained(make_plan: MakePlan, tmp_path: Path) -> None:
    found = tuned_reference(make_plan(**SHORT, reference={"tune": 1}), RunFolder(tmp_path / "run"), LiveDisplay())
    assert list(found.scores) == [8, 4]
    assert all(score > 0 for scores in found.scores.values() for score in scores)


def test_nothing_is_chosen_where_there_is_no_choice(make_plan: MakePlan, tmp_path: Path, scored: list[str]) -> None:
    folder = RunFolder(tmp_path / "run")
    assert epochs_tried(5) == [5]
    for plan in (make_plan(**SHORT, reference={"tune": 0}), make_plan()):
        assert tuned_reference(plan, folder, LiveDisplay()).procedure == plan.finalists.procedure
    assert not scored
