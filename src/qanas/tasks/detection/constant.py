"""What a detector answers that hasn't looked: boxes of the usual size where objects usually are."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from qanas.tasks.detection.boxes import KIND, OBJECT, Fitting
from qanas.tasks.detection.decoding import BOX, CLASSES, OBJECTNESS
from qanas.tasks.detection.images import in_shares
from qanas.tasks.samples import FloatArray

_MIDDLE = np.arctanh(0.5)
"""The raw number of the middle of a cell."""


def mean_boxes(
    targets: FloatArray, size: tuple[int, int], fit: Fitting, shape: tuple[int, ...]
) -> dict[str, FloatArray]:
    """Return a sample's raw outputs by name, each of shape (channels, h, w).

    Objectness is how often an object's centre is in the cell or in one beside it, boxes have the median size.

    Args:
        targets: of training, shape (n, rows, 7).
        size: height and width of the input.
        fit: how pictures lie in it.
        shape: of all outputs behind each other: channels, h, w.
    """
    channels, rows, columns = shape
    shares = in_shares(torch.from_numpy(np.array(targets)), size, fit).numpy()
    objects = shares[shares[:, :, KIND] == OBJECT].astype(np.float64)
    middles = (objects[:, :2] + objects[:, 2:4]) / 2
    counts = np.zeros((rows + 2, columns + 2))
    column, row = (np.clip((middles[:, axis] * (columns, rows)[axis]).astype(int), 0, None) for axis in (0, 1))
    np.add.at(counts, (np.minimum(row, rows - 1) + 1, np.minimum(column, columns - 1) + 1), 1)
    near = sum(counts[down : down + rows, right : right + columns] for down in range(3) for right in range(3))
    often = _logit((near + 0.5) / (len(shares) * 9 + 1))
    wide, tall = np.median(objects[:, 2:4] - objects[:, :2], axis=0)
    box = np.broadcast_to(np.array([_MIDDLE, _MIDDLE, _logit(wide), _logit(tall)])[:, None, None], (4, rows, columns))
    found = {OBJECTNESS: often[None], BOX: box}
    if channels > 5:  # noqa: PLR2004 - objectness and box
        classes = np.bincount(objects[:, 4].astype(int), minlength=channels - 5)
        found[CLASSES] = np.broadcast_to(np.log(classes + 1.0)[:, None, None], (channels - 5, rows, columns))
    return {name: values.astype(np.float32) for name, values in found.items()}


def _logit(share: NDArray[np.float64] | float) -> NDArray[np.float64]:
    clipped = np.clip(np.asarray(share, np.float64), 1e-4, 1 - 1e-4)
    found: NDArray[np.float64] = np.log(clipped / (1 - clipped))
    return found
