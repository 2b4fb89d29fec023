"""Means, sums, extremes and spreads over axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple, NoReturn

import torch

from qanas.quantization.operators.extremes import Extreme, Side
from qanas.quantization.operators.log_softmax import LogSoftmax
from qanas.quantization.operators.reductions import Mean
from qanas.quantization.tracing.builder import Builder, Translators, with_settings
from qanas.quantization.tracing.functions import BY_FUNCTION, maximum, minimum, over_axis, tabulated
from qanas.quantization.tracing.pointwise import Operand, add, multiply, subtract
from qanas.quantization.tracing.values import Value

Dims = int | Sequence[int] | None


def mean(
    builder: Builder, value: Value, /, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Value:
    """Take the mean over some axes."""
    del dtype
    return _reduced(builder, value, None, dim, keepdim=keepdim)


def total(
    builder: Builder, value: Value, /, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Value:
    """Take the sum over some axes: their mean times the number of what is added, in the same codes."""
    result = mean(builder, value, dim, keepdim, dtype=dtype)
    return multiply(builder, result, float(prod(value.shape) // prod(result.shape)))


def amax(builder: Builder, value: Value, /, dim: Dims = None, keepdim: bool = False) -> Value:
    """Take the largest value over some axes."""
    return _reduced(builder, value, "largest", dim, keepdim=keepdim)


def amin(builder: Builder, value: Value, /, dim: Dims = None, keepdim: bool = False) -> Value:
    """Take the smallest value over some axes."""
    return _reduced(builder, value, "smallest", dim, keepdim=keepdim)


def variance(
    builder: Builder,
    value: Value,
    /,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> Value:
    """Take the variance over some axes."""
    if not isinstance(unbiased, bool):
        raise ValueError("a variance without named axes; name them: x.var((2, 3))")  # noqa: TRY004
    apart = subtract(builder, value, mean(builder, value, dim, True))
    result = mean(builder, multiply(builder, apart, apart), dim, keepdim)
    count = prod(value.shape) // prod(result.shape)
    lacking = int(unbiased) if correction is None else correction
    return result if lacking == 0 else multiply(builder, result, count / (count - lacking))


def deviation(builder: Builder, value: Value, /, *arguments: Dims, **settings: int | None) -> Value:
    """Take the standard deviation over some axes."""
    return BY_FUNCTION[torch.sqrt](builder, variance(builder, value, *arguments, **settings))  # type: ignore[arg-type]


def norm(
    builder: Builder, value: Value, /, p: float | str | None = 2, dim: Dims = None, keepdim: bool = False
) -> Value:
    """Take the square root of the sum of squares over some axes."""
    if p not in {2, None, "fro"}:
        raise ValueError(f"a norm with p = {p}; take p = 2")
    return BY_FUNCTION[torch.sqrt](builder, total(builder, multiply(builder, value, value), dim, keepdim))


def normalize(builder: Builder, value: Value, /, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Value:
    """Take values over the square root of the sum of their squares along an axis."""
    if p != 2.0:  # noqa: PLR2004 - the usual norm
        raise ValueError(f"a normalization with p = {p}; take p = 2")
    squares = total(builder, multiply(builder, value, value), dim, keepdim=True)
    inverse = tabulated("an inverse norm", _inverse_root)(builder, squares, eps)
    return multiply(builder, value, inverse)


def _inverse_root(squares: torch.Tensor, eps: float) -> torch.Tensor:
    return 1.0 / squares.clamp(min=0.0).sqrt().clamp(min=eps)


FEW = 16
"""Exponentials whose sum, in 255 steps, is within 1/32 in its logarithm."""


def log_softmax(
    builder: Builder, value: Value, /, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Value:
    """Take the logarithm of a softmax over an axis.

    Its kernel has steps of 1/16 and none below -16. So results are as far below the largest as the values are, in steps
    as fine as their range allows, and the largest one is that of exponentials, or of the kernel where these are many.
    """
    del _stacklevel, dtype
    if dim is None:
        raise ValueError("a softmax over no named axis; name it: softmax(x, dim=1)")
    below = subtract(builder, value, amax(builder, value, dim, keepdim=True))
    if value.shape[value.axis(dim)] > FEW:
        shares = over_axis(builder, value, LogSoftmax(), dim)
        return add(builder, below, amax(builder, shares, dim, keepdim=True))
    exponentials = total(builder, BY_FUNCTION[torch.exp](builder, below), dim, keepdim=True)
    return subtract(builder, below, BY_FUNCTION[torch.log](builder, exponentials))


class NoIndices:
    """What `torch.max` returns beside the largest values: no runtime gives positions in codes."""

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse."""
        raise ValueError("the positions of largest values; take them outside of the network, on its output")


