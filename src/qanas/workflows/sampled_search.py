"""Search by sampling: ask, cost, reject or train, quantize, score, tell."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np
from optuna.trial import Trial

from qanas.core.candidate import Candidate, Value
from qanas.core.errors import InputError
from qanas.core.measurement import Measurement
from qanas.core.pareto import non_dominated
from qanas.core.seeds import derive_seed
from qanas.hardware.costs import LATENCY
from qanas.performance_estimation.base import TrainedNetwork
from qanas.workflows.plan import SampledPlan, Setup
from qanas.workflows.progress import Progress
from qanas.workflows.training_units import TrainingUnit, make_training_executor
from qanas.workflows.trial_store import TrialRecord, TrialStore, most_blamed
from qanas.workflows.units import Failure
from qanas.workflows.workers import Executor

logger = logging.getLogger("qanas")


@dataclass(frozen=True)
class TrialUnit(TrainingUnit[Measurement]):
    """The training of one candidate.

    Attributes:
        index: of the counted trial.
        candidate: what is trained.
        costs: known before.
    """

    index: int
    candidate: Candidate
    costs: dict[str, float]

    def training_seed(self, setup: Setup) -> int:
        """Return the seed, which follows from the trial's index."""
        return derive_seed(setup.plan.seed, "trial", self.index)

    def finish(self, setup: Setup, trained: TrainedNetwork) -> Measurement:
        """Score on validation data."""
        metrics = trained.evaluate(setup.problem, setup.problem.data.val)
        bad = [name for name, value in metrics.items() if not np.isfinite(value)]
        if bad:
            raise ArithmeticError(f"the metrics {', '.join(bad)} are not finite")
        return Measurement(metrics, self.costs, trained.train_seconds)


@dataclass(frozen=True)
class _Running:
    """A trial at work.

    Attributes:
        unit: its training.
        trial: Optuna's; None for the seed network, which is added when it is measured.
        started_at: seconds since 1970.
    """

    unit: TrialUnit
    trial: Trial | None
    started_at: float


def candidate_costs(setup: Setup, candidate: Candidate) -> dict[str, float]:
    """Return the costs that the plan asks for, before any training."""
    costs = setup.problem.costs(candidate)
    if LATENCY in setup.plan.cost_names:
        costs[LATENCY] = setup.plan.device.latency_ms(setup.problem.untrained_file(candidate))
    return costs


def front_of(setup: Setup, records: list[TrialRecord]) -> list[TrialRecord]:
    """Return the measured trials within the limits that no other one dominates, sorted by the objectives."""
    measured = [record for record in records if record.outcome == "measured" and record.feasible]
    measured.sort(key=lambda record: record.index)  # of equal points the first one stays: not the first to end
    if not measured:
        return []
    objectives = setup.plan.objectives
    losses = np.array([[o.loss(r.measurement.value(o.name)) for o in objectives] for r in measured])
    return [measured[position] for position in non_dominated(losses)]


