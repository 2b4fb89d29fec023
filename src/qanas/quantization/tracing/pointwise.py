"""Sums, differences, products and quotients of values and constants, and calls that change no number."""

from __future__ import annotations

import operator
from math import prod

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.quantization.operators.arithmetic import Add, BinaryOperator, Multiply, Subtract, WithConstant
from qanas.quantization.operators.extremes import ExtremeOfTwo
from qanas.quantization.operators.float_terms import COMPARISONS, X
from qanas.quantization.operators.masked_softmax import BLOCKED
from qanas.quantization.operators.tables import TabulatedFunction
from qanas.quantization.passes.masks import BLOCKING, blocked
from qanas.quantization.tracing.builder import Builder, Translators, numbers, of_module
from qanas.quantization.tracing.shapes import repeated
from qanas.quantization.tracing.values import OtherwiseError, Value, size_of

Operand = Value | Tensor | float

NEGATION = TabulatedFunction("a negation", lambda values: (values == 0.0).to(torch.float32), COMPARISONS["eq"](X, 0.0))

RECIPROCAL = TabulatedFunction("a reciprocal", torch.reciprocal, 1.0 / X)


def add(builder: Builder, one: Operand, other: Operand, /, *, alpha: float = 1) -> Value:
    """Take the sum of two values, or of a value and a constant; axes of size 1 are repeated."""
    if alpha != 1:
        other = multiply(builder, other, alpha) if isinstance(other, Value) else alpha * other
    for value, constant in ((one, other), (other, one)):
        if isinstance(value, Value) and isinstance(constant, Tensor):
            return _plus_constant(builder, value, constant)
    return _combined(builder, Add(), one, other)


def _plus_constant(builder: Builder, value: Value, constant: Tensor) -> Value:
    """Append a sum; a mask (minus infinity at some places) comes by itself behind the rest, for a softmax."""
    out = blocked(constant)
    if out is None:
        return _combined(builder, Add(), value, constant)
    rest = constant.masked_fill(out, 0.0)
    if bool(rest.any()):
        value = _combined(builder, Add(), value, rest)
    return _combined(builder, Add(), value, torch.where(out, constant.clamp(min=BLOCKED), 0.0))


def masked_fill(builder: Builder, value: Operand, mask: Operand, filling: Operand, /) -> Value:
    """Take a value with another one at some places."""
    return where(builder, mask, filling, value)


def where(builder: Builder, condition: Operand, one: Operand, other: Operand, /) -> Value:
    """Take a choice between two values, or a value and a constant, at places that are always the same ones or not."""
    if isinstance(condition, Value):
        return _chosen(builder, condition, one, other)
    chosen = torch.as_tensor(condition).detach().to(torch.bool)
    if isinstance(other, Value) and not isinstance(one, Value):
        chosen, one, other = ~chosen, other, one
    assert isinstance(one, Value)  # noqa: S101 - translators are called with at least one
    if isinstance(other, Value):
        shares = [multiply(builder, part, at.float()) for part, at in ((one, chosen), (other, ~chosen))]
        return of_two(builder, Add(), *shares)
    rest = torch.where(chosen, 0.0, torch.as_tensor(other, dtype=torch.float32))
    if blocked(rest) is not None:
        return add(builder, one, rest)
    kept = multiply(builder, one, chosen.float())
    return add(builder, kept, rest) if bool(rest.any()) else kept


def where_else(builder: Builder, value: Value, /, condition: Operand, other: Operand) -> Value:
    """Take the method: a value where a condition holds, and another one elsewhere."""
    return where(builder, condition, value, other)


def _chosen(builder: Builder, condition: Value, one: Operand, other: Operand) -> Value:
    """Return a choice at places that depend on the input: each choice times 1 or 0, added up."""
    total: Value | None = None
    for first, given in ((True, one), (False, other)):
        choice = given if isinstance(given, Value) else torch.as_tensor(given, dtype=torch.float32).detach()
        if isinstance(choice, Tensor) and (bool((choice <= BLOCKING).any()) or not bool(choice.isfinite().all())):
            raise ValueError(
                "a mask that depends on the input and keeps values out of a softmax; take a constant one: every sample "
                "is of one length"
            )
        if isinstance(choice, Tensor) and not bool(choice.any()):
            continue
        part = multiply(builder, condition if first else negated(builder, condition), choice)
        total = part if total is None else of_two(builder, Add(), total, part)
    return multiply(builder, condition, 0.0) if total is None else total


def negated(builder: Builder, condition: Value, /) -> Value:
    """Take 1 where a condition is 0, and 0 elsewhere."""
    return builder.unary(NEGATION, condition)


def multiply(builder: Builder, one: Operand, other: Operand, /) -> Value:
    """Take the product of two values, or of a value and a constant; axes of size 1 are repeated."""
    return _combined(builder, Multiply(), one, other)


def subtract(builder: Builder, one: Operand, other: Operand, /, *, alpha: float = 1) -> Value:
    """Take the difference of two values, or of a value and a constant; axes of size 1 are repeated."""
    if alpha != 1:
        other = multiply(builder, other, alpha) if isinstance(other, Value) else alpha * other
    if not isinstance(other, Value):
        return add(builder, one, -1.0 * other)
    if not isinstance(one, Value):
        return add(builder, negate(builder, other), one)
    return of_two(builder, Subtract(), one, other)


def subtract_from(builder: Builder, one: Operand, other: Operand, /, *, alpha: float = 1) -> Value:
    """Take `torch.rsub`."""
    return subtract(builder, other, one if alpha == 1 else multiply(builder, one, alpha))


