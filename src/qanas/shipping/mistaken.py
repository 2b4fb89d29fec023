"""Inputs that a model takes for another class than theirs, as pictures for the report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.mistakes import misclassified
from qanas.tasks.base import Outputs
from qanas.tasks.samples import Split

KEPT = 6
LONGEST_SIDE = 256
"""Pixels; of larger inputs every second, third, ... row and column is kept."""

COLOURS = 3


def mistaken_inputs(outputs: Outputs, split: Split) -> dict[str, NDArray[Any]]:
    """Return the samples that a model is most surely wrong about, and their inputs, as ``predictions.npz`` has them.

    Args:
        outputs: of the deployed model on the split's samples, shape (n, classes).
        split: the samples.

    Returns:
        ``mistaken``, their positions, shape (kept,), and ``mistaken_inputs``, pictures of 8 bits, shape (kept, rows,
        columns, 1 or 3); nothing where there are no classes, or inputs are no pictures.
    """
    rows = misclassified(outputs, split.targets, KEPT)
    if rows is None or not len(rows):
        return {}
    pictures = [picture(values) for values in split.batch(rows)[0]]
    shown = [pixels for pixels in pictures if pixels is not None]
    return {"mistaken": rows, "mistaken_inputs": np.stack(shown)} if len(shown) == len(rows) else {}


def picture(values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return an input as a picture from its least to its largest value, shape (rows, columns, 1 or 3), or None.

    Args:
        values: shape (channels, rows, columns) with one channel or three, or (rows, columns), as a spectrogram is.
    """
    layers = values[None] if values.ndim == COLOURS - 1 else values
    if layers.ndim != COLOURS or layers.shape[0] not in (1, COLOURS) or min(layers.shape[1:]) < COLOURS:
        return None
    step = -(-max(layers.shape[1:]) // LONGEST_SIDE)
    pixels = layers[:, ::step, ::step].astype(np.float64).transpose(1, 2, 0)
    low, high = np.nanmin(pixels), np.nanmax(pixels)
    scaled: NDArray[np.uint8] = np.nan_to_num((pixels - low) * (255.0 / ((high - low) or 1.0))).astype(np.uint8)
    return scaled
