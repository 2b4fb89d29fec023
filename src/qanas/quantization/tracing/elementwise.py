"""What is computed number by number, and what vanishes."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn

from qanas.quantization.operators.add import Add
from qanas.quantization.operators.relu import ReLU
from qanas.quantization.operators.requantize import BOUNDS
from qanas.quantization.tracing.builder import Builder
from qanas.quantization.tracing.translators import FunctionTranslators, ModuleTranslators
from qanas.quantization.tracing.values import Value


def add(builder: Builder, one: Value | float, other: Value | float, /, *, alpha: float = 1) -> Value:
    """Take the addition of two values of one shape."""
    if alpha != 1:
        raise ValueError(f"an addition with alpha = {alpha}; multiply in a layer before it")
    if not isinstance(one, Value) or not isinstance(other, Value):
        constant = other if isinstance(one, Value) else one
        raise ValueError(f"the addition of a constant ({constant}); put it into a layer's bias")  # noqa: TRY004
    if one.shape != other.shape:
        raise ValueError(f"the addition of shapes {one.shape} and {other.shape}; they must be equal")
    first, second = builder.alike(one, other)
    return builder.emit(Add(), [first, second], first.torch, first.stored)


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
    del p, training, inplace
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


FUNCTIONS: FunctionTranslators = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), add),
    **dict.fromkeys((torch.relu, torch.relu_, F.relu, F.relu_, "relu", "relu_"), relu),
    F.relu6: relu6,
    **dict.fromkeys((torch.clamp, "clamp"), clamp),
    F.hardtanh: hardtanh,
    **dict.fromkeys(("contiguous", "clone", "detach"), nothing),
    **dict.fromkeys((F.dropout, F.dropout2d), dropout),
}
MODULES: ModuleTranslators = {
    nn.ReLU: of_module(relu),
    nn.ReLU6: of_module(relu6),
    nn.Hardtanh: hardtanh_module,
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d), of_module(nothing)),
}
