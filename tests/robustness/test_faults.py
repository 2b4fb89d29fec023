"""The short form of the fault bench: one of each kind; `benchmarks/faults.py` has them by the hundred."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "benchmarks" / "faults.py"
SHORT = ("--kills", "1", "--damages", "2", "--sizes", "1", "--locked", "2")


def test_nothing_is_lost_or_twice_or_wrong() -> None:
    done = subprocess.run([sys.executable, BENCH, *SHORT], capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "two processes" in done.stdout
