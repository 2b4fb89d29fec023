"""The contract of latency sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

STRICT = ConfigDict(extra="forbid", frozen=True)

Figure = Literal["latency_ms", "cycles", "instructions"]
"""What a source counts, as costs are called: milliseconds, cycles and instructions are never mixed."""


class LatencySource(BaseModel, ABC):
    """How latency is had; a file says which by its ``method``. Every one passes `qanas.testing.check_latency`."""

    model_config = STRICT

    @property
    @abstractmethod
    def figure(self) -> Figure:
        """What it counts."""

    @property
    @abstractmethod
    def described(self) -> str:
        """What took the time, and how it was taken, for cards."""

    @property
    def repeatable(self) -> bool:
        """Whether the same file always has the same figure; what is measured has not, and wants a quiet machine."""
        return True

    @abstractmethod
    def of(self, contents: Sequence[bytes]) -> list[float]:
        """Return the figure of one inference of each of some .tflite files, in their order.

        Files that are to be compared are given together: what is measured is then measured in turns.

        Raises:
            InputError: a file can't be had a figure of, in one line.
        """
