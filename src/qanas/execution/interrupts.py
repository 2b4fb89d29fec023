"""Work that Ctrl-C must not cut in two."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

DEFERRED = (signal.SIGINT, signal.SIGTERM)
AGAIN_S = 0.01


@contextmanager
def interrupts_raised() -> Iterator[None]:
    """Let SIGTERM end what is inside as Ctrl-C does, by a KeyboardInterrupt, wherever it arrives; main thread only.

    Python drops an exception that is raised inside a finalizer or a weak reference's callback: it is printed as
    "ignored", and the work would go on as if nobody had asked it to stop. Such an interrupt is sent again. Afterwards
    both signals end the process without a word, for then there is nothing left to stop in order.
    """
    said_before, main_thread = sys.unraisablehook, threading.get_ident()

    def send_again(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            said_before(dropped)
            return
        timer = threading.Timer(AGAIN_S, signal.pthread_kill, (main_thread, signal.SIGTERM))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.unraisablehook = send_again
    try:
        yield
    finally:
        for number in DEFERRED:
            if signal.getsignal(number) is signal.default_int_handler:  # a shell's background jobs ignore Ctrl-C
                signal.signal(number, signal.SIG_DFL)
        sys.unraisablehook = said_before


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
