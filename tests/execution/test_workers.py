"""Worker processes that end badly, or leave what can't be sent."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import pytest

from qanas.core.errors import InputError, TrainingFailed
from qanas.execution import executors
from qanas.execution.executors import Failure, ProcessExecutor, Unit

if TYPE_CHECKING:
    from pathlib import Path

    from qanas.core.events import Watch

LONG = 8 << 20
"""Bytes of a result that no pipe takes at once."""


@dataclass(frozen=True)
class Long(Unit[Any, bytes]):
    """Returns more than a pipe takes, and says in a file where it runs."""

    place: Path

    def run(self, bench: Any, watch: Watch) -> bytes:  # noqa: ANN401
        del bench, watch
        with self.place.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return b"x" * LONG


def test_one_that_is_killed_in_the_middle_of_its_result_does_it_again(tmp_path: Path) -> None:
    unit = Long(tmp_path / "processes")
    with ProcessExecutor[Any, bytes](None, 1, lambda *_: True) as executor:
        executor.submit(unit)
        while not unit.place.exists() or not unit.place.read_text().endswith("\n"):
            time.sleep(0.05)
        time.sleep(0.5)  # by now it waits for somebody who reads
        os.kill(int(unit.place.read_text()), signal.SIGKILL)
        _, result = executor.next_finished()
    assert result == b"x" * LONG
    assert len(unit.place.read_text().split()) == 2


@dataclass(frozen=True)
class Unsendable(Unit[Any, Any]):
    """Returns what no other process can be given."""

    place: Path

    def run(self, bench: Any, watch: Watch) -> Any:  # noqa: ANN401
        del bench, watch
        with self.place.open("a") as file:
            file.write("once\n")
        return lambda: None


def test_a_result_that_cannot_be_sent_is_a_failure_and_is_not_made_again(tmp_path: Path) -> None:
    unit = Unsendable(tmp_path / "runs")
    with ProcessExecutor[Any, Any](None, 1, lambda *_: True) as executor:
        executor.submit(unit)
        _, result = executor.next_finished()
    assert isinstance(result, Failure)
    assert "pickle" in result.reason
    assert unit.place.read_text() == "once\n"


@dataclass(frozen=True)
class Deaf(Unit[Any, int]):
    """Stops its own process, which no signal but one ends then."""

    def run(self, bench: Any, watch: Watch) -> int:  # noqa: ANN401
        del bench, watch
        os.kill(os.getpid(), signal.SIGSTOP)
        return 0


def test_a_stopped_one_does_not_keep_the_rest_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "END_S", 0.2)
    executor = ProcessExecutor[Any, int](None, 1, lambda *_: True)
    executor.submit(Deaf())
    (connection,) = executor._busy
    assert connection.poll(60)  # it has begun
    time.sleep(0.3)
    executor.close()
    assert not executor._busy


def test_a_reason_is_one_line_that_any_file_holds() -> None:
    assert Failure.of(TrainingFailed("no file\n b\udcff")) == Failure("no file b\\udcff")
    assert "b\\udcff" in Failure.of(OSError("b\udcff")).reason


@pytest.mark.parametrize("unsendable", [lambda: None, Lock(), sys.__stderr__], ids=["lambda", "lock", "file"])
def test_what_cannot_be_given_to_a_worker_is_told_in_a_line(unsendable: Any) -> None:  # noqa: ANN401
    for bench, unit in ((unsendable, Deaf()), (None, Unsendable(unsendable))):
        with (
            ProcessExecutor[Any, Any](bench, 2, lambda *_: True) as executor,
            pytest.raises(InputError, match=r"^estimation\.jobs: .* can't be given .*pickle.*or set it to 1$"),
        ):
            executor.submit(unit)
        assert not executor._busy