def largest(builder: Builder, value: Value, /, dim: Operand | None = None, keepdim: bool = False) -> object:
    """Take `torch.max`: over an axis, or of two values."""
    if isinstance(dim, Value | torch.Tensor):
        return maximum(builder, value, dim)
    return Extremes(amax(builder, value, _whole(dim), keepdim), NoIndices())


def smallest(builder: Builder, value: Value, /, dim: Operand | None = None, keepdim: bool = False) -> object:
    """Take `torch.min`: over an axis, or of two values."""
    if isinstance(dim, Value | torch.Tensor):
        return minimum(builder, value, dim)
    return Extremes(amin(builder, value, _whole(dim), keepdim), NoIndices())


def _whole(dim: object) -> int | None:
    if dim is not None and not isinstance(dim, int):
        raise ValueError(f"an extreme over the axis {dim}; give its number")
    return dim


Extremes = NamedTuple("Extremes", [("values", Value), ("indices", NoIndices)])  # noqa: UP014 - types, not their names
"""What `torch.max` returns: values, and where they were."""


def _reduced(builder: Builder, value: Value, side: Side | None, dim: Dims, *, keepdim: bool) -> Value:
    """Append a mean, or an extreme of a side."""
    if dim is None:
        raise ValueError("a mean or extreme over everything, the batch included; name the axes: x.mean((2, 3))")
    axes = {value.axis(number) for number in ([dim] if isinstance(dim, int) else dim)}
    kept = [axis for number, axis in enumerate(value.torch) if keepdim or number not in axes]
    factors = {factor for number in axes for factor in value.torch[number]}
    torch_axes = tuple(() if factors.intersection(axis) else axis for axis in kept)
    if not factors:
        return value.with_torch_axes(torch_axes)
    source = value
    if any(factors.intersection(axis) and not factors.issuperset(axis) for axis in value.stored):
        source = builder.natural(value)
    reduced = [number for number, axis in enumerate(source.stored) if factors.intersection(axis)]
    stored = [() if number in reduced else axis for number, axis in enumerate(source.stored)]
    if not keepdim:
        stored = [axis for number, axis in enumerate(stored) if number not in reduced]
    operator: Mean | Extreme = Mean(tuple(reduced), keeps_axes=keepdim)
    if side is not None:
        operator = Extreme(side, tuple(reduced), keeps_axes=keepdim)
    return builder.emit(operator, [source], torch_axes, tuple(stored))


TRANSLATORS = Translators(
    functions={
        **dict.fromkeys((torch.mean, "mean"), mean),
        **dict.fromkeys((torch.sum, "sum"), total),
        **dict.fromkeys((torch.amax, "amax"), amax),
        **dict.fromkeys((torch.amin, "amin"), amin),
        **dict.fromkeys((torch.max, "max"), largest),
        **dict.fromkeys((torch.min, "min"), smallest),
        **dict.fromkeys((torch.var, "var"), variance),
        **dict.fromkeys((torch.std, "std"), deviation),
        **dict.fromkeys((torch.norm, "norm"), norm),
        torch.nn.functional.normalize: normalize,
        **dict.fromkeys((torch.log_softmax, torch.nn.functional.log_softmax, "log_softmax"), log_softmax),
    },
    modules={torch.nn.LogSoftmax: with_settings(log_softmax, "dim")},
)
