"""How far long work has come, and whether to go on: told from the loop that does it to the screen that shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """How far a training, or another long unit of work, has come.

    Attributes:
        done: epochs, or passes, done.
        total: of them.
        loss: mean since the last event.
    """

    done: int
    total: int
    loss: float


Watch = Callable[[Event], bool]
"""Told of every event; returns whether to go on."""


def go_on(event: Event) -> bool:
    """Return True: the watch of nobody."""
    del event
    return True
