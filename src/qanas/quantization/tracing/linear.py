"""Linear layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.layers.linear import ScaledLinear
from qanas.quantization.operators.dense import Dense
from qanas.quantization.tracing.builder import Builder
from qanas.quantization.tracing.translators import FunctionTranslators, ModuleTranslators
from qanas.quantization.tracing.values import Value, new_axis, positions


def linear(builder: Builder, value: Value, /, weight: Tensor, bias: Tensor | None = None) -> Value:
    """Take a linear layer over the last axis; its weights take the order in which the numbers are stored."""
    if value.shape[-1:] != weight.shape[1:]:
        raise ValueError(f"a linear layer of {weight.shape[1]} features got {value.shape}")
    if len(value.torch) == 1:
        source, order = builder.last(value, (), value.torch[0])
    else:
        source, order = builder.ending_in(value, len(value.torch) - 1)
    stored_at = positions(value.torch[-1], order)
    weight = weight.detach() if stored_at is None else weight.detach()[:, stored_at]
    bias = torch.zeros_like(weight[:, 0]) if bias is None else bias.detach()
    output = new_axis(weight.shape[0])
    return builder.emit(Dense(weight, bias), [source], (*source.torch[:-1], output), (*source.stored[:-1], output))


def linear_module(builder: Builder, module: nn.Linear, value: Value, /) -> Value:
    """Take an `nn.Linear`."""
    return linear(builder, value, module.weight, module.bias)


def scaled_linear(builder: Builder, module: ScaledLinear, value: Value, /) -> Value:
    """Take a `ScaledLinear`, its constant scale folded in."""
    return linear(builder, value, *module.folded())


FUNCTIONS: FunctionTranslators = {F.linear: linear}
MODULES: ModuleTranslators = {nn.Linear: linear_module, ScaledLinear: scaled_linear}
