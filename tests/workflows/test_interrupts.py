"""Ctrl-C waits for what must not be cut in two, and then takes effect."""

import os
import signal

import pytest

from qanas.workflows.interrupts import interrupts_deferred


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
