"""Operators with their weights in another order of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from qanas.quantization.channel_order.flow import Numbers
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.conv import Convolution
from qanas.quantization.operators.dense import Dense
from qanas.quantization.operators.with_constant import WithConstant


def reordered(operator: Operator, inputs: Sequence[Numbers], output: Numbers) -> Operator:
    """Return an operator for inputs and an output in another order.

    Args:
        operator: what is computed on logical channels.
        inputs: for each input, the logical channel that each stored one is.
        output: likewise.
    """
    match operator:
        case Convolution():
            weight = _taken(operator.weight, output)
            if not operator.kernel.by_channel(len(inputs[0])):
                weight = _with_inputs(weight, inputs[0], operator.kernel.groups)
            return replace(operator, weight=weight, bias=_taken(operator.bias, output))
        case Dense():
            weight = _with_inputs(_taken(operator.weight, output), inputs[0], groups=1)
            return replace(operator, weight=weight, bias=_taken(operator.bias, output))
        case WithConstant() if operator.constant.ndim and operator.constant.shape[-1] == len(output) > 1:
            return replace(operator, constant=operator.constant[..., torch.from_numpy(output)])
    return operator


def _taken(weight: Tensor, order: Numbers) -> Tensor:
    return weight[torch.from_numpy(order)]


def _with_inputs(weight: Tensor, order: Numbers, groups: int) -> Tensor:
    """Return weights (out, ..., in / groups) whose input channels are in another order within their groups."""
    within = torch.from_numpy(order.reshape(groups, -1) % weight.shape[-1])
    parts = weight.chunk(groups)
    return torch.cat([part[..., entries] for part, entries in zip(parts, within, strict=True)])
