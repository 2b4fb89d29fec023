"""Work that several coordinators share: who does which unit. What comes out lies where all of them see it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from qanas.execution.executors import Executor, Failure, Unit

C = TypeVar("C")
R = TypeVar("R")


class Sharing(Protocol):
    """Hands units of work out, each to one coordinator at a time.

    A unit is held by whoever claimed it until it is released, or its holder is given up for dead.
    """

    def claim(self, unit: str) -> bool:
        """Take a unit; false where somebody else holds it."""

    def release(self, unit: str) -> None:
        """Give a unit back; whether it is done, what it left tells."""

    def wait(self) -> None:
        """Wait a little for others."""


class Alone:
    """Nobody shares: every unit is this coordinator's."""

    def claim(self, unit: str) -> bool:
        """Take it."""
        del unit
        return True

    def release(self, unit: str) -> None:
        """Nobody else takes it."""

    def wait(self) -> None:
        """There is nobody to wait for."""


ALONE = Alone()


def work_off_shared(
    executor: Executor[C, R],
    units: Sequence[Unit[C, R]],
    sharing: Sharing,
    name: Callable[[Unit[C, R]], str],
    is_done: Callable[[Unit[C, R]], bool],
) -> Iterator[tuple[Unit[C, R], R | Failure | None]]:
    """Run the units that nobody else does; yield each as it ends, without a result where somebody else did it.

    Args:
        executor: runs them.
        units: none of which was done before.
        sharing: hands them out.
        name: of a unit, the same for all coordinators.
        is_done: tells whether a unit has left what it leaves.
    """
    waiting, running = deque(units), 0
    while waiting or running:
        for _ in range(len(waiting)):
            if not executor.room:
                break
            unit = waiting.popleft()
            if not sharing.claim(name(unit)):
                waiting.append(unit)
            elif sharing is not ALONE and is_done(unit):  # by whoever held it before
                sharing.release(name(unit))
                yield unit, None
            else:
                executor.submit(unit)
                running += 1
        if running:
            unit, result = executor.next_finished()
            running -= 1
            sharing.release(name(unit))
            yield unit, result
        elif waiting:
            sharing.wait()


@contextmanager
def one_at_a_time(sharing: Sharing, name: str) -> Iterator[None]:
    """Let one coordinator at a time do what is inside; the others wait."""
    while not sharing.claim(name):
        sharing.wait()
    try:
        yield
    finally:
        sharing.release(name)
