"""Confirmation: what looks best after one training is trained again, so that a front is of means and not of luck.

Of many candidates that were trained once, those on the front are the lucky ones. Each round trains again, with other
seeds, who is on the front and has not been; whom that throws off makes room for others. Then the less certain half of
those that stay is trained once more, until the budget is spent. A front point's score is the mean of its further
trainings alone: the first one, by which it was noticed, is left out.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qanas.core.candidate import Candidate
from qanas.core.events import Event, Watch
from qanas.core.measures import CONFIRMED, Metric
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.core.seeds import derive_seed
from qanas.core.trials import TrialRecord, front_of
from qanas.execution.executors import Failure, Unit
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import Procedure
from qanas.performance_estimation.training_cache import SECONDS
from qanas.planning.plan import Plan
from qanas.planning.progress import Progress

logger = logging.getLogger("qanas")

MOST_REPETITIONS = 4
"""Further trainings of one candidate: from then on its mean is known well enough."""

Scores = Mapping[str, float]


@dataclass(frozen=True)
class ConfirmationUnit(Unit[Bench, dict[str, float]]):
    """A further training of a candidate, scored on validation data as in the search.

    Attributes:
        procedure: of the search.
        candidate: what is trained.
        repetition: the training's number.
    """

    procedure: Procedure
    candidate: Candidate
    repetition: int

    @property
    def name(self) -> str:
        """Of the training, for people and for the file of scores."""
        return f"{self.candidate.key}, training {self.repetition + 1}"

    def run(self, bench: Bench, watch: Watch) -> dict[str, float]:
        """Train, quantize, and score on validation data; the CPU seconds of training are there, too."""
        candidate = self.candidate
        seed = derive_seed(bench.seed, "confirmation", candidate.key, self.repetition)
        trained = self.procedure.make(bench, candidate, bench.start_of(candidate), seed, watch)
        scores = trained.evaluate(bench.task_of(candidate), bench.data_of(candidate).val)
        return {**scores, SECONDS: trained.train_seconds}


class Confirmation:
    """A search's trials with what further trainings of some of them say; earlier sessions' are kept.

    Args:
        plan: says how many trainings there may be, as a share of the measured trials.
        folder: of the run.
        records: of the search.
        progress: who watches.
    """

    def __init__(self, plan: Plan, folder: RunFolder, records: Sequence[TrialRecord], progress: Progress) -> None:
        """Train nothing yet."""
        self._plan, self._progress = plan, progress
        self._records = list(records)
        self._place = folder.trainings / "confirmation.json"
        self._known: dict[str, Scores] = _read(self._place)
        self._scores: dict[str, list[Scores]] = {}
        scored = any(isinstance(axis, Metric) for axis in plan.axes)
        measured = sum(record.outcome == "measured" for record in self._records) if scored else 0
        self.budget = plan.finalists.confirmations(measured)
        self.spent = 0
        self.trained = 0

    def front(self) -> list[TrialRecord]:
        """Spend the budget and return the front, each point with the mean scores of its further trainings."""
        if self.budget:
            self._progress.stage("confirmation", self.budget, 0)
        while wanted := self._wanted():
            for name, scores in self._train(wanted).items():
                self._scores.setdefault(name, []).append(scores)
            self.spent += len(wanted)
        front = front_of(self._means(), self._plan.axes)
        logger.info("confirmation: %d of %d trainings, %d front points", self.spent, self.budget, len(front))
        return front

    def summary(self) -> dict[str, Any]:
        """Return what was done, for ``summary.json``."""
        seconds = sum(entry.get(SECONDS, 0.0) for scores in self._scores.values() for entry in scores)
        done = {"trainings": self.spent, "candidates": len(self._scores)}
        return {"budget": self.budget, **done, "train_cpu_seconds": seconds}

    def _repetitions(self, record: TrialRecord) -> int:
        return len(self._scores.get(record.candidate.key, []))

    def _means(self) -> list[TrialRecord]:
        """Return all trials; those that were trained again with the means of that, by which they are judged."""
        axes = [axis.column for axis in self._plan.axes if isinstance(axis, Metric)]
        found = []
        for record in self._records:
            scores = self._scores.get(record.candidate.key)
            if scores and record.outcome == "measured":
                # A training that failed has no scores, and what is no axis may be undefined, or of the search alone.
                judged = all(np.isfinite(entry.get(name, np.nan)) for entry in scores for name in axes)
                means = {
                    name: float(np.mean([entry[name] for entry in scores])) if _in_all(scores, name) else value
                    for name, value in record.metrics.items()
                }
                origin = {**record.origin, CONFIRMED: len(scores)}
                found.append(replace(record, metrics=means, origin=origin, feasible=record.feasible and judged))
            else:
                found.append(record)
        return found

    def _wanted(self) -> list[ConfirmationUnit]:
        """Return the next round: front points that weren't trained again, else the less certain half of them.

        The reference, which a lucky training may put on the front as well, only where it is trained.
        """
        left = self.budget - self.spent
        given = self._plan.bench.reference_start.trained
        front = [r for r in front_of(self._means(), self._plan.axes) if not (given and r.is_seed)]
        chosen = [record for record in front if not self._repetitions(record)]
        if not chosen:
            by_doubt = [position for _, position in sorted((-d, i) for i, d in enumerate(self._doubts(front)))]
            unsettled = [front[i] for i in by_doubt if self._repetitions(front[i]) < MOST_REPETITIONS]
            chosen = unsettled[: math.ceil(len(front) / 2)]
        procedure = self._plan.estimator.procedure
        return [
            ConfirmationUnit(procedure, record.candidate, self._repetitions(record))
            for record in chosen[: max(left, 0)]
        ]

    def _doubts(self, front: Sequence[TrialRecord]) -> list[float]:
        """Return the variance of each front point's mean, in units of the front's own.

        The search's training counts in the spread of a point, not in its mean. A few trainings may lie close together
        by chance, so that half of the spread is that of all points; of several metrics the largest decides.

        Args:
            front: points that were all trained again.
        """
        metrics = [axis for axis in self._plan.axes if isinstance(axis, Metric)]
        found = [0.0] * len(front)
        first = {record.candidate.key: record.metrics for record in self._records if record.outcome == "measured"}
        for metric in metrics:
            name = metric.column
            values = [[first[r.candidate.key][name], *(s.get(name, np.nan) for s in self._scores[r.candidate.key])]
                      for r in front]  # fmt: skip
            own = np.array([np.var(scores, ddof=1) for scores in values])
            pooled = float(np.median(own))
            counts = np.array([len(scores) - 1 for scores in values])
            spread = (own + pooled) / 2 / counts / (pooled or 1.0)
            found = [max(old, float(new)) for old, new in zip(found, spread, strict=True)]
        return found

    def _train(self, units: Sequence[ConfirmationUnit]) -> dict[str, Scores]:
        """Return the scores by candidate; none of a training that failed, whose candidate leaves the front."""
        waiting = [unit for unit in units if unit.name not in self._known]
        order = {unit.name: position for position, unit in enumerate(waiting)}

        def on_event(unit: Unit[Any, Any], event: Event) -> bool:
            assert isinstance(unit, ConfirmationUnit)  # noqa: S101 - nothing else is submitted
            self._progress.epoch(order[unit.name], event)
            return True

        if waiting:
            with self._plan.engine.executor(self._plan.bench, min(self._plan.jobs, len(waiting)), on_event) as executor:
                for unit, result in executor.work_off(waiting):
                    assert isinstance(unit, ConfirmationUnit)  # noqa: S101 - see above
                    if isinstance(result, Failure):
                        logger.info("confirmation: %s failed: %s", unit.name, result.reason)
                    self._known[unit.name] = {} if isinstance(result, Failure) else result
                    self._keep()
                    self._progress.unit_finished(unit.name)
        self.trained += len(waiting)
        return {unit.candidate.key: self._known[unit.name] for unit in units}

    def _keep(self) -> None:
        """Write scores down for a later session. A failure may be of the moment: that session tries again."""
        content = {name: scores for name, scores in self._known.items() if scores}
        write_atomically(self._place, json.dumps(content, sort_keys=True).encode())


def _in_all(scores: Sequence[Scores], name: str) -> bool:
    return all(name in entry for entry in scores)


def _read(path: Path) -> dict[str, Scores]:
    """Return what earlier sessions found; nothing where the file was damaged, which is written anew."""
    try:
        content = json.loads(path.read_text("utf-8"))
        return {
            str(name): {str(metric): float(value) for metric, value in scores.items()}
            for name, scores in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
