"""What is made of a network's outputs: metrics, in which void pixels count nowhere, and a few images to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray

from qanas.core.classes import confusion
from qanas.core.even_spread import evenly_spread
from qanas.tasks.pictures import Bytes, Size, colours
from qanas.tasks.samples import FloatArray, Split
from qanas.tasks.segmentation.files import VOID
from qanas.tasks.segmentation.reader import nearest_pixels

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

IMAGE_AXES = 4

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


def at_size(logits: FloatArray, size: Size) -> FloatArray:
    """Return logits at the size of the masks: as they are where it is theirs, else resized bilinearly.

    Pixel centres are at halves, as in `qanas.tasks.segmentation.files.RESIZING`; nothing is smoothed where they shrink.

    Args:
        logits: shape (n, classes, rows, columns).
        size: height and width wanted.

    Returns:
        Shape (n, classes, height, width).
    """
    if logits.shape[2:] == size:
        return logits
    resized: FloatArray = F.interpolate(torch.tensor(logits), size, mode="bilinear", align_corners=False).numpy()
    return resized


def score(outputs: FloatArray, targets: Bytes, classes: int) -> Scores:
    """Compare logits with masks, at the masks' size.

    Args:
        outputs: logits, shape (n, classes, rows, columns); see `at_size`.
        targets: classes or `VOID`, shape (n, height, width).
        classes: how many there are.

    Raises:
        ValueError: shapes that don't belong together, or no pixel that counts.
    """
    if outputs.ndim != IMAGE_AXES or outputs.shape[:2] != (len(targets), classes):
        raise ValueError(
            f"logits of shape {outputs.shape} don't belong to masks of shape {targets.shape} and {classes} classes"
        )
    confusion = np.zeros(classes**2, dtype=np.int64)
    cross_entropy_sum = 0.0
    for start in range(0, len(outputs), _CHUNK):
        masks = targets[start : start + _CHUNK]
        counts = masks != VOID
        # Pixels that count, one a row.
        chunk = at_size(outputs[start : start + _CHUNK], (masks.shape[1], masks.shape[2]))
        logits = np.moveaxis(chunk, 1, -1)[counts].astype(np.float64)
        labels = masks[counts].astype(np.int64)
        pairs = labels * classes + logits.argmax(axis=1)
        confusion += np.bincount(pairs, minlength=classes**2)
        cross_entropy_sum += _cross_entropies(logits, labels).sum()
    if not confusion.any():
        raise ValueError("every pixel is void: there is nothing to score")
    return Scores(confusion.reshape(classes, classes), float(cross_entropy_sum))


def score_draws(
    outputs: FloatArray, targets: Bytes, classes: int, unit_of: NDArray[np.intp], draws: NDArray[np.intp]
) -> list[Scores | None]:
    """Return what `score` says of images drawn with replacement, from one pass over them; None of void pixels alone.

    Args:
        outputs: logits, shape (n, classes, rows, columns).
        targets: classes or `VOID`, shape (n, height, width).
        classes: how many there are.
        unit_of: the unit of each image, numbered from 0, shape (n,).
        draws: which units each draw has, shape (draws, units).
    """
    units = draws.shape[1]
    confusions = np.zeros((units, classes**2), np.int64)
    sums = np.zeros(units)
    for image, unit in enumerate(unit_of):
        if (targets[image] != VOID).any():
            found = score(outputs[image : image + 1], targets[image : image + 1], classes)
            confusions[unit] += found.confusion.reshape(-1)
            sums[unit] += found.cross_entropy_sum
    # How often each draw has each unit, shape (draws, units).
    counts = np.stack([np.bincount(draw, minlength=units) for draw in draws])
    return [
        Scores(confusion.reshape(classes, classes), float(total)) if confusion.any() else None
        for confusion, total in zip(counts @ confusions, counts @ sums, strict=True)
    ]


def _cross_entropies(logits: Floats, labels: Integers) -> Floats:
    """Return -log softmax of the right class, shape (pixels,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    right: Floats = shifted[np.arange(len(labels)), labels]
    losses: Floats = np.log(np.exp(shifted).sum(axis=1)) - right
    return losses


KEPT_IMAGES = 6
"""Images of a split that are kept: outputs of all of them would be gigabytes."""

LONGEST_SIDE = 256
"""Pixels; of larger images every second, third, ... row and column is kept."""


def shown_images(targets: Bytes) -> NDArray[np.intp]:
    """Return which images are kept, ascending: spread evenly, and such that rare classes are among them.

    Chosen by what is true, never by how it came out. A class that none of the evenly spread images has takes the place
    of one of them: its first image, for at most all but one.

    Args:
        targets: classes or `VOID`, shape (n, height, width).
    """
    spread = evenly_spread(len(targets), KEPT_IMAGES).tolist()
    present = [set(np.unique(mask).tolist()) - {VOID} for mask in targets]
    seen = set().union(*(present[place] for place in spread))
    added: list[int] = []
    for label in sorted(set().union(*present) - seen):
        if all(label not in present[place] for place in added):
            added.append(next(place for place, classes in enumerate(present) if label in classes))
    added = added[: KEPT_IMAGES - 1]
    room = KEPT_IMAGES - len(added)
    return np.array(sorted({*added, *(spread[place] for place in evenly_spread(len(spread), room))}), dtype=np.intp)


WORST_IMAGES = 4
"""Images with the lowest mean IoU, which are kept besides."""


def worst_images(outputs: FloatArray, targets: Bytes) -> NDArray[np.intp]:
    """Return the images whose masks are worst, by the mean IoU of the classes there or predicted, the worst first.

    Args:
        outputs: logits, shape (n, classes, rows, columns).
        targets: classes or `VOID`, shape (n, height, width).
    """
    ious = []
    for logits, true in zip(outputs, targets, strict=True):
        counted = true != VOID
        predicted = at_size(logits[None], true.shape).argmax(axis=1)[0]
        found = confusion(predicted[counted], true[counted], outputs.shape[1])
        ious.append(Scores(found, 0.0).mean_iou if counted.any() else np.inf)
    return np.argsort(np.array(ious), kind="stable")[:WORST_IMAGES]


def examples(outputs: FloatArray, split: Split, preprocessing: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return predicted and true classes and the pictures of a few images of a split.

    Args:
        outputs: logits, shape (n, classes, rows, columns).
        split: its n samples.
        preprocessing: ``means`` and ``deviations`` of the colours.

    Returns:
        ``classes`` and ``targets``, shape (kept, rows, columns), and ``pictures``, shape (kept, rows, columns, 3), in 8
        bits; ``image``, the files' names, shape (kept,). Those chosen by what is true, and behind ``worst_`` those that
        came out worst.
    """
    worst = _kept_images(outputs, split, preprocessing, worst_images(outputs, split.targets))
    shown = _kept_images(outputs, split, preprocessing, shown_images(split.targets))
    return shown | {f"worst_{name}": values for name, values in worst.items()}


def _kept_images(
    outputs: FloatArray, split: Split, preprocessing: Mapping[str, Any], kept: NDArray[np.intp]
) -> dict[str, NDArray[Any]]:
    """Return what is kept of some images, at the positions ``kept``, shape (kept,)."""
    inputs, targets = split.batch(kept)
    height, width = targets.shape[1:]
    step = -(-max(height, width) // LONGEST_SIDE)
    rows, columns = nearest_pixels(0, inputs.shape[2], height), nearest_pixels(0, inputs.shape[3], width)
    low, high = preprocessing.get("values", (0.0, 255.0))
    shown = inputs[:, :3, rows[:, None], columns]  # colours are in front of what other features there are
    pictures = colours(shown, preprocessing["means"], preprocessing["deviations"], (low, high))
    arrays = {
        "classes": at_size(outputs[kept], (height, width)).argmax(axis=1).astype(np.uint8),
        "targets": targets,
        "pictures": pictures.transpose(0, 2, 3, 1),
    }
    return {name: values[:, ::step, ::step] for name, values in arrays.items()} | {"image": split.extras["image"][kept]}
