"""Trainings in batches: who is put together, what becomes of each, and that a run is the same run."""

from __future__ import annotations

import io
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from qanas.core.errors import TrainingFailed
from qanas.core.run_folder import RunFolder
from qanas.performance_estimation.full_training import FullTraining
from qanas.reporting.live import LiveDisplay
from qanas.training.batched import fit_many as fit_many_module
from qanas.workflows.plan import SampledPlan
from qanas.workflows.run import run_search
from qanas.workflows.sampled_search import SampledSearch
from qanas.workflows.training_units import BatchExecutor, TrainingBatch, TrainingUnit
from qanas.workflows.trial_store import TrialStore
from qanas.workflows.units import Failure, Unit
from qanas.workflows.workers import Executor

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workflows.conftest import MakeSetup
    from torch import nn

    from qanas.core.candidate import Candidate
    from qanas.performance_estimation.base import TrainedNetwork
    from qanas.performance_estimation.problem import Problem
    from qanas.quantization.quantized_graph import QuantizedGraph
    from qanas.workflows.plan import Setup
    from qanas.workflows.trial_store import TrialRecord


@dataclass(frozen=True)
class NumberUnit(TrainingUnit[int]):
    number: int

    def training_seed(self, setup: Setup) -> int:
        raise NotImplementedError

    def finish(self, setup: Setup, trained: TrainedNetwork) -> int:
        raise NotImplementedError


class Tens(Executor[Any]):
    """Makes of every number ten times it, and of a batch with a 9 in it a failure."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.waiting: deque[TrainingBatch[int]] = deque()
        self.batches: list[list[int]] = []

    @property
    def room(self) -> int:
        return self.workers - len(self.waiting)

    def submit(self, unit: Unit[Any]) -> None:
        assert isinstance(unit, TrainingBatch)
        assert self.room > 0
        self.waiting.append(unit)

    def next_finished(self) -> tuple[Unit[Any], list[int | Failure] | Failure]:
        batch = self.waiting.popleft()
        numbers = [unit.number for unit in batch.units if isinstance(unit, NumberUnit)]
        self.batches.append(numbers)
        return batch, Failure("nine") if 9 in numbers else [10 * number for number in numbers]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_unit_of_every_batch_comes_back_with_its_own_result(workers: int) -> None:
    inner = Tens(workers)
    found = list(BatchExecutor[int](inner, 3).work_off([NumberUnit(n) for n in range(11)]))
    assert inner.batches == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]]
    numbers = {unit.number: result for unit, result in found if isinstance(unit, NumberUnit)}
    assert numbers == {n: 10 * n for n in range(9)} | {9: Failure("nine"), 10: Failure("nine")}


def test_a_new_batch_is_gathered_once_all_of_the_last_one_are_told() -> None:
    executor = BatchExecutor[int](Tens(1), 3)
    assert executor.room == 3
    executor.submit(NumberUnit(0))
    assert executor.room == 2
    executor.submit(NumberUnit(1))
    executor.submit(NumberUnit(2))
    assert executor.room == 0
    rooms = []
    for _ in range(3):
        executor.next_finished()
        rooms.append(executor.room)
    assert rooms == [0, 0, 3]


def search(setup: Setup, path: Path, watcher: LiveDisplay | None = None) -> dict[int, TrialRecord]:
    """Search, or go on with it, and return the trials."""
    path.mkdir(exist_ok=True)
    store = TrialStore(RunFolder(path).study, setup.plan.objectives, setup.plan.limits)
    watcher = watcher or LiveDisplay(Console(file=io.StringIO()))
    sampled = setup.plan.search
    assert isinstance(sampled, SampledPlan)
    return {record.index: record for record in SampledSearch(setup, sampled, store, watcher).run()}


def in_batches(setup: Setup, size: int) -> Setup:
    estimator = setup.plan.estimator
    assert isinstance(estimator, FullTraining)
    return replace(setup, plan=replace(setup.plan, estimator=replace(estimator, batch=size)))


LSTMS: dict[str, dict[str, Any]] = {
    "space": {"name": "lstm", "max_layers": 2, "seed_layers": 2, "seed_units": 4, "max_units": 6},
    "strategy": {"name": "random", "trials": 6},
    "estimation": {"epochs": 2},
    "finalists": {"count": 1, "seeds": 2},
}


@pytest.fixture
def batched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the groups that were trained as one."""
    sizes: list[int] = []
    fit_group = fit_many_module._fit_group

    def counted(requests: Any, *others: Any) -> Any:  # noqa: ANN401
        sizes.append(len(requests))
        return fit_group(requests, *others)

    monkeypatch.setattr(fit_many_module, "_fit_group", counted)
    return sizes


