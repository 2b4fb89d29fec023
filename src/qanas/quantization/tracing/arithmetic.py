"""Sums and products of values and constants."""

from __future__ import annotations

import operator
from math import prod

import torch
from torch import Tensor

from qanas.quantization.operators.add import Add
from qanas.quantization.operators.multiply import Multiply
from qanas.quantization.operators.with_constant import WithConstant
from qanas.quantization.tracing.builder import Builder, numbers
from qanas.quantization.tracing.translators import FunctionTranslators, ModuleTranslators
from qanas.quantization.tracing.values import Value, size_of

Operand = Value | Tensor | float


def add(builder: Builder, one: Operand, other: Operand, /, *, alpha: float = 1) -> Value:
    """Take the addition of two values of one shape, or of a value and a constant."""
    if alpha != 1:
        raise ValueError(f"an addition with alpha = {alpha}; multiply before it")
    if not isinstance(one, Value):
        one, other = other, one
    assert isinstance(one, Value)  # noqa: S101 - translators are called with at least one
    if not isinstance(other, Value):
        return _with_constant(builder, Add(), one, other)
    if one.shape != other.shape:
        raise ValueError(f"the addition of shapes {one.shape} and {other.shape}; they must be equal")
    first, second = builder.alike(one, other)
    return builder.emit(Add(), [first, second], first.torch, first.stored)


def multiply(builder: Builder, one: Operand, other: Operand, /) -> Value:
    """Take the product of two values, or of a value and a constant; axes of size 1 are repeated."""
    if not isinstance(one, Value):
        one, other = other, one
    assert isinstance(one, Value)  # noqa: S101 - translators are called with at least one
    if not isinstance(other, Value):
        return _with_constant(builder, Multiply(), one, other)
    if one.shape == other.shape:
        first, second = builder.alike(one, other)
        return builder.emit(Multiply(), [first, second], first.torch, first.stored)
    if len(one.shape) != len(other.shape):
        raise ValueError(f"the product of shapes {one.shape} and {other.shape}; unsqueeze one of them")
    larger = max(one, other, key=lambda value: prod(value.shape))
    order = numbers(builder.natural(larger))
    sources = [builder.arranged(value, tuple(value.torch[number] for number in order)) for value in (one, other)]
    axes = tuple(max(pair, key=size_of) for pair in zip(one.torch, other.torch, strict=True))
    return builder.emit(Multiply(), sources, axes, tuple(axes[number] for number in order))


def subtract(builder: Builder, one: Operand, other: Operand, /, *, alpha: float = 1) -> Value:
    """Take the difference of a value and a constant."""
    if isinstance(other, Value):
        other, one = one, multiply(builder, other, -1.0 * alpha)
        return add(builder, one, other)
    return add(builder, one, -alpha * other)


def divide(builder: Builder, one: Operand, other: Operand, /) -> Value:
    """Take the quotient of a value and a constant."""
    if isinstance(other, Value):
        raise ValueError("a division by a value; divide by constants only")  # noqa: TRY004
    return multiply(builder, one, 1.0 / other)


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
        return builder.unary(WithConstant(computed, tensor.reshape(1)), value)
    source = builder.natural(value)
    stored = tensor.permute(numbers(source))
    while stored.shape[0] == 1:
        stored = stored[0]
    return builder.unary(WithConstant(computed, stored.contiguous()), source)


FUNCTIONS: FunctionTranslators = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), add),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_"), multiply),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), subtract),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div", "div_"), divide),
    **dict.fromkeys((operator.neg, torch.neg, "neg"), negate),
}
MODULES: ModuleTranslators = {}
