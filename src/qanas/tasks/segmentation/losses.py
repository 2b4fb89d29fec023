"""Training losses over pixels, those for rare classes among them; void pixels count nowhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.tasks.segmentation.files import VOID

LossName = Literal["cross_entropy", "hard_cross_entropy", "focal", "dice", "cross_entropy_dice", "lovasz"]

HARD_PIXELS = 0.25
"""Share of a batch's pixels that the loss ``hard_cross_entropy`` is over."""

FOCUS = 2.0
"""The exponent of the focal loss: the authors' own."""


@dataclass(frozen=True)
class Pixels:
    """Those pixels of a batch that count, and where they are.

    Attributes:
        everywhere: logits, shape (batch, classes, height, width).
        targets: classes or `VOID`, shape (batch, height, width).
        counted: which are not void, shape (batch, height, width).
        weights: of the classes, shape (classes,).
    """

    everywhere: Tensor
    targets: Tensor
    counted: Tensor
    weights: Tensor

    @cached_property
    def labels(self) -> Tensor:
        """Their classes, shape (pixels,)."""
        return self.targets[self.counted].long()

    @cached_property
    def logits(self) -> Tensor:
        """Shape (pixels, classes)."""
        return self.everywhere.movedim(1, -1)[self.counted]

    @cached_property
    def entropies(self) -> Tensor:
        """The cross-entropy of each, in nats, shape (pixels,).

        Computed where the pixels are: class by class over whole rows that takes a fifth of the time of a few classes
        pixel by pixel.
        """
        found = F.cross_entropy(self.everywhere, self.targets.long(), ignore_index=VOID, reduction="none")
        return found[self.counted]

    @cached_property
    def shares(self) -> Tensor:
        """The weight of each, shape (pixels,)."""
        return self.weights[self.labels]


def pixel_loss(kind: LossName, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Return a batch's mean loss, a scalar; 0 where every pixel is void.

    Args:
        kind: which.
        logits: shape (batch, classes, height, width).
        targets: classes or `VOID`, shape (batch, height, width).
        weights: of the classes, shape (classes,); None: all count alike.
    """
    counted = targets != VOID
    if not counted.any():  # of nothing but void: no gradient, not NaN
        return (logits * 0.0).sum()
    share = logits.new_ones(logits.shape[1]) if weights is None else weights.to(logits)
    return _LOSSES[kind](Pixels(logits, targets, counted, share))


def _cross_entropy(pixels: Pixels) -> Tensor:
    """Return the weighted mean cross-entropy a pixel, in nats."""
    return (pixels.shares * pixels.entropies).sum() / pixels.shares.sum().clamp(min=_TINY)


def _hard_cross_entropy(pixels: Pixels) -> Tensor:
    """Return the mean over the quarter of the pixels where it is largest (Shrivastava, Gupta & Girshick 2016)."""
    losses = pixels.shares * pixels.entropies
    return losses.topk(max(int(len(losses) * HARD_PIXELS), 1)).values.mean()


def _focal(pixels: Pixels) -> Tensor:
    """Return cross-entropy times (1 - p)^2, p that of the right class (Lin et al. 2017)."""
    focused = pixels.shares * (1 - torch.exp(-pixels.entropies)) ** FOCUS * pixels.entropies
    return focused.sum() / pixels.shares.sum().clamp(min=_TINY)


def _dice(pixels: Pixels) -> Tensor:
    """Return 1 less the soft Dice coefficient, squares in its denominator (Milletari, Navab & Ahmadi 2016).

    The weighted mean over the classes that the batch has, each over all of its pixels.
    """
    logits, labels = pixels.logits, pixels.labels
    found, true = logits.softmax(dim=1), F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    overlap, total = (found * true).sum(dim=0), (found**2).sum(dim=0) + true.sum(dim=0)
    return _over_classes(1 - 2 * overlap / total.clamp(min=_TINY), pixels)


def _cross_entropy_dice(pixels: Pixels) -> Tensor:
    """Return the sum of both, as nnU-Net trains (Isensee et al. 2021)."""
    return _cross_entropy(pixels) + _dice(pixels)


def _lovasz(pixels: Pixels) -> Tensor:
    """Return the Lovasz-softmax loss: a surrogate of 1 less the IoU (Berman, Triki & Blaschko 2018).

    The weighted mean over the classes that the batch has, each over all of its pixels.
    """
    found = pixels.logits.softmax(dim=1)
    losses = []
    for label in range(found.shape[1]):
        true = (pixels.labels == label).to(found.dtype)
        errors, order = (true - found[:, label]).abs().sort(descending=True)
        hits = true[order]
        jaccard = 1 - (hits.sum() - hits.cumsum(0)) / (hits.sum() + (1 - hits).cumsum(0))
        losses.append(errors @ torch.cat([jaccard[:1], jaccard.diff()]))
    return _over_classes(torch.stack(losses), pixels)


def _over_classes(losses: Tensor, pixels: Pixels) -> Tensor:
    """Return the weighted mean of losses, shape (classes,), over the classes that the batch has."""
    share = pixels.weights * (torch.bincount(pixels.labels, minlength=len(losses)) > 0)
    return (share * losses).sum() / share.sum().clamp(min=_TINY)


_TINY = 1e-12

_LOSSES: Mapping[LossName, Callable[[Pixels], Tensor]] = {
    "cross_entropy": _cross_entropy,
    "hard_cross_entropy": _hard_cross_entropy,
    "focal": _focal,
    "dice": _dice,
    "cross_entropy_dice": _cross_entropy_dice,
    "lovasz": _lovasz,
}
