"""How boxes overlap: rows of left, top, right, bottom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def areas(boxes: Floats) -> Floats:
    """Return the areas of boxes, shape (n,), of left, top, right, bottom, shape (n, 4)."""
    found: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return found


def overlaps(boxes: Floats, others: Floats, regions: NDArray[np.bool_] | None = None) -> Floats:
    """Return intersection over union of every pair, shape (n, m).

    Args:
        boxes: shape (n, 4).
        others: shape (m, 4).
        regions: which of the others are regions, shape (m,): there it is the share of the box that is within.
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:4], others[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    own = areas(boxes)[:, None]
    union = own + areas(others)[None] - shared
    if regions is not None:
        union = np.where(regions[None], own, union)
    found: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found