def test_a_search_in_batches_is_the_search_without(make_setup: MakeSetup, tmp_path: Path, batched: list[int]) -> None:
    setup = make_setup(**LSTMS)
    expected = search(setup, tmp_path / "alone")
    assert batched == []
    found = search(in_batches(setup, 4), tmp_path / "together")
    assert sum(batched) == 6
    assert max(batched) > 1
    assert expected.keys() == found.keys() == set(range(6))
    for index, record in expected.items():
        assert found[index].config == record.config
        assert found[index].metrics["r2_float"] == pytest.approx(record.metrics["r2_float"], abs=1e-3)
        assert found[index].train_seconds > 0.0


def test_networks_that_no_batch_takes_are_trained_as_ever(make_setup: MakeSetup, tmp_path: Path) -> None:
    setup = make_setup()
    expected, found = search(setup, tmp_path / "alone"), search(in_batches(setup, 3), tmp_path / "together")
    unbatched = [index for index, record in expected.items() if record.config["architecture"]["kind"] == "conv"]
    assert unbatched
    for index in unbatched:
        assert found[index].metrics == expected[index].metrics


def test_finalists_are_trained_in_batches(make_setup: MakeSetup, tmp_path: Path, batched: list[int]) -> None:
    changes = {**LSTMS, "strategy": {"name": "random", "trials": 2}, "estimation": {"epochs": 1, "batch": 4}}
    result = run_search(make_setup(**changes), RunFolder(tmp_path), LiveDisplay(Console(file=io.StringIO())))
    assert result.shipped == 2
    assert sum(batched[-2:]) >= 4
    assert batched[-1] > 1


def test_a_defect_in_one_trial_costs_no_other(
    make_setup: MakeSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    setup = in_batches(make_setup(**LSTMS), 4)
    quantize, broken = FullTraining.quantize, setup.space.reference

    def defective(
        self: FullTraining, problem: Problem, candidate: Candidate, network: nn.Module, seed: int
    ) -> QuantizedGraph:
        if candidate == broken:
            raise ZeroDivisionError("of a test")
        if candidate.architecture["layers"] == 1:
            raise TrainingFailed("one layer")
        return quantize(self, problem, candidate, network, seed)

    monkeypatch.setattr(FullTraining, "quantize", defective)
    reasons = {index: record.reason for index, record in search(setup, tmp_path).items()}
    assert reasons[0] == "ZeroDivisionError: of a test"
    assert {reasons[index] for index in range(1, 6)} == {"", "one layer"}
    assert "in defective" in caplog.text, "the traceback"


class Interrupting(LiveDisplay):
    """Stops the search in the first epoch of its trial 5."""

    def epoch(self, index: int, epoch: int, epochs: int, loss: float) -> None:
        super().epoch(index, epoch, epochs, loss)
        if index == 5:
            raise KeyboardInterrupt


def test_stopped_in_a_batch_a_search_goes_on_as_if_it_had_not_been(make_setup: MakeSetup, tmp_path: Path) -> None:
    changes = {"strategy": {"name": "tpe", "startup_trials": 2, "trials": 6}, "estimation": {"epochs": 1}}
    setup = in_batches(make_setup(**{**LSTMS, **changes}), 3)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    expected = search(setup, whole)
    with pytest.raises(KeyboardInterrupt):
        search(setup, stopped, Interrupting(Console(file=io.StringIO())))
    found = search(setup, stopped)
    assert found.keys() == expected.keys()
    for index, record in expected.items():
        assert (found[index].config, found[index].metrics) == (record.config, record.metrics)


def test_batches_go_to_worker_processes(make_setup: MakeSetup, tmp_path: Path) -> None:
    """A single batch, so that one of two workers is started: each imports for seconds."""
    changes = {"estimation": {"epochs": 1, "jobs": 2, "batch": 4}, "strategy": {"name": "random", "trials": 4}}
    epochs: set[int] = set()

    class Watching(LiveDisplay):
        def epoch(self, index: int, epoch: int, epochs_: int, loss: float) -> None:
            super().epoch(index, epoch, epochs_, loss)
            epochs.add(index)

    with make_setup(**{**LSTMS, **changes}).shared(tmp_path / "prepared") as setup:
        found = search(setup, tmp_path, Watching(Console(file=io.StringIO())))
    assert [record.outcome for record in found.values()] == ["measured"] * 4
    assert epochs == set(range(4))
