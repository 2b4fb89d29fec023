"""Which samples a model is most wrong about."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.classes import FEWEST_CLASSES


def misclassified(outputs: NDArray[Any], targets: NDArray[Any], most: int) -> NDArray[np.intp] | None:
    """Return the samples whose class a model gets wrong, those first of which it is surest, shape (wrong,).

    None where outputs are not a number a class, and targets not a class a sample.

    Args:
        outputs: shape (n, classes), the largest is the answer.
        targets: true classes, n of them.
        most: how many at most.
    """
    if not isinstance(outputs, np.ndarray) or outputs.ndim != FEWEST_CLASSES or outputs.shape[1] < FEWEST_CLASSES:
        return None
    true = np.asarray(targets)
    if true.dtype.kind not in "iu" or true.size != len(outputs):
        return None
    true = true.reshape(-1).astype(np.int64)
    counted = (true >= 0) & (true < outputs.shape[1])
    rows = np.flatnonzero(counted & (outputs.argmax(axis=1) != true))
    margins = outputs[rows].max(axis=1) - outputs[rows, true[rows]]
    return rows[np.argsort(-margins, kind="stable")][:most]


def furthest(outputs: NDArray[np.float64], targets: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Return the samples with the largest error, the worst first; what has none is left out, shape (found,).

    Args:
        outputs: shape (n,).
        targets: likewise.
        most: how many at most.
    """
    errors = np.abs(outputs - targets)
    known = np.flatnonzero(np.isfinite(errors))
    return known[np.argsort(-errors[known], kind="stable")][:most]
