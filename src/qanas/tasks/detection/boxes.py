"""Boxes of a picture as rows of numbers, and how a picture lies in a network's input.

The targets of a picture are an array of shape (rows, 7) in pixels of the picture, so that they say all that there is to
say whatever the network's input is, and batches of them are tensors:

    row 0       the picture itself: 0, 0, width, height
    other rows  left, top, right, bottom, class, kind, area; rows that aren't needed are zeros (`NOTHING`)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.core.overlaps import Floats, overlaps
from qanas.tasks.samples import FloatArray

Fitting = Literal["stretch", "letterbox"]

COLUMNS = 7
CLASS, KIND, AREA = 4, 5, 6

NOTHING, OBJECT, IGNORED, PICTURE = 0.0, 1.0, 2.0, 3.0
"""Kinds of rows. What is ignored, such as a crowd or what annotators called difficult, is a region in which an answer
is neither right nor wrong."""


def target_rows(size: tuple[int, int], boxes: NDArray[np.float64], rows: int) -> FloatArray:
    """Return a picture's targets, shape (rows, 7).

    Args:
        size: height and width of the picture.
        boxes: shape (boxes, 7), fewer than ``rows``.
        rows: how many there are to be.
    """
    targets = np.zeros((rows, COLUMNS), np.float32)
    targets[0] = (0, 0, size[1], size[0], 0, PICTURE, size[0] * size[1])
    targets[1 : 1 + len(boxes)] = boxes
    return targets


def placed(size: tuple[int, int], picture: tuple[float, float], fit: Fitting) -> tuple[float, float, float, float]:
    """Return how a picture's pixels become the input's: factors right and down, and offsets to the right and down.

    Args:
        size: height and width of the input.
        picture: likewise of the picture.
        fit: "stretch": it fills the input; "letterbox": it keeps its proportions, in the middle.

    >>> placed((100, 200), (50, 50), "stretch"), placed((100, 200), (50, 50), "letterbox")
    ((4.0, 2.0, 0.0, 0.0), (2.0, 2.0, 50.0, 0.0))
    """
    across, down = size[1] / picture[1], size[0] / picture[0]
    if fit == "stretch":
        return across, down, 0.0, 0.0
    # Whole pixels, as the picture is drawn: see `qanas.tasks.detection.images`.
    height, width = letterboxed(size, picture)
    left, top = (size[1] - width) // 2, (size[0] - height) // 2
    return width / picture[1], height / picture[0], float(left), float(top)


def letterboxed(size: tuple[int, int], picture: tuple[float, float]) -> tuple[int, int]:
    """Return the height and width of a picture in a letterbox, whole pixels of the input, at least one."""
    scale = min(size[1] / picture[1], size[0] / picture[0])
    return max(1, round(picture[0] * scale)), max(1, round(picture[1] * scale))


def kept_by_suppression(boxes: Floats, classes: Sequence[int] | NDArray[np.int64], most_overlap: float) -> list[int]:
    """Return which boxes are left where each suppresses later ones of its class that overlap it, in their order.

    Args:
        boxes: the best first, shape (n, 4).
        classes: shape (n,).
        most_overlap: intersection over union above which the later one goes.
    """
    kinds = np.asarray(classes)
    clash = (overlaps(boxes, boxes) > most_overlap) & (kinds[:, None] == kinds[None])
    alive, kept = np.ones(len(boxes), bool), []
    for place in range(len(boxes)):
        if alive[place]:
            kept.append(place)
            alive[place + 1 :] &= ~clash[place, place + 1 :]
    return kept


LEAST_VISIBLE = 0.3
"""The share of an object that has to be left in a part of its picture; what is left of it with less is ignored."""


def cut(targets: Tensor, corners: Tensor, bounds: Tensor) -> Tensor:
    """Return targets that are seen in part: boxes within bounds, and of what kind they are then.

    Args:
        targets: shape (..., 7).
        corners: of the whole boxes, shape (..., 4).
        bounds: left, top, right, bottom of what is seen, shape (4,).
    """
    low, high = corners[..., :2], corners[..., 2:]
    inside = torch.cat([torch.minimum(torch.maximum(own, bounds[:2]), bounds[2:]) for own in (low, high)], -1)
    visible = (inside[..., 2:] - inside[..., :2]).prod(-1) / (high - low).prod(-1).clamp(min=1e-9)
    kinds = targets[..., KIND]
    left = torch.where(visible >= LEAST_VISIBLE, kinds, torch.full_like(kinds, IGNORED))
    left = torch.where(visible > 0, left, torch.full_like(kinds, NOTHING))
    kinds = torch.where((kinds == OBJECT) | (kinds == IGNORED), left, kinds)
    return torch.cat([inside, targets[..., 4:KIND], kinds[..., None], targets[..., KIND + 1 :]], -1)
