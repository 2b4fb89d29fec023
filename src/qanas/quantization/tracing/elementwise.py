"""What is computed number by number, and what vanishes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn

from qanas.quantization.operators.hard_sigmoid import HardSigmoid
from qanas.quantization.operators.hard_swish import HardSwish
from qanas.quantization.operators.leaky_relu import LeakyReLU
from qanas.quantization.operators.relu import ReLU
from qanas.quantization.operators.requantize import BOUNDS
from qanas.quantization.operators.sigmoids import Logistic, Tanh
from qanas.quantization.operators.softmax import Softmax
from qanas.quantization.tracing.arithmetic import multiply
from qanas.quantization.tracing.builder import Builder
from qanas.quantization.tracing.translators import FunctionTranslators, ModuleTranslators
from qanas.quantization.tracing.values import Value


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
}
MODULES: ModuleTranslators = {
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
}
