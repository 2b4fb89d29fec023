"""Confirmation: lucky trials leave the front, and what is on it has the mean of its further trainings."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from tests.workflows import blockwise_runs

from qanas.core.errors import InputError
from qanas.core.measures import is_setting
from qanas.core.run_folder import RunFolder
from qanas.core.trials import TrialRecord
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.reporting.report import write_report
from qanas.shipping.confirmation import Confirmation, ConfirmationUnit
from qanas.workflows.run import run_search

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workflows.conftest import MakePlan

    from qanas.core.events import Watch
    from qanas.performance_estimation.bench import Bench
    from qanas.planning.plan import Plan


def trial(number: int, score: float) -> TrialRecord:
    """A candidate of so many bytes, with what one training of it scored."""
    config: dict[str, dict[str, Any]] = {"architecture": {"size": number}, "training": {}, "quantization": {}}
    metrics = {"worst_quantized": score, "worst_float": score}
    return TrialRecord(number, "measured", config, {"weight_bytes": float(number)}, metrics)


TRUE = {1: 9.0, 2: 8.0, 3: 7.5, 4: 7.0, 5: 7.0, 6: 6.0}
"""What candidates score on average, by their size."""


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The trainings that were done: each is a tenth off the average, to both sides in turn."""
    done: list[str] = []

    def run(self: ConfirmationUnit, bench: Bench, watch: Watch) -> dict[str, float]:
        del bench, watch
        done.append(self.name)
        size = int(self.candidate.architecture["size"])
        if size == 1:
            raise ArithmeticError("no such luck")
        score = TRUE[size] + (0.1 if self.repetition % 2 else -0.1)
        return {"worst_quantized": score, "worst_float": score}

    monkeypatch.setattr(ConfirmationUnit, "run", run)
    return done


def confirmed(plan: Plan, folder: RunFolder, records: list[TrialRecord]) -> Confirmation:
    return Confirmation(plan, folder, records, LiveDisplay(Console(file=io.StringIO())))


def test_the_lucky_ones_leave_and_the_rest_has_means(make_plan: MakePlan, tmp_path: Path, scored: list[str]) -> None:
    plan, folder = make_plan(finalists={"confirm": 2}), RunFolder(tmp_path / "run")
    # Of 4 and 5, which are alike, the larger was lucky; 1 fails whenever it is trained again; 2 was unlucky.
    records = [trial(size, score) for size, score in {1: 5.0, 2: 9.5, 3: 7.4, 4: 7.1, 5: 4.0, 6: 6.2}.items()]
    assert {record.index for record in confirmed(make_plan(), folder, records).front()} == {1, 5}
    once = confirmed(plan, folder, records)
    front = once.front()
    assert {record.index for record in front} == {2, 3, 4, 6}
    confirmed_of = {record.index: int(record.origin["confirmed"]) for record in front}
    assert min(confirmed_of.values()) >= 1
    # The search's score of 2 was far from what it is: that is doubted most.
    assert max(confirmed_of, key=lambda index: confirmed_of[index]) == 2
    for record in front:
        if record.origin["confirmed"] == 4:
            assert record.metrics["worst_quantized"] == pytest.approx(TRUE[record.index])
    assert once.summary() == {"budget": 12, "trainings": 12, "candidates": 6, "train_cpu_seconds": 0.0}
    assert len(scored) == once.trained == 12
    # What was done before is not done again but for what failed, and more of it is what it would have been at once.
    again = confirmed(plan, folder, records)
    assert again.front() == front
    assert (again.trained, len(scored)) == (1, 13)
    assert scored[-1].startswith(records[0].candidate.key)
    rest = confirmed(make_plan(finalists={"confirm": 10}), folder, records)
    fresh = confirmed(make_plan(finalists={"confirm": 10}), RunFolder(tmp_path / "fresh"), records)
    assert rest.front() == fresh.front()
    assert {record.origin["confirmed"] for record in rest.front()} == {4}
    assert rest.trained < fresh.trained == rest.spent < rest.budget


@pytest.mark.parametrize(("share", "measured", "trainings"), [(0.29, 100, 29), (0.3, 1, 0), (1.1, 10, 11), (2, 3, 6)])
def test_a_share_of_the_trials_is_exact(make_plan: MakePlan, share: float, measured: int, trainings: int) -> None:
    assert make_plan(finalists={"confirm": share}).finalists.confirmations(measured) == trainings


