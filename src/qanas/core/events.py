"""What long work tells whoever watches it: one type, from the training loop to the screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """How far a training, or another long unit of work, has come.

    Attributes:
        done: epochs, or passes, that are done.
        total: how many there will be.
        loss: mean since the last event.
    """

    done: int
    total: int
    loss: float


Watch = Callable[[Event], bool]
"""Told of every event; returns whether to go on."""


class Losses:
    """Watches a training for somebody else, and keeps what it lost on training data, epoch by epoch.

    Args:
        watch: who is told.

    Attributes:
        values: of the epochs so far, with five digits.
    """

    def __init__(self, watch: Watch) -> None:
        """Start before the first epoch."""
        self._watch = watch
        self.values: list[float] = []

    def __call__(self, event: Event) -> bool:
        """Keep the loss, and tell."""
        self.values.append(float(f"{event.loss:.5g}"))
        return self._watch(event)


def go_on(event: Event) -> bool:
    """Watch for nobody: go on, whatever happens."""
    del event
    return True
