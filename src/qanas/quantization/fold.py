"""What an operator can take over from the one behind it: a batch norm into its weights, a ReLU into its output."""

from __future__ import annotations

from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.batch_norm import BatchNorm
from qanas.quantization.operators.relu import ReLU


def fold_batch_norm(before: Operator, after: Operator) -> Operator | None:
    """Return ``before`` with a batch norm behind it folded in, or None where it isn't one or can't be.

    With scale s = gamma / sqrt(var + eps) and offset t = beta - s mean, ``s (W x + b) + t`` is
    ``(s W) x + (s b + t)`` (Jacob et al. 2018): exact but for rounding in float32.
    """
    return before.with_scaling(after.scale, after.offset) if isinstance(after, BatchNorm) else None


def fuse_activation(before: Operator, after: Operator) -> Operator | None:
    """Return ``before`` with a ReLU behind it fused, or None where it isn't one or can't be."""
    return before.with_activation("relu") if isinstance(after, ReLU) else None
