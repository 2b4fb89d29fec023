"""What tasks of classes share: the loss and its weights, metrics, and what makes them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from qanas.core.classes import confusion
from qanas.core.errors import InputError, unknown
from qanas.core.measures import Direction
from qanas.tasks.samples import FloatArray

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ClassWeights = Literal["balanced"] | Annotated[tuple[Weight, ...], Field(strict=False)] | None
"""How much a sample, or a pixel, of each class counts in the loss; "balanced": see `balanced_weights`."""

CLASS_METRICS: Mapping[str, Direction] = {
    "accuracy": "maximize",
    "balanced_accuracy": "maximize",
    "macro_f1": "maximize",
    "cross_entropy": "minimize",
}
CLASS_LOSSES = ("cross_entropy",)


def class_loss(kind: str, outputs: Tensor, targets: Tensor, weights: Sequence[float] | None) -> Tensor:
    """Return a batch's mean loss, a scalar.

    Args:
        kind: one of `CLASS_LOSSES`.
        outputs: logits, shape (batch, classes).
        targets: classes, shape (batch,).
        weights: of the classes; None: all count alike.

    Raises:
        InputError: another kind.
    """
    if kind not in CLASS_LOSSES:
        raise InputError(unknown("loss", kind, CLASS_LOSSES))
    losses = F.cross_entropy(outputs, targets, reduction="none")
    if weights is None:
        return losses.mean()
    counted = outputs.new_tensor(weights)[targets]
    return (counted * losses).sum() / counted.sum().clamp(min=1e-12)


def class_metrics(outputs: FloatArray, targets: NDArray[Any]) -> dict[str, float]:
    """Return `CLASS_METRICS`.

    ``balanced_accuracy`` is the mean recall of the classes that are there; ``macro_f1`` the mean over the classes that
    are there or predicted of 2 right / (true + predicted); ``cross_entropy`` is in nats, whatever the classes' weights.

    Args:
        outputs: logits, shape (n, classes).
        targets: classes, shape (n,).
    """
    classes = outputs.shape[1]
    counts = confusion(outputs.argmax(axis=1), targets, classes)
    right, true, taken = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    there, either = true > 0, true + taken > 0
    logits = outputs.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(targets)), targets]
    return {
        "accuracy": float(right.sum() / true.sum()),
        "balanced_accuracy": float((right[there] / true[there]).mean()),
        "macro_f1": float((2 * right[either] / (true + taken)[either]).mean()),
        "cross_entropy": float(losses.mean()),
    }


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Return weights with which rare classes count as much as common ones in all: samples / (classes x those of one).

    A class without samples has weight 0.

    >>> balanced_weights([30, 10, 0])
    (0.4444444444444444, 1.3333333333333333, 0.0)
    """
    return tuple(sum(counts) / (len(counts) * count) if count else 0.0 for count in counts)


def require_weights(weights: ClassWeights, names: Sequence[str]) -> None:
    """Refuse weights that aren't those of these classes.

    Raises:
        InputError: there is not one a class, or all are 0.
    """
    if not isinstance(weights, tuple):
        return
    if len(weights) != len(names):
        raise InputError(
            f"task.class_weights: {len(weights)} numbers for {len(names)} classes; give one a class, in "
            f"their order ({', '.join(names)}), or 'balanced'"
        )
    if not any(weights):
        raise InputError("task.class_weights: all are 0: nothing would be learnt; give some class a weight")
