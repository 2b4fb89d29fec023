"""Batch norms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qanas.layers.conv import ChannelNorm
from qanas.quantization.operators.batch_norm import BatchNorm
from qanas.quantization.tracing.builder import Builder
from qanas.quantization.tracing.translators import FunctionTranslators, ModuleTranslators
from qanas.quantization.tracing.values import Value, positions


def batch_norm(builder: Builder, module: nn.BatchNorm1d | nn.BatchNorm2d, value: Value, /) -> Value:
    """Take the running statistics of a batch norm over the first axis, whatever mode it is in."""
    return _norm(builder, module, value, 0)


def channel_norm(builder: Builder, module: ChannelNorm, value: Value, /) -> Value:
    """Take those of a batch norm over the last axis."""
    return _norm(builder, module, value, len(value.torch) - 1)


def _norm(builder: Builder, module: nn.BatchNorm1d | nn.BatchNorm2d, value: Value, number: int) -> Value:
    scale, offset = _constants(module)
    if value.shape[number] != len(scale):
        raise ValueError(f"a batch norm of {len(scale)} channels got {value.shape[number]}")
    source, order = builder.ending_in(value, number)
    stored_at = positions(value.torch[number], order)
    if stored_at is not None:
        scale, offset = scale[stored_at], offset[stored_at]
    return builder.emit(BatchNorm(scale, offset), [source], source.torch, source.stored)


def _constants(module: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return scale and offset of a trained batch norm."""
    if module.running_mean is None or module.running_var is None:
        raise ValueError("a batch norm without running statistics; train it with track_running_stats=True")
    scale = torch.rsqrt(module.running_var + module.eps)
    if module.affine:
        scale = scale * module.weight.detach()
    offset = -module.running_mean * scale
    return scale, offset + module.bias.detach() if module.affine else offset


FUNCTIONS: FunctionTranslators = {}
MODULES: ModuleTranslators = {nn.BatchNorm1d: batch_norm, nn.BatchNorm2d: batch_norm, ChannelNorm: channel_norm}
