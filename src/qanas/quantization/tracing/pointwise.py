"""Sums and products of values and constants, and functions of single values."""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import prod

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.quantization.numbers.requantization import BOUNDS
from qanas.quantization.operators.arithmetic import Add, Multiply, WithConstant
from qanas.quantization.operators.functions import HardSwish, LeakyReLU, Logistic, Tanh
from qanas.quantization.operators.reductions import Softmax
from qanas.quantization.operators.rescaling import HardSigmoid, ReLU
from qanas.quantization.tracing.builder import Builder, Translators, numbers
from qanas.quantization.tracing.values import OtherwiseError, Value, size_of

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


def relu(builder: Builder, value: Value, /, inplace: bool = False) -> Value:
    """Take a ReLU."""
    del inplace
    return builder.unary(ReLU(), value)


def relu6(builder: Builder, value: Value, /, inplace: bool = False) -> Value:
    """Take a ReLU6."""
    del inplace
    return builder.unary(ReLU("relu6"), value)


def clamp(builder: Builder, value: Value, /, min: float | None = None, max: float | None = None) -> Value:  # noqa: A002
    """Take a clamp that is a ReLU or a ReLU6."""
    for activation, bounds in BOUNDS.items():
        if bounds == (min, torch.inf if max is None else max):
            return builder.unary(ReLU(activation), value)
    raise ValueError(f"a clamp from {min} to {max}; known are those from 0 up, and from 0 to 6")


def leaky_relu(builder: Builder, value: Value, /, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    """Take a leaky ReLU."""
    del inplace
    return builder.unary(LeakyReLU(negative_slope), value)


def leaky_relu_module(builder: Builder, module: nn.LeakyReLU, value: Value, /) -> Value:
    """Take an `nn.LeakyReLU`."""
    return leaky_relu(builder, value, module.negative_slope)


def sigmoid(builder: Builder, value: Value, /) -> Value:
    """Take a logistic function."""
    return builder.unary(Logistic(), value)


def tanh(builder: Builder, value: Value, /) -> Value:
    """Take a hyperbolic tangent."""
    return builder.unary(Tanh(), value)


def hardswish(builder: Builder, value: Value, /, inplace: bool = False) -> Value:
    """Take a hard swish."""
    del inplace
    return builder.unary(HardSwish(), value)


def hardsigmoid(builder: Builder, value: Value, /, inplace: bool = False) -> Value:
    """Take a hard sigmoid."""
    del inplace
    return builder.unary(HardSigmoid(), value)


def silu(builder: Builder, value: Value, /, inplace: bool = False) -> Value:
    """Take ``x * sigmoid(x)`` as these two operators."""
    del inplace
    return multiply(builder, value, sigmoid(builder, value))


def softmax(builder: Builder, value: Value, /, dim: int | None = None, _stacklevel: int = 3) -> Value:
    """Take a softmax over an axis; it is stored last for it."""
    del _stacklevel
    if dim is None:
        raise ValueError("a softmax over no named axis; name it: softmax(x, dim=1)")
    source, _ = builder.ending_in(value, value.axis(dim))
    return builder.unary(Softmax(), source)


def softmax_module(builder: Builder, module: nn.Softmax, value: Value, /) -> Value:
    """Take an `nn.Softmax`."""
    return softmax(builder, value, module.dim)


def nothing(builder: Builder, value: Value, /) -> Value:
    """Take what changes no number once the network is trained."""
    del builder
    return value


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


def of_module(translate: Callable[..., Value]) -> Callable[..., Value]:
    """Return the translator of a module without settings that matter."""

    def translated(builder: Builder, module: nn.Module, value: Value, /) -> Value:
        del module
        return translate(builder, value)

    return translated


def hardtanh(
    builder: Builder,
    value: Value,
    /,
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> Value:
    """Take a clamp under its other name."""
    del inplace
    return clamp(builder, value, min_val, max_val)


def hardtanh_module(builder: Builder, module: nn.Hardtanh, value: Value, /) -> Value:
    """Take a clamp as a module."""
    return clamp(builder, value, module.min_val, module.max_val)


TRANSLATORS = Translators(
    functions={
        **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), add),
        **dict.fromkeys((operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_"), multiply),
        **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), subtract),
        **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div", "div_"), divide),
        **dict.fromkeys((operator.neg, torch.neg, "neg"), negate),
        **dict.fromkeys((torch.relu, torch.relu_, F.relu, F.relu_, "relu", "relu_"), relu),
        F.relu6: relu6,
        **dict.fromkeys((torch.clamp, "clamp"), clamp),
        F.hardtanh: hardtanh,
        F.leaky_relu: leaky_relu,
        **dict.fromkeys((torch.sigmoid, F.sigmoid, "sigmoid"), sigmoid),
        **dict.fromkeys((torch.tanh, F.tanh, "tanh"), tanh),
        F.hardswish: hardswish,
        F.hardsigmoid: hardsigmoid,
        F.silu: silu,
        **dict.fromkeys((torch.softmax, F.softmax, "softmax"), softmax),
        **dict.fromkeys(("contiguous", "clone", "detach"), nothing),
        **dict.fromkeys((F.dropout, F.dropout2d), dropout),
    },
    modules={
        nn.ReLU: of_module(relu),
        nn.ReLU6: of_module(relu6),
        nn.Hardtanh: hardtanh_module,
        nn.LeakyReLU: leaky_relu_module,
        nn.Sigmoid: of_module(sigmoid),
        nn.Tanh: of_module(tanh),
        nn.Hardswish: of_module(hardswish),
        nn.Hardsigmoid: of_module(hardsigmoid),
        nn.SiLU: of_module(silu),
        nn.Softmax: softmax_module,
        **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d), of_module(nothing)),
    },
)
