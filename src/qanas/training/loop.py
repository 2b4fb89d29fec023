"""The one fit loop: which steps a training takes, and who is told of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from qanas.core.errors import TrainingFailed
from qanas.core.events import Event, Watch, go_on
from qanas.core.seeds import derive_seed
from qanas.search_space.training_group import Scheduler, TrainingSettings
from qanas.training.trainer import Trainer


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    Attributes:
        indices: samples of the batch, shape (batch,).
        learning_rate: of the step.
        weight: what its loss counts in the mean over several steps.
    """

    indices: Tensor
    learning_rate: float
    weight: int


@dataclass(frozen=True)
class Round:
    """The steps from one event to the next.

    Attributes:
        done: of the schedule's units, after it.
        steps: drawn one by one, each as it is taken.
    """

    done: int
    steps: Iterable[Step]


class Schedule(Protocol):
    """Which steps a training takes: a function of its settings and seed alone."""

    unit: ClassVar[str]
    """What is counted: "epoch" or "pass"."""

    @property
    def total(self) -> int:
        """Units of the whole training."""

    @property
    def seed(self) -> int:
        """Of the order of the samples, and of what layers draw."""

    def rounds(self) -> Iterator[Round]:
        """Yield the rounds in their order; a round's steps are taken before the next one is asked for."""


@dataclass(frozen=True)
class Epochs:
    """Passes over all samples: a fresh permutation an epoch, the last batch smaller where it must be.

    Attributes:
        samples: of the data.
        settings: batch size, learning rate and how that falls.
        total: epochs.
        seed: of the order of the samples.
    """

    unit: ClassVar[str] = "epoch"

    samples: int
    settings: TrainingSettings
    total: int
    seed: int

    def rounds(self) -> Iterator[Round]:
        """Yield an epoch after the other."""
        generator = torch.Generator().manual_seed(self.seed)
        for epoch in range(self.total):
            order = torch.randperm(self.samples, generator=generator)
            yield Round(epoch + 1, self._steps(torch.split(order, self.settings.batch_size), epoch))

    def _steps(self, batches: tuple[Tensor, ...], epoch: int) -> Iterator[Step]:
        """Yield the steps of an epoch, from 0.

        Args:
            batches: index tensors, each of shape (batch,).
            epoch: its number.
        """
        rate, scheduler = self.settings.learning_rate, self.settings.scheduler
        for number, indices in enumerate(batches, epoch * len(batches)):
            factor = learning_rate_factor(scheduler, number / (self.total * len(batches)))
            yield Step(indices, rate * factor, len(indices))


def learning_rate_factor(scheduler: Scheduler, progress: float) -> float:
    """Return the factor on the learning rate at ``progress`` in [0, 1) of all steps.

    >>> [round(learning_rate_factor(name, 0.5), 3) for name in ("none", "cosine", "exponential")]
    [1.0, 0.5, 0.1]
    """
    if scheduler == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if scheduler == "exponential":
        return float(0.01**progress)
    return 1.0


POLYNOMIAL_POWER = 0.9


@dataclass(frozen=True)
class Passes:
    """Batches drawn with replacement; the learning rate falls to 0 as ``(1 - passes / total) ** 0.9``.

    Each step trains some paths through a supernet, a pass each. A batch is drawn just before its step, so that the
    trainer may draw from the same generator after it.

    Attributes:
        samples: of the data.
        batch_size: samples of a batch.
        learning_rate: of the first step.
        total: passes; the last step may go beyond them.
        passes_a_step: how many each step takes.
        generator: of the batches.
    """

    unit: ClassVar[str] = "pass"

    samples: int
    batch_size: int
    learning_rate: float
    total: int
    passes_a_step: int
    generator: torch.Generator

    @property
    def seed(self) -> int:
        """That the generator began with."""
        return self.generator.initial_seed()

    def rounds(self) -> Iterator[Round]:
        """Yield about a hundred rounds, at least a step each."""
        steps = -(-self.total // self.passes_a_step)
        a_round = -(-self.total // (100 * self.passes_a_step))
        for first in range(0, steps, a_round):
            last = min(steps, first + a_round)
            yield Round(min(self.total, last * self.passes_a_step), map(self._step, range(first, last)))

    def _step(self, number: int) -> Step:
        """Draw the batch of a step, from 0."""
        progress = number * self.passes_a_step / self.total
        rate = self.learning_rate * (1.0 - progress) ** POLYNOMIAL_POWER
        indices = torch.randint(self.samples, (self.batch_size,), generator=self.generator)
        return Step(indices, rate, self.passes_a_step)


def fit(trainer: Trainer, schedule: Schedule, watch: Watch = go_on) -> bool:
    """Train, and leave the network with its final weights.

    They are the moving average over the steps where a trainer keeps one. The average is scored at the end instead of
    the best epoch on validation data, which would select on noise. What layers draw, such as a dropout's masks, follows
    from the schedule's seed, whatever was drawn before in this process.

    Args:
        trainer: takes the steps.
        schedule: says which.
        watch: told after every round; where it says stop, the trainer still finishes.

    Returns:
        Whether the training went to its end.

    Raises:
        TrainingFailed: the loss became NaN or infinite.
    """
    with _drawing_from(derive_seed(schedule.seed, "layers")):
        return _fit(trainer, schedule, watch)


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Let what is drawn inside from torch's global generator follow from a seed; afterwards it is as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _fit(trainer: Trainer, schedule: Schedule, watch: Watch) -> bool:
    """Take the steps of `fit`."""
    done = steps = 0
    for part in schedule.rounds():
        summed, weight = 0.0, 0
        for step in part.steps:
            summed += trainer.step(step.indices, step.learning_rate) * step.weight
            weight += step.weight
            steps += 1
            if not math.isfinite(summed):
                raise TrainingFailed(f"the training loss became {summed} in {schedule.unit} {part.done}, step {steps}")
        done = part.done
        if not watch(Event(done, schedule.total, summed / weight)):
            break
    trainer.finish()
    return done >= schedule.total
