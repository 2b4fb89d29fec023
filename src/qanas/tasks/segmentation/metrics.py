"""Metrics of semantic segmentation; void pixels count nowhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.segmentation.labels import VOID

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_CHUNK = 16
"""Images computed at a time: the logits in double precision are the largest array."""


@dataclass(frozen=True)
class Scores:
    """What the metrics are computed from, summed over all pixels that are not void.

    Attributes:
        confusion: pixels by class (row) and prediction (column), shape (classes, classes).
        cross_entropy_sum: of all of them, in nats.
    """

    confusion: Integers
    cross_entropy_sum: float

    @property
    def pixels(self) -> int:
        """How many there are."""
        return int(self.confusion.sum())

    @property
    def ious(self) -> Floats:
        """Intersection over union of every class over the whole split, shape (classes,).

        A class that neither occurs nor is predicted has NaN.
        """
        intersection = np.diagonal(self.confusion).astype(np.float64)
        union = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - intersection
        ious: Floats = np.divide(intersection, union, out=np.full(len(union), np.nan), where=union > 0)
        return ious

    @property
    def mean_iou(self) -> float:
        """The mean IoU of the classes that occur or are predicted (Everingham et al. 2010; Cordts et al. 2016)."""
        return float(np.nanmean(self.ious))

    @property
    def pixel_accuracy(self) -> float:
        """The share of pixels whose class is right."""
        return float(np.trace(self.confusion) / self.pixels)

    @property
    def cross_entropy(self) -> float:
        """The mean cross-entropy a pixel, in nats."""
        return self.cross_entropy_sum / self.pixels


def score(outputs: NDArray[np.float32], targets: NDArray[np.uint8]) -> Scores:
    """Compare logits with masks.

    Args:
        outputs: logits, shape (n, classes, height, width).
        targets: classes or `VOID`, shape (n, height, width).

    Raises:
        ValueError: shapes that don't belong together, or no pixel that counts.
    """
    if outputs.ndim != targets.ndim + 1 or (outputs.shape[0], *outputs.shape[2:]) != targets.shape:
        raise ValueError(f"logits of shape {outputs.shape} don't belong to masks of shape {targets.shape}")
    classes = outputs.shape[1]
    confusion = np.zeros(classes**2, dtype=np.int64)
    cross_entropy_sum = 0.0
    for start in range(0, len(outputs), _CHUNK):
        masks = targets[start : start + _CHUNK]
        counts = masks != VOID
        # Pixels that count, one a row.
        logits = np.moveaxis(outputs[start : start + _CHUNK], 1, -1)[counts].astype(np.float64)
        labels = masks[counts].astype(np.int64)
        pairs = labels * classes + logits.argmax(axis=1)
        confusion += np.bincount(pairs, minlength=classes**2)
        cross_entropy_sum += _cross_entropies(logits, labels).sum()
    if not confusion.any():
        raise ValueError("every pixel is void: there is nothing to score")
    return Scores(confusion.reshape(classes, classes), float(cross_entropy_sum))


def _cross_entropies(logits: Floats, labels: Integers) -> Floats:
    """Return -log softmax of the right class, shape (pixels,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    right: Floats = shifted[np.arange(len(labels)), labels]
    losses: Floats = np.log(np.exp(shifted).sum(axis=1)) - right
    return losses
