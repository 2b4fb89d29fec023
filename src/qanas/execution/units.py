"""Units of work, and what becomes of them."""

from __future__ import annotations

import logging
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from qanas.core.errors import TrainingFailed
from qanas.core.events import Watch

logger = logging.getLogger("qanas")

C = TypeVar("C")
R = TypeVar("R")


class Unit(ABC, Generic[C, R]):
    """A piece of work: picklable, and its result depends on it and on what it works on alone."""

    @abstractmethod
    def run(self, bench: C, watch: Watch) -> R:
        """Do the work.

        Args:
            bench: what all units of an executor work on.
            watch: told how far the work has come; where it says stop, what there is so far is the result.
        """


@dataclass(frozen=True)
class Failure:
    """Why a unit has no result.

    Attributes:
        reason: one line.
        trace: of an error that nobody expected; empty otherwise.
    """

    reason: str
    trace: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Return what an error tells."""
        if isinstance(error, TrainingFailed):
            return cls(str(error))
        return cls(
            f"{type(error).__name__}: {' '.join(str(error).split())}", "".join(traceback.format_exception(error))
        )

    def log(self) -> None:
        """Write the traceback, if there is one, to the log; workers have none."""
        if self.trace:
            logger.error("%s", self.trace)


def attempt(work: Callable[[], R]) -> R | Failure:
    """Return the result of some work, or why it has none."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - a defect in one unit must not lose the others
        return Failure.of(error)
