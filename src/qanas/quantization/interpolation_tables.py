"""Functions as tables of 512 intervals, between which kernels of 16 bits interpolate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qanas.quantization.fixed_point_functions import Codes

LOW, HIGH = -(1 << 15), (1 << 15) - 1

INTERVALS = 512
"""Of a table; each takes 2^7 codes."""

INTERVAL_BITS = 7

Reals = NDArray[np.float64]


def _rounded(values: Reals) -> Reals:
    """Round to whole numbers, ties away from zero."""
    return np.copysign(np.floor(np.abs(values) + 0.5), values)


def interpolation_table(function: Callable[[Reals], Reals], low: float, high: float) -> Codes:
    """Return a function at the ends of 512 intervals in Q0.15, moved so that the middles are off by half as much."""
    step = (high - low) / INTERVALS
    starts = low + np.arange(INTERVALS, dtype=np.float64) * step
    first, middle, last = (function(starts + part * step) * 32768.0 for part in (0.0, 0.5, 1.0))
    excess = _rounded((last + _rounded(first)) / 2.0) - _rounded(middle)
    values: Reals = np.append(_rounded(first) - _rounded(excess / 2.0), _rounded(function(np.array([high])) * 32768.0))
    return np.clip(values, LOW, HIGH).astype(np.int64)


def interpolate(table: Codes, codes: Codes) -> Codes:
    """Return a table's function at codes."""
    interval = (codes >> INTERVAL_BITS) + INTERVALS // 2
    slope = table[interval + 1] - table[interval]
    within = codes & ((1 << INTERVAL_BITS) - 1)
    interpolated: Codes = table[interval] + ((slope * within + (1 << (INTERVAL_BITS - 1))) >> INTERVAL_BITS)
    return interpolated
