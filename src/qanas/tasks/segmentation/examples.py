"""A few images with what a network made of them, small enough to be kept with every training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.even_spread import evenly_spread
from qanas.tasks.base import FloatArray, Split
from qanas.tasks.segmentation.preprocessing import colours

KEPT_IMAGES = 6
"""Images of a split that are kept, spread evenly over it: outputs of all of them would be gigabytes."""

LONGEST_SIDE = 256
"""Pixels; of larger images every second, third, ... row and column is kept."""


def examples(outputs: FloatArray, split: Split, preprocessing: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return predicted and true classes and the pictures of a few images of a split.

    Args:
        outputs: logits, shape (n, classes, height, width).
        split: its n samples.
        preprocessing: ``means`` and ``deviations`` of the colours.

    Returns:
        ``classes`` and ``targets``, shape (kept, rows, columns), and ``pictures``, shape (kept, rows, columns, 3), in 8
        bits; ``image``, the files' names, shape (kept,).
    """
    kept = evenly_spread(len(split), KEPT_IMAGES)
    step = -(-max(outputs.shape[2:]) // LONGEST_SIDE)
    pictures = colours(split.inputs[kept], preprocessing["means"], preprocessing["deviations"])
    arrays = {
        "classes": outputs[kept].argmax(axis=1).astype(np.uint8),
        "targets": split.targets[kept],
        "pictures": pictures.transpose(0, 2, 3, 1),
    }
    return {name: values[:, ::step, ::step] for name, values in arrays.items()} | {"image": split.extras["image"][kept]}
