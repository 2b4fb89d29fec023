"""Some of many, spread evenly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly_spread(size: int, count: int) -> NDArray[np.intp]:
    """Return positions spread evenly over ``size`` places, the first and the last among them, shape (chosen,).

    Args:
        size: how many places there are.
        count: how many to choose; all where there are fewer.

    >>> evenly_spread(10, 4)
    array([0, 3, 6, 9])
    >>> evenly_spread(3, 5), evenly_spread(0, 5)
    (array([0, 1, 2]), array([], dtype=int64))
    """
    return np.linspace(0, size - 1, min(size, count)).astype(np.intp)
