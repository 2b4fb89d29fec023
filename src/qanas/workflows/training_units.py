"""Units that train one candidate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from qanas.core.candidate import Candidate
from qanas.performance_estimation.base import TrainedNetwork
from qanas.workflows.plan import Setup
from qanas.workflows.units import OnPartEpoch, Unit
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


def make_training_executor(setup: Setup, jobs: int, on_epoch: OnTrainingEpoch) -> Executor[Any]:
    """Return an executor for ``jobs`` trainings at a time."""

    def on_unit_epoch(unit: Unit[Any], part: int, epoch: int, loss: float) -> None:
        del part
        assert isinstance(unit, TrainingUnit)  # noqa: S101 - nothing else is submitted
        on_epoch(unit, epoch, loss)

    return make_executor(setup, jobs, on_unit_epoch)
