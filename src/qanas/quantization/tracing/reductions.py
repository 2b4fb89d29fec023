"""Means, sums, extremes and spreads over axes."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from math import prod
from typing import Any, NamedTuple, NoReturn

import torch

from qanas.quantization.operators.extremes import Extreme, Side
from qanas.quantization.operators.float_terms import inverse_norm
from qanas.quantization.operators.log_softmax import LogSoftmax
from qanas.quantization.operators.reductions import Mean
from qanas.quantization.tracing.builder import Builder, Translators, with_settings
from qanas.quantization.tracing.functions import BY_FUNCTION, absolute, maximum, minimum, over_axis, tabulated
from qanas.quantization.tracing.pointwise import Operand, add, multiply, subtract
from qanas.quantization.tracing.shapes import squeeze, unsqueeze
from qanas.quantization.tracing.values import Axes, Factor, Value, flat

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


def variance_and_mean(
    builder: Builder,
    value: Value,
    /,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> tuple[Value, Value]:
    """Take `torch.var_mean`: the variance over some axes, and the mean that it is about."""
    if not isinstance(unbiased, bool):
        raise ValueError("a variance without named axes; name them: x.var((2, 3))")  # noqa: TRY004
    middle = mean(builder, value, dim, True)
    apart = subtract(builder, value, middle)
    result = mean(builder, multiply(builder, apart, apart), dim, keepdim)
    if not keepdim:
        gone = {value.axis(number) for number in ([dim] if isinstance(dim, int) else dim or ())}
        middle = middle.with_torch_axes(axis for number, axis in enumerate(middle.torch) if number not in gone)
    count = prod(value.shape) // prod(result.shape)
    lacking = int(unbiased) if correction is None else correction
    return result if lacking == 0 else multiply(builder, result, count / (count - lacking)), middle


def variance(builder: Builder, value: Value, /, *arguments: Any, **settings: Any) -> Value:  # noqa: ANN401 - as above
    """Take the variance over some axes."""
    return variance_and_mean(builder, value, *arguments, **settings)[0]


def deviation_and_mean(builder: Builder, value: Value, /, *arguments: Any, **settings: Any) -> tuple[Value, Value]:  # noqa: ANN401 - as above
    """Take `torch.std_mean`."""
    found, middle = variance_and_mean(builder, value, *arguments, **settings)
    return BY_FUNCTION[torch.sqrt](builder, found), middle


def deviation(builder: Builder, value: Value, /, *arguments: Any, **settings: Any) -> Value:  # noqa: ANN401 - as above
    """Take the standard deviation over some axes."""
    return deviation_and_mean(builder, value, *arguments, **settings)[0]


def norm(
    builder: Builder,
    value: Value,
    /,
    p: float | str | None = 2,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Value:
    """Take the square root of the sum of squares over some axes, the sum of sizes or the largest one."""
    del dtype
    if p == 1:
        return total(builder, absolute(builder, value), dim, keepdim)
    if p == math.inf:
        return amax(builder, absolute(builder, value), dim, keepdim)
    if p not in {2, None, "fro"}:
        raise ValueError(f"a norm with p = {p}; take p = 1, 2 or inf")
    return BY_FUNCTION[torch.sqrt](builder, total(builder, multiply(builder, value, value), dim, keepdim))


def matrix_or_vector_norm(
    builder: Builder,
    value: Value,
    /,
    ord: float | str | None = None,  # noqa: A002 - as torch has it
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Value:
    """Take `torch.linalg.norm`: over one axis as a vector, over two as a matrix."""
    if not isinstance(dim, int) and len(dim or ()) > 1 and ord not in {None, "fro"}:
        raise ValueError(f"a norm of matrices with ord = {ord}; take ord = 'fro', or torch.linalg.vector_norm")
    return norm(builder, value, ord, dim, keepdim, dtype=dtype)


def cosine_similarity(builder: Builder, x1: Operand, x2: Operand, /, dim: int = 1, eps: float = 1e-8) -> Value:
    """Take products of values over their norms, added up along an axis."""
    one, other = (
        normalize(builder, part, 2.0, dim, eps)
        if isinstance(part, Value)
        else torch.nn.functional.normalize(torch.as_tensor(part), 2.0, dim, eps)
        for part in (x1, x2)
    )
    return total(builder, multiply(builder, one, other), dim)


def pairwise_distance(
    builder: Builder, x1: Operand, x2: Operand, /, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Value:
    """Take the norm of differences along the last axis; what torch adds to them is far below a step."""
    del eps
    return norm(builder, subtract(builder, x1, x2), p, -1, keepdim)


def distances(builder: Builder, x1: Operand, x2: Operand, /, p: float = 2.0, compute_mode: object = None) -> Value:
    """Take the norms of differences between all rows of one and all of the other: products would round them away."""
    del compute_mode
    one, other = (
        unsqueeze(builder, rows, axis) if isinstance(rows, Value) else torch.as_tensor(rows).detach().unsqueeze(axis)
        for rows, axis in ((x1, -2), (x2, -3))
    )
    return norm(builder, subtract(builder, one, other), p, -1)


def normalize(builder: Builder, value: Value, /, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Value:
    """Take values over the square root of the sum of their squares along an axis."""
    if p != 2.0:  # noqa: PLR2004 - the usual norm
        raise ValueError(f"a normalization with p = {p}; take p = 2")
    squares = total(builder, multiply(builder, value, value), dim, keepdim=True)
    inverse = tabulated("an inverse norm", _inverse_root, inverse_norm)(builder, squares, eps)
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


def logsumexp(builder: Builder, value: Value, /, dim: int | Sequence[int], keepdim: bool = False) -> Value:
    """Take the logarithm of a sum of exponentials over an axis: the largest value, and by how much it is exceeded."""
    if not isinstance(dim, int):
        if len(dim) > 1:
            raise ValueError(f"a logsumexp over the axes {tuple(dim)}; take one axis: x.flatten(2).logsumexp(2)")
        dim = dim[0]
    most = amax(builder, value, dim, keepdim=True)
    below = subtract(builder, value, most)
    if value.shape[value.axis(dim)] > FEW:
        shares = over_axis(builder, value, LogSoftmax(), dim)
        found = subtract(builder, most, amax(builder, shares, dim, keepdim=True))
    else:
        exponentials = total(builder, BY_FUNCTION[torch.exp](builder, below), dim, keepdim=True)
        found = add(builder, most, BY_FUNCTION[torch.log](builder, exponentials))
    return found if keepdim else squeeze(builder, found, dim)


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


MOST_REDUCED_AXES = 5
"""Beside the batch: XNNPACK loads no file with a MEAN of more."""


def _in_runs(stored: Axes, reduced: Collection[Factor]) -> Axes:
    """Return stored axes with those that follow each other as one where all of them are reduced, or none."""
    runs: list[list[Factor]] = []
    for factor in flat(stored):
        if runs and (runs[-1][-1] in reduced) == (factor in reduced):
            runs[-1].append(factor)
        else:
            runs.append([factor])
    return tuple(map(tuple, runs))


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
    if len(source.stored) > MOST_REDUCED_AXES:
        source = builder.arranged(source, _in_runs(source.stored, factors))
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
        torch.var_mean: variance_and_mean,
        torch.std_mean: deviation_and_mean,
        **dict.fromkeys((torch.norm, "norm", torch.linalg.vector_norm), norm),
        torch.linalg.norm: matrix_or_vector_norm,
        torch.nn.functional.normalize: normalize,
        **dict.fromkeys((torch.cosine_similarity, torch.nn.functional.cosine_similarity), cosine_similarity),
        torch.cdist: distances,
        **dict.fromkeys((torch.pairwise_distance, torch.nn.functional.pairwise_distance), pairwise_distance),
        **dict.fromkeys((torch.logsumexp, "logsumexp"), logsumexp),
        **dict.fromkeys((torch.log_softmax, torch.nn.functional.log_softmax, "log_softmax"), log_softmax),
    },
    modules={torch.nn.LogSoftmax: with_settings(log_softmax, "dim")},
)
