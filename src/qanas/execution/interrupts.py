"""Work that Ctrl-C must not cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

DEFERRED = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C inside, and so in the processes that are started inside, for their whole life.

    Only the main thread can say what becomes of a signal; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Let interrupts wait until the work inside is done; also a decorator.

    A database connection that an exception cuts off in the middle reports so on stderr. Signals reach the main thread
    only, so that elsewhere there is nothing to defer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        del frame
        pending.append(number)

    before = {number: signal.signal(number, remember) for number in DEFERRED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        for arrived in pending:
            signal.raise_signal(arrived)
