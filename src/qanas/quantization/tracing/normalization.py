"""Batch norms."""

from __future__ import annotations

import torch
from torch import nn

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
    norm = _operator(module)
    if value.shape[number] != len(norm.mean):
        raise ValueError(f"a batch norm of {len(norm.mean)} channels got {value.shape[number]}")
    source, order = builder.ending_in(value, number)
    stored_at = positions(value.torch[number], order)
    if stored_at is not None:
        norm = BatchNorm(
            norm.weight[stored_at], norm.bias[stored_at], norm.mean[stored_at], norm.variance[stored_at], norm.epsilon
        )
    return builder.emit(norm, [source], source.torch, source.stored)


def _operator(module: nn.BatchNorm1d | nn.BatchNorm2d) -> BatchNorm:
    """Return a batch norm with the statistics gathered in training."""
    mean, variance = module.running_mean, module.running_var
    if mean is None or variance is None:
        raise ValueError("a batch norm without running statistics; train it with track_running_stats=True")
    weight = module.weight.detach() if module.affine else torch.ones_like(mean)
    bias = module.bias.detach() if module.affine else torch.zeros_like(mean)
    return BatchNorm(weight, bias, mean, variance, module.eps)


FUNCTIONS: FunctionTranslators = {}
MODULES: ModuleTranslators = {nn.BatchNorm1d: batch_norm, nn.BatchNorm2d: batch_norm, ChannelNorm: channel_norm}
