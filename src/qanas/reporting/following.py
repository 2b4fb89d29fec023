"""The report of a run that goes on: written early, and anew as things are finished."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qanas.reporting.report import write_report

if TYPE_CHECKING:
    from qanas.core.run_folder import RunFolder

SECONDS = 10.0
"""Between two reports, at least."""

SHARE = 0.02
"""Of a run's time that its reports may take: one that takes a second is written every fifty."""

logger = logging.getLogger("qanas")


def opened(page: Path) -> str:
    """Open a page in a browser, and say so; where there is none, or only one of the terminal, say where the page is."""
    address = page.absolute().as_uri()
    graphical = sys.platform in {"darwin", "win32"} or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    try:
        shown = bool(graphical) and webbrowser.open(address)
    except webbrowser.Error:
        shown = False
    return f"opened {address}" if shown else f"no browser here: open {address}"


class FollowingReport:
    """Writes a run's report while the run goes on.

    Args:
        folder: of the run.
        there: called once the first one is there.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        folder: RunFolder,
        there: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The first one is due at once."""
        self._folder = folder
        self._there: Callable[[], None] | None = there
        self._clock = clock
        self._next = -math.inf

    def due(self) -> bool:
        """Tell whether the last report is old enough."""
        return self._clock() >= self._next

    def show(self, doing: str) -> None:
        """Write a report that follows the run; where that can't be, the run goes on without.

        Args:
            doing: what the run does.
        """
        started = self._clock()
        try:
            write_report(self._folder, doing)
        except Exception as error:  # noqa: BLE001 - a report is no reason to end a search
            logger.warning("report.html does not follow the run: %s", error)
            self._next = math.inf
            return
        there, self._there = self._there, None
        if there is not None:
            there()
        ended = self._clock()
        self._next = ended + max(SECONDS, (ended - started) / SHARE)

    def end(self) -> None:
        """Write the report of a run that ended early: it follows nothing."""
        if self._next == math.inf:
            return
        try:
            write_report(self._folder)
        except Exception as error:  # noqa: BLE001 - what ended the run is told, not this
            logger.warning("report.html could not be written: %s", error)
