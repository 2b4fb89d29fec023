"""The contract of executors, over every one that there is and over broken ones."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from qanas.execution.executors import Failure, InlineExecutor, ProcessExecutor, Unit
from qanas.testing import check_executor

if TYPE_CHECKING:
    from qanas.testing.executors import MakeExecutor


@pytest.mark.parametrize("make", [InlineExecutor, partial(ProcessExecutor, jobs=2)], ids=["inline", "processes"])
def test_it_keeps_the_contract(make: MakeExecutor) -> None:
    check_executor(make)


Finished = tuple[Unit[Any, Any], Any]


class Swapping(InlineExecutor[Any, Any]):
    """Gives a unit the result of the one before."""

    before: Any = 0

    def next_finished(self) -> Finished:
        unit, result = super().next_finished()
        self.before, given = result, self.before
        return unit, given


class Mute(InlineExecutor[Any, Any]):
    def __init__(self, bench: Any, watch: Any) -> None:  # noqa: ANN401
        super().__init__(bench, lambda _unit, _event: True)


class Fragile(InlineExecutor[Any, Any]):
    """Lets errors of units through."""

    def next_finished(self) -> Finished:
        unit = self._queue.popleft()
        return unit, unit.run(self._bench, lambda event: self._watch(unit, event))


class Wordy(InlineExecutor[Any, Any]):
    def next_finished(self) -> Finished:
        unit, result = super().next_finished()
        return unit, Failure(result.reason + "\n") if isinstance(result, Failure) and result.trace else result


class Threaded(InlineExecutor[Any, Any]):
    def __init__(self, bench: Any, watch: Any) -> None:  # noqa: ANN401
        super().__init__(bench, watch)
        torch.set_num_threads(2)


class Keeping(InlineExecutor[Any, Any]):
    def close(self) -> None:
        """Leave torch with one thread."""


class Endless(InlineExecutor[Any, Any]):
    @property
    def room(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Swapping, "Every unit's result is its own"),
        (Mute, "The watch is told of every event"),
        (Fragile, "no other unit is lost: TrainingFailed: the loss is NaN"),
        (Wordy, "the reason of an error is"),
        (Threaded, "a unit has 2 threads"),
        (Keeping, "this process had 2 threads, then 1"),
        (Endless, "with one unit it is 1 of 1"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_broken_one_is_caught(make: MakeExecutor, told: str) -> None:
    threads = torch.get_num_threads()
    with pytest.raises(AssertionError) as caught:
        check_executor(make)
    assert told in str(caught.value)
    assert torch.get_num_threads() == threads
