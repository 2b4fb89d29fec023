"""What a run prints while it works: a live display on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from qanas.core.even_spread import evenly_spread
from qanas.core.run_folder import SEED_ID
from qanas.reporting.wording import count as counted
from qanas.reporting.wording import duration, number, rough_duration, setting, title

if TYPE_CHECKING:
    from types import TracebackType

    from qanas.core.events import Event

Row = Mapping[str, float | int | str | bool]

_REFRESHES_PER_SECOND = 4
_MOST_ROWS = 12
_BAR_WIDTH, _LEAST_BAR = 40, 8
_BESIDE_BAR = 58
"""Columns that name, numbers and times take beside a bar."""

_FEWEST = 3
"""Units of which a forecast is made: one alone may be anything."""

_COUNTED = ("measured", "failed")


_QUIET_S = 60.0
"""After so long without a line a plain output says how far a training is."""


@dataclass
class _Running:
    """A trial, or another unit, in training; its time per epoch is known from the second event on."""

    label: str
    event: Event | None = None
    first: Event | None = None
    first_at: float = 0.0

    def tell(self, event: Event, now: float) -> None:
        """Take in how far it is."""
        self.event = event
        if self.first is None:
            self.first, self.first_at = event, now

    def seconds_left(self, now: float) -> float | None:
        """Extrapolate from the epochs since the first event."""
        if self.event is None or self.first is None or self.event.done <= self.first.done:
            return None
        a_unit = (now - self.first_at) / (self.event.done - self.first.done)
        return a_unit * (self.event.total - self.event.done)


@dataclass
class _Work:
    """A number of equal units of which some are done; none begins once it ``ends``."""

    name: str = ""
    total: int = 0
    done: int = 0
    done_before: int = 0
    started: float = 0.0
    counted_from: float | None = None
    ends: float = math.inf

    def leave_out_so_far(self, now: float) -> None:
        """Forecast from what comes alone: the reference is far larger than candidates, or far smaller."""
        self.done_before, self.counted_from = self.done, now

    @property
    def lacking(self) -> int:
        """How many units have to be finished before there is a forecast."""
        return min(_FEWEST, self.total) - (self.done - self.done_before)

    def seconds_left(self, now: float) -> float | None:
        """Extrapolate from the units finished since the start; None before there are some, and once none begins."""
        if self.lacking > 0 or self.done >= self.total or now >= self.ends:
            return None
        started = self.started if self.counted_from is None else self.counted_from
        wanted = (now - started) / (self.done - self.done_before) * (self.total - self.done)
        return min(wanted, self.ends - now)


class LiveDisplay:
    """The progress of a run, told by the workflow and shown as far as the output allows.

    On a terminal a live region is redrawn at most four times a second by a thread of its own, so that telling
    is cheap however often it happens. Elsewhere one plain line is printed for each finished trial and unit, and where
    none is for a minute, one for a training that goes on.

    Attributes:
        plain: no live region: the output is no terminal.

    Args:
        console: where to write; standard output if None.
        clock: seconds that only grow.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console()
        self._clock = clock
        self.plain = not self._console.is_terminal or self._console.is_dumb_terminal
        self._lock = Lock()  # the redrawing thread reads what the workflow writes
        self._trials = _Work("search")
        self._stage: _Work | None = None
        self._running: dict[int, _Running] = {}
        self._front: list[Row] = []
        self._objectives: tuple[str, ...] = ()
        self._rejected = 0
        self._reason = ""
        self._waiting = Spinner("line")
        self._live: Live | None = None
        self._printed = clock()

    def __enter__(self) -> Self:
        """Nothing is shown before ``waiting``, ``start``, ``stage`` or ``message``."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was, however the run ended."""
        self.close()

    def waiting(self, text: str) -> None:
        """Show that something goes on before there is anything to count: data is read, everything is tried once."""
        self._waiting.update(text=Text(text))
        self._open()

    def start(self, total_trials: int, done: int, resumed: bool, *, seconds: float | None = None) -> None:
        """Begin the search, of which ``done`` trials were finished by an earlier run of the same folder.

        Args:
            total_trials: those included.
            done: how many.
            resumed: whether that is to be said.
            seconds: after which no further trial begins; None where trials alone are counted.
        """
        with self._lock:
            now = self._clock()
            ends = math.inf if seconds is None else now + seconds
            self._trials = _Work("search", total_trials, done, done, now, ends=ends)
            self._stage = None
        self._open()
        if resumed:
            self.message(f"resumed: {done} of {counted(total_trials, 'trial')} done before")

    def trial_started(self, index: int, label: str) -> None:
        """Show a trial as running; ``label`` names its settings."""
        with self._lock:
            self._running[index] = _Running(label)

    def epoch(self, index: int, event: Event) -> None:
        """Tell how far a trial's training, or another unit, is."""
        with self._lock:
            now = self._clock() if self.plain else 0.0
            running = self._running.setdefault(index, _Running(""))
            running.tell(event, now)
            if self._stage is not None and event.done >= event.total:
                del self._running[index]
                return
            quiet = self.plain and now - self._printed >= _QUIET_S
            line = self._plain_line(index, event, running.seconds_left(now)) if quiet else ""
        if line:
            self._print(line)

    def trial_finished(self, index: int, outcome: str, values: Mapping[str, float] | None, reason: str) -> None:
        """Record how a trial ended; ``values`` are its objectives if it was measured."""
        with self._lock:
            self._running.pop(index, None)
            self._trials.done += outcome in _COUNTED
            if index == 0:
                self._trials.leave_out_so_far(self._clock())
            if values:
                self._objectives = tuple(values)
            line = self._trial_line(index, outcome, values, reason)
        if self.plain or outcome != "measured":
            self._print(line)

    def rejected(self, reason: str, count: int) -> None:
        """Tell that a candidate was rejected before any training; ``count`` are rejected so far."""
        with self._lock:
            self._rejected, self._reason = count, reason
        # Rejections cost nothing and may be thousands: a log shows the 1st, the 10th, the 100th, ...
        if self.plain and str(count).rstrip("0") == "1":
            self._print(f"rejected before training: {counted(count, 'candidate')} so far, last: {reason}")

    def front(self, rows: Sequence[Row]) -> None:
        """Show the current front; each row holds a point's objectives, then its settings."""
        with self._lock:
            self._front = list(rows)

    def stage(self, name: str, total: int, done: int) -> None:
        """Begin a stage after the search, such as the finalists' trainings; ``done`` units are done."""
        with self._lock:
            self._running.clear()
            self._stage = _Work(name, total, done, done, self._clock())
        self._open()
        if self.plain:
            self._print(f"{name}: {done} of {total} done")

    def unit_finished(self, label: str) -> None:
        """Count one unit of the current stage."""
        with self._lock:
            stage = self._stage
            if stage is None:
                return
            stage.done += 1
            if label.startswith(f"{SEED_ID},"):
                stage.leave_out_so_far(self._clock())
            self._running.clear()  # units have no index here: those still training come back at their next epoch
            line = f"{stage.name} {stage.done}/{stage.total} {label}{self._left(stage)}"
        if self.plain:
            self._print(line)

    def message(self, text: str) -> None:
        """Print a line that stays."""
        self._print(text)

    def close(self) -> None:
        """Stop redrawing; the last state stays on the screen. A second call does nothing."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _open(self) -> None:
        if self.plain or self._live is not None:
            return
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=_REFRESHES_PER_SECOND)
        self._live.start()

    def _print(self, line: str) -> None:
        self._printed = self._clock()
        # Plain text, not markup: labels and reasons come from data and may hold brackets.
        self._console.print(Text(line), soft_wrap=True)

    def _trial_line(self, index: int, outcome: str, values: Mapping[str, float] | None, reason: str) -> str:
        head = f"trial {self._trials.done}/{self._trials.total}"
        if outcome != "measured":
            return f"{head} {outcome} (index {index}): {reason or 'no reason given'}"
        told = " ".join(f"{name} {number(value).replace(',', '')}" for name, value in (values or {}).items())
        return f"{head} {told} (front: {len(self._front)}){self._left(self._trials)}"

    def _plain_line(self, index: int, event: Event, seconds_left: float | None) -> str:
        """Return how far a training is, in one line."""
        name = f"trial {index}" if self._stage is None else self._stage.name
        return f"{name}: epoch {event.done}/{event.total}, loss {event.loss:.4g}{_told_left(seconds_left)}"

    def _left(self, work: _Work) -> str:
        return _told_left(work.seconds_left(self._clock()))

    @staticmethod
    def _no_forecast(work: _Work) -> str:
        return f"forecast after {work.lacking} more" if 0 < work.lacking < work.total - work.done else ""

    def _render(self) -> RenderableType:
        with self._lock:
            counting = self._trials.total or self._stage is not None
            parts: list[RenderableType] = [self._bars() if counting else self._waiting]
            if self._running:
                parts.append(self._running_lines())
            if self._rejected:
                text = f"rejected before training: {self._rejected:,}, last: {self._reason}"
                parts.append(Text(text, style="dim", no_wrap=True, overflow="ellipsis"))
            if self._front:
                parts.append(self._front_table())
            return Group(*parts)

    def _bars(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        width = max(_LEAST_BAR, min(_BAR_WIDTH, self._console.width - _BESIDE_BAR))
        for work in (self._trials, self._stage):
            if work is None or work.total == 0:
                continue
            elapsed = duration(self._clock() - work.started)
            left = self._left(work).strip() or self._no_forecast(work)
            bar = ProgressBar(total=work.total, completed=work.done, width=width)
            timing = f"{elapsed} elapsed{', ' if left else ''}{left}" if work.done < work.total else "done"
            grid.add_row(Text(work.name, style="bold"), bar, Text(f"{work.done}/{work.total}"), Text(timing))
        return grid

    def _running_lines(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        noun = "trial" if self._stage is None else "training"
        for index, running in sorted(self._running.items()):
            event = running.event
            loss = "" if event is None else f"loss {event.loss:.4g}"
            epochs = "starts" if event is None else f"epoch {event.done}/{event.total}"
            label = Text(running.label, style="dim", no_wrap=True, overflow="ellipsis")
            grid.add_row(Text(f"  {noun} {index}"), Text(epochs), Text(loss), label)
        return grid

    def _front_table(self) -> Table:
        rows = _thinned(self._front, _MOST_ROWS)
        columns = _fitting(rows, self._console.width, self._objectives)
        shown = "" if len(rows) == len(self._front) else f", {len(rows)} of them shown"
        table = Table(title=Text(f"front: {counted(len(self._front), 'point')}{shown}"), title_justify="left", box=None)
        for name in columns:
            style = "bold" if name in self._objectives else None
            table.add_column(Text(_heading(name, self._objectives)), justify="right", style=style, no_wrap=True)
        for row in rows:
            table.add_row(*(Text(_cell(name, row, self._objectives)) for name in columns))
        return table


def _told_left(seconds: float | None) -> str:
    return "" if seconds is None else f" about {rough_duration(seconds)} left"


def _cell(name: str, row: Row, objectives: tuple[str, ...]) -> str:
    value = row.get(name)
    return number(value) if name in objectives and isinstance(value, int | float) else setting(value)


def _heading(name: str, objectives: tuple[str, ...]) -> str:
    return title(name) if name in objectives else name


def _thinned(rows: Sequence[Row], most: int) -> list[Row]:
    return [rows[int(place)] for place in evenly_spread(len(rows), most)]


def _fitting(rows: Sequence[Row], width: int, objectives: tuple[str, ...]) -> list[str]:
    """Return the leading columns that the terminal is wide enough for."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    fitting: list[str] = []
    used = 0
    for name in names:
        texts = [_heading(name, objectives), *(_cell(name, row, objectives) for row in rows)]
        used += max(map(len, texts)) + 2
        if used > width:
            break
        fitting.append(name)
    return fitting