def test_what_is_undefined_or_of_the_search_alone_throws_nobody_off(
    make_plan: MakePlan, tmp_path: Path, scored: list[str]
) -> None:
    plan, folder = make_plan(finalists={"confirm": 2}), RunFolder(tmp_path / "run")
    more = {"worst_small_quantized": float("nan"), "predicted_after_3": 9.0, "predicted_stopped": 0.0}
    records = [replace(trial(size, TRUE[size]), metrics={**trial(size, TRUE[size]).metrics, **more}) for size in (3, 4)]
    front = confirmed(plan, folder, records).front()
    assert scored
    assert [record.index for record in front] == [4, 3]
    assert all(record.origin["confirmed"] and record.metrics["predicted_after_3"] == 9.0 for record in front)


def test_a_lucky_reference_is_trained_again_as_well(make_plan: MakePlan, tmp_path: Path, scored: list[str]) -> None:
    plan, folder = make_plan(finalists={"confirm": 2}), RunFolder(tmp_path / "run")
    records = [replace(trial(6, 1.0), is_seed=True), trial(5, 7.0), trial(3, 7.5)]
    assert {record.index for record in confirmed(make_plan(), folder, records).front()} == {3, 5, 6}
    front = confirmed(plan, folder, records).front()
    assert [record.metrics["worst_quantized"] > 5 for record in front] == [True, True, True]
    assert any(name.startswith(records[0].candidate.key) for name in scored)


def test_a_front_of_networks_with_inherited_weights_is_not_confirmed(make_plan: MakePlan, tmp_path: Path) -> None:
    growing = {"name": "growing"}
    task = {"name": "images", "data": "synthetic"}
    objectives = {"worst_quantized": None, "accuracy_quantized": "maximize"}
    strategy = {"name": "hill_climbing", "trials": 3}
    plan = make_plan(task=task, space=growing, strategy=strategy, finalists={"confirm": 1}, objectives=objectives)
    with pytest.raises(InputError, match=r"^finalists\.confirm: .* set strategy\.inherit = false$"):
        run_search(plan, RunFolder(tmp_path / "run"), LiveDisplay(Console(file=io.StringIO())))


def test_a_run_ships_what_was_confirmed(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan(finalists={"count": 1, "seeds": 1, "confirm": 0.5})
    folder = RunFolder(tmp_path / "run")
    display = LiveDisplay(Console(file=io.StringIO()))
    result = run_search(plan, folder, display)
    front = pl.read_csv(folder.front, infer_schema_length=None)
    trials = pl.read_parquet(folder.trials)
    assert folder.read_summary()["confirmation"]["trainings"] <= 2
    assert front["confirmed"].sum() in (1, 2)
    (row, *_) = front.filter(pl.col("confirmed").is_not_null()).to_dicts()
    (before,) = trials.filter(pl.col("key") == row["key"]).to_dicts()
    assert np.isfinite(row["worst_quantized"])
    assert row["worst_quantized"] != before["worst_quantized"]
    assert not is_setting("confirmed")
    assert "Front points are means of further trainings" in write_report(folder).read_text("utf-8")
    content = folder.front.read_bytes()
    run_search(plan, folder, display)
    assert folder.front.read_bytes() == content
    assert result.shipped


def test_the_summary_counts_the_front_that_the_table_has(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = make_plan(finalists={"count": 1, "seeds": 1, "confirm": 0.3}), RunFolder(tmp_path / "run")
    found = Confirmation.front
    monkeypatch.setattr(Confirmation, "front", lambda self: found(self)[:1])
    run_search(plan, folder, LiveDisplay(Console(file=io.StringIO())))
    assert folder.read_summary()["front"] == len(pl.read_csv(folder.front)) == 1


def test_a_front_by_scores_of_blocks_has_nothing_to_confirm(tmp_path: Path) -> None:
    path = blockwise_runs.recipe(tmp_path, finalists={"confirm": 0.3})
    with pytest.raises(
        InputError,
        match=r"finalists\.confirm: the front is by nsr_sum, for which no candidate is trained; leave it out$",
    ):
        load_plan(path)
