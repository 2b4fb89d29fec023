"""What a run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from qanas.core.candidate import Value
from qanas.core.events import Event


class Progress(Protocol):
    """A watcher of a run; told often, so it has to be cheap."""

    def start(self, total_trials: int, done: int, resumed: bool, *, seconds: float | None = None) -> None:
        """The search starts, or goes on; after so many seconds, if it is bounded, it begins no further trial."""

    def trial_started(self, index: int, label: str) -> None:
        """A trial starts."""

    def epoch(self, index: int, event: Event) -> None:
        """A trial, or another unit, came so far."""

    def trial_finished(self, index: int, outcome: str, values: Mapping[str, float] | None, reason: str) -> None:
        """A trial ended; values by objective, or the reason why there are none."""

    def rejected(self, reason: str, count: int) -> None:
        """A candidate was over a limit; ``count`` so far."""

    def front(self, rows: Sequence[Mapping[str, Value]]) -> None:
        """The front changed."""

    def stage(self, name: str, total: int, done: int) -> None:
        """A stage after the search starts: finalists' trainings."""

    def unit_finished(self, label: str) -> None:
        """One unit of the stage ended."""

    def message(self, text: str) -> None:
        """A line for the person."""


class Follower(Protocol):
    """Shows what a run's folder holds while the run goes on."""

    def due(self) -> bool:
        """Tell whether to show anew, as it takes its time; asked often."""

    def show(self, doing: str) -> None:
        """Show the folder; its files are those of now.

        Args:
            doing: what the run does, for people.
        """

    def end(self) -> None:
        """Show the folder of a run that ended early, whatever the reason."""


class Nobody:
    """A follower that shows nothing."""

    def due(self) -> bool:
        """Never."""
        return False

    def show(self, doing: str) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""


NOBODY = Nobody()
