"""Short forms of the fault bench; `benchmarks/faults.py` has them by the hundred, at random moments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "benchmarks" / "faults.py"


def bench(*arguments: str) -> str:
    command = [sys.executable, str(BENCH), "--short", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow  # signals one by one are in tests/execution/test_interrupts.py and tests/cli/test_resume.py
def test_signals_at_counted_moments_lose_nothing() -> None:
    assert "signals, counted moments                  2          0          0" in bench("--only", "counted")


@pytest.mark.slow
def test_nothing_is_lost_or_twice_or_wrong() -> None:
    assert "two processes" in bench()
