"""Windows of series, and what they are in a few numbers a sensor: mean, slope, deviation, last value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.samples import FloatArray

Integers = NDArray[np.int64]
FeatureNames = Literal["none", "mean", "mean+slope", "mean+slope+deviation", "mean+slope+deviation+last"]
LONGEST_WINDOW = 512


def slope_weights(window: int) -> NDArray[np.float64]:
    """Return what a window's values are weighted with for its slope times its length, oldest first, shape (window,).

    The slope is that of the least-squares line; times the length, it is of the size of the values themselves.

    >>> slope_weights(3).tolist()
    [-1.5, 0.0, 1.5]
    """
    steps = np.arange(window) - (window - 1) / 2
    return np.asarray(steps * window / max(float(steps @ steps), 1e-12), np.float64)


def describe_windows(windows: FloatArray, features: Sequence[str], mean_window: int) -> FloatArray:
    """Return the features of windows.

    Args:
        windows: shape (windows, cycles, sensors).
        features: "mean", "slope", "deviation", "last".
        mean_window: cycles that mean and deviation are over.

    Returns:
        Shape (windows, features * sensors): the first feature of every sensor, then the second, and so on.
    """
    exact = windows.astype(np.float64)
    late = exact[:, -mean_window:]
    slopes = np.einsum("wcs,c->ws", exact, slope_weights(windows.shape[1]))
    known = {"mean": late.mean(axis=1), "slope": slopes, "deviation": late.std(axis=1), "last": exact[:, -1]}
    described: FloatArray = np.concatenate([known[name] for name in features], axis=1).astype(np.float32)
    return described


_FORMULAS = {
    "mean": "mean of the last mean_cycles",
    "slope": "sum over the window's cycles, oldest first, of slope_weights times the sensor",
    "deviation": "standard deviation (of the population) of the last mean_cycles",
    "last": "the last cycle",
}


def feature_notes(features: Sequence[str], window: int, mean_window: int, sensors: int) -> dict[str, Any]:
    """Return how features are computed from standardised sensors, and what that costs: no model's costs count it.

    Args:
        features: in their order.
        window: cycles.
        mean_window: cycles that mean and deviation are over.
        sensors: how many.
    """
    late = min(mean_window, window)
    cycles = window if "slope" in features else late
    notes: dict[str, Any] = {
        "features": {name: _FORMULAS[name] for name in features},
        "mean_cycles": late,
        "input": "features in the order above, each of all kept sensors in turn",
        "outside_the_model": {
            "buffer_values": cycles * sensors,
            "multiply_adds": sensors * feature_multiply_adds(features, window, mean_window),
        },
    }
    return notes | ({"slope_weights": slope_weights(window).tolist()} if "slope" in features else {})


def feature_multiply_adds(features: Sequence[str], window: int, mean_window: int) -> int:
    """Return how many multiply-adds the features of one sensor take."""
    late = min(mean_window, window)
    each = {"mean": late, "slope": window, "deviation": 2 * late, "last": 0}
    return sum(each[name] for name in features)


def cut_windows(features: FloatArray, first: Integers, ends: Integers, window: int, thinning: int = 1) -> FloatArray:
    """Cut out windows; the first row of a series is repeated in front of windows that reach back before it.

    Args:
        features: shape (rows, sensors).
        first: the first row of the series of each window, shape (windows,).
        ends: the last row of each window, shape (windows,).
        window: rows.
        thinning: of a window's rows, every so many-th is kept, counted back from its last one.

    Returns:
        Shape (windows, steps, sensors), contiguous; steps = ceil(window / thinning).
    """
    rows = ends[:, None] - np.arange(0, window, thinning)[::-1]
    return np.ascontiguousarray(features[np.maximum(rows, first[:, None])])