def divide(builder: Builder, one: Operand, other: Operand, /, *, rounding_mode: str | None = None) -> Value:
    """Take a quotient; by a value it is a product with its reciprocal."""
    if rounding_mode is not None:
        raise ValueError(f"a division with rounding_mode = {rounding_mode!r}; take one without")
    if isinstance(other, Value):
        return multiply(builder, one, builder.unary(RECIPROCAL, other))
    return multiply(builder, one, 1.0 / other)


def lerp(builder: Builder, start: Operand, end: Operand, weight: Operand, /) -> Value:
    """Take `torch.lerp`."""
    return add(builder, start, multiply(builder, subtract(builder, end, start), weight))


def add_product(builder: Builder, base: Operand, one: Operand, other: Operand, /, *, value: float = 1) -> Value:
    """Take `torch.addcmul`."""
    return add(builder, base, _combined(builder, Multiply(), one, other), alpha=value)


def _combined(builder: Builder, computed: Add | Multiply, one: Operand, other: Operand) -> Value:
    """Append a symmetric operator of two values, or of a value and a constant."""
    if not isinstance(one, Value):
        one, other = other, one
    assert isinstance(one, Value)  # noqa: S101 - translators are called with at least one
    if not isinstance(other, Value):
        return _with_constant(builder, computed, one, other)
    return of_two(builder, computed, one, other)


def of_two(builder: Builder, computed: BinaryOperator | ExtremeOfTwo, one: Value, other: Value) -> Value:
    """Append an operator of two values, which are repeated along axes of size 1."""
    if one.shape == other.shape:
        first, second = builder.alike(one, other)
        return builder.emit(computed, [first, second], first.torch, first.stored)
    if len(one.shape) != len(other.shape):
        noun = "a result" if isinstance(computed, ExtremeOfTwo) else f"the {computed.noun}"
        raise ValueError(f"{noun} of shapes {one.shape} and {other.shape}; unsqueeze one of them")
    larger = max(one, other, key=lambda value: prod(value.shape))
    order = numbers(builder.natural(larger))
    sources = [builder.arranged(value, tuple(value.torch[number] for number in order)) for value in (one, other)]
    axes = tuple(max(pair, key=size_of) for pair in zip(one.torch, other.torch, strict=True))
    return builder.emit(computed, sources, axes, tuple(axes[number] for number in order))


def negate(builder: Builder, value: Value, /) -> Value:
    """Take the values with the other sign."""
    return multiply(builder, value, -1.0)


def _with_constant(builder: Builder, computed: Add | Multiply, value: Value, constant: Tensor | float) -> Value:
    """Append an operator of a value and a constant, which is repeated along axes of size 1."""
    rank = len(value.torch)
    tensor = torch.as_tensor(constant, dtype=torch.float32).detach()
    if tensor.ndim > rank and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim > rank:
        raise ValueError(f"a constant of shape {tuple(tensor.shape)} with a value of shape {value.shape}")
    tensor = tensor.reshape([1] * (rank - tensor.ndim) + list(tensor.shape))
    if tensor.numel() == 1:
        return builder.unary(WithConstant(computed, tensor.reshape([1] * min(rank, 1))), value)
    if any(size != own and 1 not in (size, own) for size, own in zip(tensor.shape, value.shape, strict=True)):
        raise ValueError(f"a constant of shape {tuple(tensor.shape)} with a value of shape {value.shape}")
    value = repeated(builder, value, [max(sizes) for sizes in zip(tensor.shape, value.shape, strict=True)])
    source = builder.natural(value)
    stored = tensor.permute(numbers(source))
    while stored.shape[0] == 1:
        stored = stored[0]
    return builder.unary(WithConstant(computed, stored.contiguous()), source)


def nothing(builder: Builder, value: Value, /, *, memory_format: object = None) -> Value:
    """Take what changes no number once the network is trained."""
    del builder, memory_format
    return value


def finite(
    builder: Builder, value: Value, /, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Value:
    """Take `torch.nan_to_num`: codes have no other numbers than finite ones."""
    del nan, posinf, neginf
    return nothing(builder, value)


def dropout(
    builder: Builder,
    value: Value,
    /,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> Value:
    """Take a dropout: nothing is dropped once the network is trained."""
    del inplace
    if training and p > 0:
        raise OtherwiseError("a dropout that torch applies in evaluation mode, too; pass training=self.training")
    return nothing(builder, value)


TRANSLATORS = Translators(
    functions={
        **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), add),
        **dict.fromkeys((operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_"), multiply),
        **dict.fromkeys((operator.sub, operator.isub, torch.sub, torch.subtract, "sub", "sub_"), subtract),
        torch.rsub: subtract_from,
        **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, torch.divide, "div", "div_"), divide),
        **dict.fromkeys((operator.neg, torch.neg, torch.negative, "neg"), negate),
        **dict.fromkeys((torch.addcmul, "addcmul"), add_product),
        **dict.fromkeys((torch.lerp, "lerp"), lerp),
        **dict.fromkeys((torch.masked_fill, "masked_fill", "masked_fill_"), masked_fill),
        torch.where: where,
        "where": where_else,
        **dict.fromkeys(("contiguous", "clone", "detach", torch.clone, torch.positive), nothing),
        **dict.fromkeys((torch.nan_to_num, "nan_to_num"), finite),
        **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.alpha_dropout, F.feature_alpha_dropout), dropout),
    },
    modules=dict.fromkeys(
        (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout),
        of_module(nothing),
    ),
)
