"""The contract of an executor."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from qanas.core.errors import TrainingFailed
from qanas.core.events import Event, Watch
from qanas.execution.executors import Executor, Failure, Unit, WatchUnit
from qanas.testing.properties import expect, hold

BENCH = {"factor": 3}
"""What the units here work on."""

EVENTS = 3
LONG = 60_000
"""Events of a unit that doesn't stop: a minute's."""

THREADS = 2


class MakeExecutor(Protocol):
    """Makes an executor: its class, with all other arguments given."""

    def __call__(self, *, bench: Any, watch: WatchUnit) -> Executor[Any, Any]:  # noqa: ANN401 - as `Executor`'s
        """Return an executor of units that work on ``bench``, whose events ``watch`` is told of."""


@dataclass(frozen=True)
class Multiply(Unit[dict[str, int], int]):
    """Multiplies a number by the bench's."""

    number: int

    def run(self, bench: dict[str, int], watch: Watch) -> int:
        """Tell of a few events, and return the product."""
        for done in range(1, EVENTS + 1):
            watch(Event(done, EVENTS, float(self.number)))
        return self.number * bench["factor"]


@dataclass(frozen=True)
class GoOn(Unit[dict[str, int], int]):
    """Goes on until it is told to stop, or very long."""

    def run(self, bench: dict[str, int], watch: Watch) -> int:
        """Return how many events it told of."""
        del bench
        for done in range(1, LONG + 1):
            if not watch(Event(done, LONG, 0.0)):
                return done
            time.sleep(0.001)
        return LONG


@dataclass(frozen=True)
class Fail(Unit[dict[str, int], int]):
    """Raises."""

    error: Exception

    def run(self, bench: dict[str, int], watch: Watch) -> int:
        """Raise."""
        del bench, watch
        raise self.error


@dataclass(frozen=True)
class Die(Unit[dict[str, int], int]):
    """Ends its process."""

    def run(self, bench: dict[str, int], watch: Watch) -> int:
        """End the process at once."""
        del bench, watch
        os._exit(7)


def _refuse() -> Unit[Any, Any]:
    raise LookupError("its class is not here")


@dataclass(frozen=True)
class Unreadable(Unit[dict[str, int], int]):
    """Can't be read in another process."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as something that raises."""
        return _refuse, ()

    def run(self, bench: dict[str, int], watch: Watch) -> int:
        """Do nothing."""
        del bench, watch
        return 0


@dataclass(frozen=True)
class WhereAmI(Unit[dict[str, int], tuple[int, int]]):
    """Says in which process it runs, and on how many of torch's threads."""

    def run(self, bench: dict[str, int], watch: Watch) -> tuple[int, int]:
        """Return both."""
        del bench, watch
        return os.getpid(), torch.get_num_threads()


class ExecutorCase:
    """An executor that all properties but the last share: starting workers takes seconds.

    Args:
        make: makes it.
    """

    def __init__(self, make: MakeExecutor) -> None:
        """Open it."""
        self.make = make
        self.told: dict[Any, list[Event]] = {}
        self.threads = torch.get_num_threads()
        torch.set_num_threads(THREADS)
        self.executor = make(bench=BENCH, watch=self._watch)

    def _watch(self, unit: Unit[Any, Any], event: Event) -> bool:
        self.told.setdefault(unit, []).append(event)
        return not isinstance(unit, GoOn)

    def results(self, units: Sequence[Unit[Any, Any]]) -> dict[Any, Any]:
        """Return every unit's result."""
        self.told.clear()
        found = list(self.executor.work_off(units))
        expect(len(found) == len(units), f"{len(units)} units, {len(found)} results")
        return dict(found)

    def close(self) -> None:
        """Leave this process as it was."""
        self.executor.close()
        torch.set_num_threads(self.threads)


def check_executor(make: MakeExecutor) -> None:
    """Hold an executor against its contract, see `qanas.execution.executors`.

    Args:
        make: makes one for a bench and a watch, such as ``partial(ProcessExecutor, jobs=2)``.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    made: Any = getattr(make, "func", make)
    case = ExecutorCase(make)
    try:
        hold(getattr(made, "__name__", type(made).__name__), case, PROPERTIES)
    finally:
        case.close()


def results_are_the_units(case: ExecutorCase) -> None:
    """Every unit's result is its own, whatever the order in which they are submitted."""
    units = [Multiply(number) for number in range(5)]
    expected = {unit: unit.number * BENCH["factor"] for unit in units}
    for order in (units, units[::-1]):
        found = case.results(order)
        expect(found == expected, f"{found} instead of {expected}")


