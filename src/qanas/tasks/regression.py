"""What tasks of numbers share: losses in units of the targets' size, their gradients, and metrics."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.core.errors import InputError, unknown
from qanas.core.measures import Direction
from qanas.tasks.samples import FloatArray

NUMBER_LOSSES = ("mae", "mse", "huber")
NUMBER_METRICS: Mapping[str, Direction] = {"mae": "minimize", "rmse": "minimize"}

HUBER_DELTA = 0.1
"""In units of the targets' size: of a turbofan's cap, errors are squared up to 12.5 cycles, about a good network's."""


def number_loss(kind: str, outputs: Tensor, targets: Tensor, scale: float) -> Tensor:
    """Return the mean absolute, squared or Huber error in units of a scale, a scalar.

    Huber's (1964) is divided by its threshold `HUBER_DELTA`, so that it has the absolute error's slope.

    Args:
        kind: one of `NUMBER_LOSSES`.
        outputs: shape (batch, numbers).
        targets: shape (batch, numbers).
        scale: of the targets.

    Raises:
        InputError: another kind.
    """
    if kind == "mae":
        return F.l1_loss(outputs / scale, targets / scale)
    if kind == "mse":
        return F.mse_loss(outputs / scale, targets / scale)
    if kind == "huber":
        return F.huber_loss(outputs / scale, targets / scale, delta=HUBER_DELTA) / HUBER_DELTA
    raise InputError(unknown("loss", kind, NUMBER_LOSSES))


def number_loss_gradient(kind: str, outputs: FloatArray, targets: FloatArray, scale: float) -> tuple[float, FloatArray]:
    """Return `number_loss` and its gradient by the outputs, for trainers that do without autograd.

    Args:
        kind: one of `NUMBER_LOSSES`.
        outputs: shape (batch, numbers).
        targets: shape (batch, numbers).
        scale: of the targets.
    """
    error = (outputs - targets) * np.float32(1.0 / scale)
    factor = np.float32(1.0 / (scale * error.size))
    if kind == "mae":
        return float(np.abs(error).mean()), np.sign(error) * factor
    if kind == "huber":
        inside = np.clip(error * np.float32(1.0 / HUBER_DELTA), np.float32(-1.0), np.float32(1.0))
        value = np.float32(0.5 * HUBER_DELTA) * np.square(inside) + np.abs(error) - HUBER_DELTA * np.abs(inside)
        return float(value.mean()), inside * factor
    return float(np.square(error).mean()), error * (np.float32(2.0) * factor)


def number_metrics(outputs: FloatArray, targets: FloatArray) -> dict[str, float]:
    """Return `NUMBER_METRICS`, in the targets' unit.

    Args:
        outputs: shape (n, numbers).
        targets: shape (n, numbers).
    """
    errors = outputs.astype(np.float64) - targets
    return {"mae": float(np.abs(errors).mean()), "rmse": float(np.sqrt((errors**2).mean()))}
