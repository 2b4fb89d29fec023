"""Ctrl-C waits for what must not be cut in two, and then takes effect."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from qanas.execution.interrupts import interrupts_deferred, interrupts_ignored, interrupts_raised


@pytest.fixture(autouse=True)
def interrupts_raise() -> Iterator[None]:
    """A shell starts background jobs with interrupts ignored."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_interrupt_takes_effect_after_the_work() -> None:
    done = []

    @interrupts_deferred()
    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        done.append("whole")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["whole"]


def test_the_handlers_are_those_of_before() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interrupts_deferred(), interrupts_deferred():
        pass
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_processes_started_inside_ignore_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_ignored():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_leave_signals_alone() -> None:
    def work() -> object:
        with interrupts_ignored(), interrupts_deferred():
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() is signal.getsignal(signal.SIGINT)


class Finalized:
    """Is told to stop while it is finalized, where Python drops exceptions."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_an_interrupt_that_python_drops_is_sent_again(capsys: pytest.CaptureFixture[str]) -> None:
    @interrupts_raised()
    def work() -> None:
        Finalized()
        time.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_ends_in_order_while_it_works_and_without_a_word_afterwards(number: signal.Signals) -> None:
    program = f"""
import signal
from qanas.execution.interrupts import interrupts_raised
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with interrupts_raised():
        signal.raise_signal({int(number)})
except KeyboardInterrupt:
    print("in order", flush=True)
signal.raise_signal({int(number)})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-number, "in order\n", "")


def test_background_jobs_go_on_ignoring_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts_raised():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
