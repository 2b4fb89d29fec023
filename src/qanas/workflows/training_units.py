"""Units that train one candidate, and batches of them."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from qanas.core.candidate import Candidate
from qanas.performance_estimation.base import TrainedNetwork
from qanas.workflows.plan import Setup
from qanas.workflows.units import Failure, OnPartEpoch, Unit, attempt
from qanas.workflows.workers import Executor, make_executor

R = TypeVar("R")

OnTrainingEpoch = Callable[["TrainingUnit[Any]", int, float], None]
"""Told after each epoch of a candidate's training: its unit, the epoch from 1, its loss."""


class TrainingUnit(Unit[R]):
    """The training of one candidate, and what is made of the trained network."""

    candidate: Candidate

    @abstractmethod
    def training_seed(self, setup: Setup) -> int:
        """Return the seed of all that is random in the training."""

    @abstractmethod
    def finish(self, setup: Setup, trained: TrainedNetwork) -> R:
        """Return the result."""

    def run(self, setup: Setup, on_epoch: OnPartEpoch) -> R:
        """Train the candidate alone, and finish."""
        seed = self.training_seed(setup)
        trained = setup.plan.estimator.train(setup.problem, self.candidate, seed, partial(on_epoch, 0))
        return self.finish(setup, trained)


@dataclass(frozen=True)
class TrainingBatch(Unit[list[R | Failure]]):
    """Trainings that the estimator is given together.

    Attributes:
        units: one a candidate.
    """

    units: tuple[TrainingUnit[R], ...]

    def run(self, setup: Setup, on_epoch: OnPartEpoch) -> list[R | Failure]:
        """Train all candidates, and finish each that has no failure of its own."""
        candidates = [(unit.candidate, unit.training_seed(setup)) for unit in self.units]
        outcomes = setup.plan.estimator.train_many(setup.problem, candidates, on_epoch)
        return [
            Failure.of(outcome) if isinstance(outcome, Exception) else attempt(partial(unit.finish, setup, outcome))
            for unit, outcome in zip(self.units, outcomes, strict=True)
        ]


class BatchExecutor(Executor[R]):
    """Gathers trainings into batches, each of which another executor runs as one unit.

    A batch's results are handed out before it takes trainings for the next one, so that these can be chosen in the
    light of all of them.

    Args:
        inner: runs the batches.
        size: trainings of a batch; the last one may have fewer.
    """

    def __init__(self, inner: Executor[list[R | Failure]], size: int) -> None:
        """Start with nothing gathered."""
        self._inner = inner
        self._size = size
        self._gathered: list[TrainingUnit[R]] = []
        self._finished: deque[tuple[Unit[R], R | Failure]] = deque()

    @property
    def room(self) -> int:
        """What the batch that is being gathered lacks."""
        return 0 if self._finished or not self._inner.room else self._size - len(self._gathered)

    def submit(self, unit: Unit[R]) -> None:
        """Put a training into the batch; a full one is given on."""
        assert isinstance(unit, TrainingUnit)  # noqa: S101 - nothing else can share a batch
        self._gathered.append(unit)
        if len(self._gathered) == self._size:
            self._give_on()

    def next_finished(self) -> tuple[Unit[R], R | Failure]:
        """Return the next result of a batch; wait for one if there is none, a smaller one given on before."""
        if not self._finished:
            if self._gathered:
                self._give_on()
            batch, results = self._inner.next_finished()
            assert isinstance(batch, TrainingBatch)  # noqa: S101 - nothing else was given on
            of_each = [results] * len(batch.units) if isinstance(results, Failure) else results
            self._finished.extend(zip(batch.units, of_each, strict=True))
        unit, result = self._finished.popleft()
        if isinstance(result, Failure):
            result.log()
        return unit, result

    def close(self) -> None:
        """End the inner executor."""
        self._inner.close()

    def _give_on(self) -> None:
        self._inner.submit(TrainingBatch(tuple(self._gathered)))
        self._gathered = []


def make_training_executor(setup: Setup, jobs: int, on_epoch: OnTrainingEpoch) -> Executor[Any]:
    """Return an executor for ``jobs`` trainings at a time, or as many batches of them."""

    def on_unit_epoch(unit: Unit[Any], part: int, epoch: int, loss: float) -> None:
        training = unit.units[part] if isinstance(unit, TrainingBatch) else unit
        assert isinstance(training, TrainingUnit)  # noqa: S101 - nothing else is submitted
        on_epoch(training, epoch, loss)

    executor = make_executor(setup, jobs, on_unit_epoch)
    size = setup.plan.estimator.batch
    return executor if size == 1 else BatchExecutor(executor, size)
