"""What a run needs of a search, however it finds its front."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

from qanas.core.candidate import Candidate
from qanas.core.measurement import Measurement, Objective
from qanas.workflows.plan import Setup


class FrontPoint(Protocol):
    """A candidate on the front."""

    @property
    def candidate(self) -> Candidate:
        """Its settings."""

    @property
    def measurement(self) -> Measurement:
        """Its scores and costs."""

    def row(self) -> dict[str, Any]:
        """Return it as a row of a table."""


class Search(ABC):
    """One session of a search; what was finished in earlier ones of the same folder is not done again."""

    @property
    @abstractmethod
    def objectives(self) -> tuple[Objective, ...]:
        """The axes of the front that it finds."""

    @abstractmethod
    def run(self) -> None:
        """Search to the end.

        Raises:
            InputError: the recipe asks for what can't be found.
        """

    @abstractmethod
    def front(self) -> Sequence[FrontPoint]:
        """Return the front so far, sorted by the objectives."""

    def setup_of_finalists(self, setup: Setup) -> Setup:
        """Return the setup that finalists are trained in, after the search."""
        return setup

    @abstractmethod
    def write_tables(self) -> None:
        """Write what was found so far, whether the search ended or not."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """Return counts of what was done so far, and ``seconds``, the wall-clock time over all sessions."""
