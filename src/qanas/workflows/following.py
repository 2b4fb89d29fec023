"""Progress that is told to whoever watches, and now and then to whoever follows the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qanas.core.candidate import Value
from qanas.core.events import Event
from qanas.planning.progress import Follower, Progress


class Followed:
    """Hands everything on; where something has ended and the follower is due, files are written for it first.

    Nothing is done between epochs: what a follower takes is no training's time.

    Args:
        progress: who watches.
        follower: who follows.

    Attributes:
        save: writes what isn't in the folder yet; while nothing is, it does nothing.
    """

    def __init__(self, progress: Progress, follower: Follower) -> None:
        """Nothing is done yet."""
        self._progress = progress
        self._follower = follower
        self._what, self._unit, self._total, self._done = "", "", 0, 0
        self.save: Callable[[], None] = lambda: None

    @property
    def doing(self) -> str:
        """What is being done, and how far that is."""
        return f"{self._what}: {self._done:,} of {self._total:,}{self._unit} done" if self._what else "it starts"

    def _tell(self) -> None:
        if self._follower.due():
            self.save()
            self._follower.show(self.doing)

    def start(self, total_trials: int, done: int, resumed: bool, *, seconds: float | None = None) -> None:
        """The search starts, or goes on, for so many seconds at most."""
        self._what, self._unit, self._total, self._done = "search", " trials", total_trials, done
        self._progress.start(total_trials, done, resumed, seconds=seconds)
        self._tell()

    def trial_started(self, index: int, label: str) -> None:
        """A trial starts."""
        self._progress.trial_started(index, label)

    def epoch(self, index: int, event: Event) -> None:
        """A trial, or another unit, came so far."""
        self._progress.epoch(index, event)

    def trial_finished(self, index: int, outcome: str, values: Mapping[str, float] | None, reason: str) -> None:
        """A trial ended."""
        self._done += 1
        self._progress.trial_finished(index, outcome, values, reason)

    def rejected(self, reason: str, count: int) -> None:
        """A candidate was over a limit."""
        self._progress.rejected(reason, count)

    def front(self, rows: Sequence[Mapping[str, Value]]) -> None:
        """The front changed."""
        self._progress.front(rows)
        self._tell()

    def stage(self, name: str, total: int, done: int) -> None:
        """A stage starts."""
        self._what, self._unit, self._total, self._done = name, "", total, done
        self._progress.stage(name, total, done)
        self._tell()

    def unit_finished(self, label: str) -> None:
        """One unit of the stage ended."""
        self._done += 1
        self._progress.unit_finished(label)
        self._tell()

    def message(self, text: str) -> None:
        """A line for the person."""
        self._progress.message(text)
