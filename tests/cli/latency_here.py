"""Imported for what it does: the latency of runs is had in this process, see `tests.latency_in_process`."""

import sys
from pathlib import Path

_ROOT = str(Path(__file__).parents[2])

sys.path.insert(0, _ROOT)
from tests.latency_in_process import install  # noqa: E402 - where it is, had to be said

sys.path.remove(_ROOT)
install()