def events_arrive(case: ExecutorCase) -> None:
    """The watch is told of every event of every unit, in the order in which the unit told them."""
    units = [Multiply(number) for number in range(3)]
    case.results(units)
    for unit in units:
        expected = [Event(done, EVENTS, float(unit.number)) for done in range(1, EVENTS + 1)]
        expect(case.told.get(unit) == expected, f"of {unit} it was told {case.told.get(unit)}")
    expect(len(case.told) == len(units), f"it was told of {sorted(map(str, case.told))}")


def a_unit_stops(case: ExecutorCase) -> None:
    """A unit whose watch says stop learns of it, and what it has so far is its result; the next one isn't stopped."""
    found = case.results([GoOn(), Multiply(1)])
    expect(found[GoOn()] < LONG, f"it told of all {LONG} events, though the watch said stop at each")
    expect(found[Multiply(1)] == BENCH["factor"], f"the next one has {found[Multiply(1)]}")


def a_failing_unit_fails_alone(case: ExecutorCase) -> None:
    """A unit that raises has a `Failure` with its reason in one line; no other unit is lost."""
    known, unknown = Fail(TrainingFailed("the loss is NaN")), Fail(ArithmeticError("two\nlines"))
    logger = logging.getLogger("qanas")  # where an executor writes the trace of an error that nobody expected
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        found = case.results([Multiply(1), known, Multiply(2), unknown, Multiply(3)])
    finally:
        logger.setLevel(level)
    expect([found[Multiply(number)] for number in (1, 2, 3)] == [3, 6, 9], f"the others have {found}")
    expect(found[known] == Failure("the loss is NaN"), f"a failed training is {found[known]!r}")
    expect(isinstance(found[unknown], Failure), f"an error is {found[unknown]!r}")
    reason = found[unknown].reason
    expect("ArithmeticError" in reason and "\n" not in reason, f"the reason of an error is {reason!r}")
    expect(found[unknown].trace, "an error that nobody expected has no trace")


def a_dying_worker_fails_its_unit_alone(case: ExecutorCase) -> None:
    """Where units run elsewhere, one whose process dies, or can't read it, has a `Failure`; no other unit is lost."""
    ((process, _),) = case.results([WhereAmI()]).values()
    if process != os.getpid():
        found = case.results([Multiply(1), Die(), Multiply(2), Unreadable(), Multiply(3)])
        expect(isinstance(found[Die()], Failure), f"it is {found[Die()]!r}")
        reason = getattr(found[Unreadable()], "reason", "")
        expect("its class is not here" in reason, f"one that can't be read there is {found[Unreadable()]!r}")
        expect([found[Multiply(number)] for number in (1, 2, 3)] == [3, 6, 9], f"the others have {found}")


def room_is_kept(case: ExecutorCase) -> None:
    """There is room for a unit at first, less with each that is submitted, and again once one has ended."""
    executor = case.executor
    room = executor.room
    expect(room >= 1, f"at first the room is {room}")
    executor.submit(Multiply(1))
    expect(executor.room == room - 1, f"with one unit it is {executor.room} of {room}")
    executor.next_finished()
    expect(executor.room == room, f"once it ended it is {executor.room} of {room}")


def sums_round_alike(case: ExecutorCase) -> None:
    """Units compute on one of torch's threads."""
    ((_, threads),) = case.results([WhereAmI()]).values()
    expect(threads == 1, f"a unit has {threads} threads")


def closing_leaves_nothing_behind(case: ExecutorCase) -> None:
    """Closing ends with a unit under way, can be done twice, and gives this process its threads back."""
    case.executor.submit(Multiply(1))
    case.executor.close()
    case.executor.close()
    threads = torch.get_num_threads()
    expect(threads == THREADS, f"this process had {THREADS} threads, then {threads}")


PROPERTIES = (
    results_are_the_units,
    events_arrive,
    a_unit_stops,
    a_failing_unit_fails_alone,
    a_dying_worker_fails_its_unit_alone,
    room_is_kept,
    sums_round_alike,
    closing_leaves_nothing_behind,
)
"""What an executor owes."""
