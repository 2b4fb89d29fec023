"""A training in parts, after each of which a killed one goes on: with seeds of its own for each part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from qanas.core.events import Event, Watch
from qanas.core.seeds import derive_seed
from qanas.training.loop import Passes, Round, fit
from qanas.training.trainer import Trainer

SEGMENTS = 20
"""Parts of a training, after each of which a killed one goes on. Each has its own seeds."""

Begin = Callable[[int, torch.Generator], tuple[Trainer, Passes]]
"""Gives the trainer of a part and the whole schedule, by the seed of the data's random changes, and by what batches and
all else are drawn from."""


@dataclass(frozen=True)
class Segment:
    """One of `SEGMENTS` parts of a schedule of passes; only its own steps are drawn."""

    unit: ClassVar[str] = Passes.unit

    passes: Passes
    number: int

    @property
    def total(self) -> int:
        """Of the whole schedule."""
        return self.passes.total

    @property
    def seed(self) -> int:
        """Of this part."""
        return self.passes.seed

    def rounds(self) -> Iterator[Round]:
        """Yield the rounds that end in this part."""
        for part in self.passes.rounds():
            if -(-part.done * SEGMENTS // self.total) - 1 == self.number:
                yield part


def train_in_segments(first: int, begin: Begin, keep: Callable[[int], None], *, seed: int, watch: Watch) -> bool:
    """Train part by part; return whether it went to the end.

    Args:
        first: part that isn't done yet.
        begin: of each part.
        keep: writes what the next part goes on from, given how many are done.
        seed: of batches, of what else is drawn, and of random changes.
        watch: told of every hundredth of the way; says whether to go on.

    Raises:
        TrainingFailed: the loss became NaN or infinite.
    """
    going = True

    def told(event: Event) -> bool:
        nonlocal going
        going = watch(event)
        return going

    for number in range(first, SEGMENTS):
        own = derive_seed(seed, "segment", number)
        generator = torch.Generator().manual_seed(derive_seed(own, "order"))
        trainer, passes = begin(derive_seed(own, "augmentation"), generator)
        fit(trainer, Segment(passes, number), told)
        if not going:
            return False
        keep(number + 1)
    return True
