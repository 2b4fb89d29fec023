"""Units that several coordinators share: each is done by whoever holds it, and known by what it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qanas.core.events import Watch
from qanas.execution.executors import Failure, InlineExecutor, Unit
from qanas.execution.sharing import one_at_a_time, work_off_shared


@dataclass(frozen=True)
class Leave(Unit[set[int], int]):
    number: int

    def run(self, bench: set[int], watch: Watch) -> int:
        """Leave the number."""
        del watch
        if self.number < 0:
            raise ValueError("it fails")
        bench.add(self.number)
        return self.number


@dataclass
class Others:
    """Somebody else, who holds units, and ends with one of them each time that is waited for."""

    left: set[int]
    hold: list[int]
    held: set[str] = field(default_factory=set)

    def claim(self, unit: str) -> bool:
        if int(unit) in self.hold or unit in self.held:
            return False
        self.held.add(unit)
        return True

    def release(self, unit: str) -> None:
        self.held.remove(unit)

    def wait(self) -> None:
        self.left.add(self.hold.pop())


def worked_off(left: set[int], others: Others, *numbers: int) -> list[tuple[int, Any]]:
    def name(unit: Unit[Any, Any]) -> str:
        assert isinstance(unit, Leave)
        return str(unit.number)

    def is_done(unit: Unit[Any, Any]) -> bool:
        return int(name(unit)) in left

    with InlineExecutor[set[int], int](left, lambda _unit, _event: True) as executor:
        ended = work_off_shared(executor, [Leave(number) for number in numbers], others, name, is_done)
        return [(int(name(unit)), result) for unit, result in ended]


def test_what_others_hold_is_waited_for_and_not_done_again() -> None:
    left: set[int] = set()
    others = Others(left, [2, 4])
    assert worked_off(left, others, 1, 2, 3, 4) == [(1, 1), (3, 3), (4, None), (2, None)]
    assert left == {1, 2, 3, 4}
    assert not others.held


def test_what_others_hold_and_did_not_do_is_done() -> None:
    left: set[int] = set()
    others = Others(set(), [2])  # who has died: it leaves nothing here
    assert worked_off(left, others, 2) == [(2, 2)]


def test_a_unit_that_fails_is_given_back() -> None:
    left: set[int] = set()
    others = Others(left, [])
    ((number, result),) = worked_off(left, others, -1)
    assert number == -1
    assert isinstance(result, Failure)
    assert not others.held


def test_one_at_a_time() -> None:
    others = Others(set(), [7])
    with one_at_a_time(others, "7"):
        assert others.left == {7}
        assert others.held == {"7"}
    assert not others.held
