"""Masks of attention: what is added to scores and keeps some of them from a softmax becomes part of that softmax."""

from __future__ import annotations

from torch import Tensor

from qanas.quantization.operators.arithmetic import Add, WithConstant
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.masked_softmax import BLOCKED, MaskedSoftmax
from qanas.quantization.operators.reductions import Softmax

BLOCKING = -1e4
"""A number of this size or below, added to a score, is meant to keep it out."""


def blocked(constant: Tensor) -> Tensor | None:
    """Return where a constant keeps scores out, of its shape; None where it is no mask.

    One that keeps everything out is a mask as well, of a network without weights: what it has in buffers is zero there.

    >>> import math, torch
    >>> blocked(torch.tensor([0.5, -math.inf])), blocked(torch.tensor([-math.inf])), blocked(torch.tensor([-1e5]))
    (tensor([False,  True]), tensor([True]), None)
    """
    out = constant <= BLOCKING
    if not bool(out.any()):
        return None
    return out if not bool(out.all()) or bool((constant <= BLOCKED).all()) else None


def fuse_mask(before: Operator, after: Operator) -> Operator | None:
    """Return the softmax of scores that a mask was added to, or None where it is something else."""
    if not isinstance(before, WithConstant) or not isinstance(after, Softmax) or before.operator != Add():
        return None
    out = blocked(before.constant)
    if out is None or bool(before.constant[~out].any()):
        return None
    return MaskedSoftmax(~out)


def masks_alone(operator: Operator) -> bool:
    """Tell whether an operator is a mask that no softmax has taken in."""
    return isinstance(operator, WithConstant) and bool((operator.constant <= BLOCKED).any())