class SampledSearch:
    """One session of a search; what was finished in earlier ones is in the store.

    Args:
        setup: plan and data.
        sampled: the plan's own part for this kind of search.
        store: the trials so far.
        progress: who watches.
    """

    def __init__(self, setup: Setup, sampled: SampledPlan, store: TrialStore, progress: Progress) -> None:
        """Read what was finished before."""
        self.setup = setup
        self.plan = setup.plan
        self.sampled = sampled
        self.store = store
        self.progress = progress
        self.records = store.records()
        self.running: dict[int, _Running] = {}
        self.started = time.monotonic()
        self.seconds_before = store.search_seconds

    def run(self) -> list[TrialRecord]:
        """Search until the budget is spent; return every trial.

        Raises:
            InputError: the limits reject nearly everything.
        """
        counted = len(self._counted())
        self.progress.start(self.sampled.budget.trials, counted, resumed=counted > 0)
        self.progress.front(self._front_rows())
        with make_training_executor(self.setup, self.plan.jobs, self._on_epoch) as executor:
            while True:
                while executor.room and self._budget_left():
                    self._start_trial(executor)
                if not self.running:
                    return self.records
                unit, result = executor.next_finished()
                assert isinstance(unit, TrialUnit)  # noqa: S101 - nothing else was submitted
                self._finish_trial(unit, result)

    # State that follows from the records

    def _counted(self) -> set[int]:
        return {record.index for record in self.records if record.outcome in ("measured", "failed")}

    def _rejected(self) -> list[TrialRecord]:
        return [record for record in self.records if record.outcome == "rejected"]

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _budget_left(self) -> bool:
        budget = self.sampled.budget
        if budget.hours is not None and self._seconds() >= budget.hours * 3600:
            return False
        return len(self._counted()) + len(self.running) < budget.trials

    def _next_index(self) -> int:
        taken = self._counted() | set(self.running)
        return next(index for index in range(len(taken) + 1) if index not in taken)

    def _front_rows(self) -> list[dict[str, Value]]:
        names = [objective.name for objective in self.plan.objectives]
        rows: list[dict[str, Value]] = []
        for record in front_of(self.setup, self.records):
            row: dict[str, Value] = {name: record.measurement.value(name) for name in names}
            for group in record.config.values():
                row |= group
            rows.append(row)
        return rows

    # One trial

    def _start_trial(self, executor: Executor[Measurement]) -> None:
        """Ask for a candidate within the limits and give it to the executor."""
        index = self._next_index()
        if index == 0:
            candidate = self.setup.space.reference
            self._submit(executor, None, TrialUnit(0, candidate, candidate_costs(self.setup, candidate)))
            return
        attempt = sum(record.index == index for record in self._rejected())
        while True:
            sampler = self.sampled.strategy.sampler(derive_seed(self.plan.seed, "sampler", index, attempt))
            trial, candidate = self.store.ask(self.setup.space, sampler)
            unit = TrialUnit(index, candidate, candidate_costs(self.setup, candidate))
            over = {limit.cost: limit.excess(unit.costs) for limit in self.plan.limits}
            worst = max(over, key=lambda cost: over[cost], default="")
            if not worst or over[worst] <= 0:
                self._submit(executor, trial, unit)
                return
            self._reject(trial, unit, worst)
            attempt += 1

    def _submit(self, executor: Executor[Measurement], trial: Trial | None, unit: TrialUnit) -> None:
        self.running[unit.index] = _Running(unit, trial, time.time())
        architecture = " ".join(f"{name}={value}" for name, value in unit.candidate.architecture.items())
        self.progress.trial_started(unit.index, architecture)
        executor.submit(unit)

    def _reject(self, trial: Trial, unit: TrialUnit, cost: str) -> None:
        bound = next(limit.bound for limit in self.plan.limits if limit.cost == cost)
        reason = f"{cost} {unit.costs[cost]:g} > {bound:g}"
        now = time.time()
        record = TrialRecord(
            unit.index,
            "rejected",
            unit.candidate.config,
            unit.costs,
            reason=reason,
            blamed=cost,
            feasible=False,
            started_at=now,
            finished_at=now,
        )
        self.records.append(self.store.tell(trial, record))
        rejected = len(self._rejected())
        self.progress.rejected(reason, rejected)
        if rejected >= self.sampled.budget.max_rejected:
            blamed, times = most_blamed(self.records)
            limit = next(entry for entry in self.plan.limits if entry.cost == blamed)
            raise InputError(
                f"limits.{blamed} = {limit.bound:g} rejected {times} of {rejected} candidates "
                f"(strategy.max_rejected = {self.sampled.budget.max_rejected}): raise it or search smaller networks"
            )

    def _finish_trial(self, unit: TrialUnit, result: Measurement | Failure) -> None:
        running = self.running.pop(unit.index)
        trial = running.trial
        failed = isinstance(result, Failure)
        record = TrialRecord(
            unit.index,
            "failed" if failed else "measured",
            unit.candidate.config,
            unit.costs,
            metrics={} if isinstance(result, Failure) else result.metrics,
            reason=result.reason if isinstance(result, Failure) else "",
            is_seed=trial is None,
            feasible=all(limit.excess(unit.costs) <= 0 for limit in self.plan.limits),
            train_seconds=0.0 if isinstance(result, Failure) else result.train_seconds,
            started_at=running.started_at,
            finished_at=time.time(),
        )
        stored = self.store.add_seed(self.setup.space, record) if trial is None else self.store.tell(trial, record)
        self.records.append(stored)
        self.store.set_search_seconds(self._seconds())
        names = [objective.name for objective in self.plan.objectives]
        values = None if failed else {name: record.measurement.value(name) for name in names}
        self.progress.trial_finished(unit.index, record.outcome, values, record.reason)
        self.progress.front(self._front_rows())
        logger.info("trial %d %s %s %s", unit.index, record.outcome, values or "", record.reason)

    def _on_epoch(self, unit: TrainingUnit[Measurement], epoch: int, loss: float) -> None:
        assert isinstance(unit, TrialUnit)  # noqa: S101 - nothing else was submitted
        self.progress.epoch(unit.index, epoch, self.plan.estimator.epochs, loss)
