"""Training losses over pixels, those for rare classes among them; void pixels count nowhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    # Pixels that count: logits of shape (pixels, classes), classes of shape (pixels,).
    kept, labels = logits.movedim(1, -1)[counted], targets[counted].long()
    share = kept.new_ones(kept.shape[1]) if weights is None else weights.to(kept)
    return _LOSSES[kind](kept, labels, share)


def _cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean cross-entropy a pixel, in nats; shapes as in `_LOSSES`."""
    losses = F.cross_entropy(logits, labels, reduction="none")
    return (weights[labels] * losses).sum() / weights[labels].sum().clamp(min=_TINY)


def _hard_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over the quarter of the pixels where it is largest (Shrivastava, Gupta & Girshick 2016)."""
    losses = weights[labels] * F.cross_entropy(logits, labels, reduction="none")
    return losses.topk(max(int(len(losses) * HARD_PIXELS), 1)).values.mean()


def _focal(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return cross-entropy times (1 - p)^2, p that of the right class (Lin et al. 2017)."""
    losses = F.cross_entropy(logits, labels, reduction="none")
    focused = weights[labels] * (1 - torch.exp(-losses)) ** FOCUS * losses
    return focused.sum() / weights[labels].sum().clamp(min=_TINY)


def _dice(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return 1 less the soft Dice coefficient, squares in its denominator (Milletari, Navab & Ahmadi 2016).

    The weighted mean over the classes that the batch has, each over all of its pixels.
    """
    shares, true = logits.softmax(dim=1), F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    overlap, total = (shares * true).sum(dim=0), (shares**2).sum(dim=0) + true.sum(dim=0)
    return _over_classes(1 - 2 * overlap / total.clamp(min=_TINY), labels, weights)


def _cross_entropy_dice(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of both, as nnU-Net trains (Isensee et al. 2021)."""
    return _cross_entropy(logits, labels, weights) + _dice(logits, labels, weights)


def _lovasz(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the Lovasz-softmax loss: a surrogate of 1 less the IoU (Berman, Triki & Blaschko 2018).

    The weighted mean over the classes that the batch has, each over all of its pixels.
    """
    shares = logits.softmax(dim=1)
    losses = []
    for label in range(logits.shape[1]):
        true = (labels == label).to(logits.dtype)
        errors, order = (true - shares[:, label]).abs().sort(descending=True)
        hits = true[order]
        jaccard = 1 - (hits.sum() - hits.cumsum(0)) / (hits.sum() + (1 - hits).cumsum(0))
        losses.append(errors @ torch.cat([jaccard[:1], jaccard.diff()]))
    return _over_classes(torch.stack(losses), labels, weights)


def _over_classes(losses: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of losses, shape (classes,), over the classes among the labels, shape (pixels,)."""
    share = weights * (torch.bincount(labels, minlength=len(losses)) > 0)
    return (share * losses).sum() / share.sum().clamp(min=_TINY)


_TINY = 1e-12

_LOSSES: Mapping[LossName, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cross_entropy": _cross_entropy,
    "hard_cross_entropy": _hard_cross_entropy,
    "focal": _focal,
    "dice": _dice,
    "cross_entropy_dice": _cross_entropy_dice,
    "lovasz": _lovasz,
}
"""Each of logits (pixels, classes), their labels, shape (pixels,), and the classes' weights, shape (classes,)."""
