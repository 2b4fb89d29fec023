"""Which trainings the compiled trainers take. Importing this doesn't load Numba."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from qanas.layers.sequences import ChannelNorm, Conv1xK, OneBiasLSTM, ScaledLinear
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import ResidualBlock, TCNNetwork

if TYPE_CHECKING:
    from qanas.search_space.training_group import TrainingSettings
    from qanas.training.trainer import TrainingSet

KNOWN_SETTINGS = frozenset(
    {"learning_rate", "optimizer", "scheduler", "batch_size", "loss", "gradient_clip", "ema_decay"}
)
"""Settings that the kernels honour, or that the fit loop and the task's loss see to."""

LSTM_LAYERS = frozenset({LSTMNetwork, nn.Sequential, OneBiasLSTM, ScaledLinear})
"""What the kernel is the mathematics of."""

MAX_UNITS = 192
"""Widest layer that the kernel was measured to be faster for (``benchmarks/training.py``): the ratio to torch falls
from 20 at 4 units to 1.3 here, and to 1.1 for two layers of 256, where a tuned matrix product has caught up."""

TCN_LAYERS = frozenset({TCNNetwork, nn.Sequential, ResidualBlock, Conv1xK, ChannelNorm, nn.ReLU, ScaledLinear})
"""What the kernel is the mathematics of."""

MAX_CHANNELS = 128
"""Widest value that the kernel was measured to be faster for (``benchmarks/training.py --network tcn``): the ratio to
torch falls from 33 at 8 channels to 1.3 here (three blocks, kernel 7, no dilation, batch 256), and to 1.1 for two
blocks of 256, where a tuned matrix product has caught up."""


def why_not_lstm(network: nn.Module, data: TrainingSet, settings: TrainingSettings) -> str | None:
    """Return why `CompiledLSTMTrainer` cannot train this or would be slower than torch, or None if it should.

    Args:
        network: to be trained.
        data: what on.
        settings: how to train.
    """
    return _unsupported_settings(settings) or _unsupported_data(data) or _unsupported_lstm(network)


def _unsupported_lstm(network: nn.Module) -> str | None:
    """Return why the kernel isn't this network's mathematics, or None."""
    if type(network) is not LSTMNetwork:
        return f"the kernel computes LSTMNetwork, not {type(network).__name__}"
    reason = _unsupported_modules(network, LSTM_LAYERS)
    if reason is not None:
        return reason
    widest = max(layer.units for layer in network.layers)
    if widest > MAX_UNITS:
        return f"the kernel is no faster for a layer of {widest} units, more than {MAX_UNITS}"
    return "the head has no bias" if network.head.bias is None else None


def why_not_tcn(network: nn.Module, data: TrainingSet, settings: TrainingSettings) -> str | None:
    """Return why `CompiledTCNTrainer` cannot train this or would be slower than torch, or None if it should.

    Args:
        network: to be trained.
        data: what on.
        settings: how to train.
    """
    reason = _unsupported_settings(settings) or _unsupported_data(data) or _unsupported_tcn(network)
    if reason is None and not _fits(cast("TCNNetwork", network), data):
        return f"the network is not made for sequences of shape {tuple(data.inputs.shape[1:])}"
    return reason


def _unsupported_tcn(network: nn.Module) -> str | None:
    """Return why the kernel isn't this network's mathematics, or None."""
    if type(network) is not TCNNetwork:
        return f"the kernel computes TCNNetwork, not {type(network).__name__}"
    reason = _unsupported_modules(network, TCN_LAYERS)
    if reason is not None:
        return reason
    for module in network.modules():
        if isinstance(module, ChannelNorm) and (module.eps, module.momentum) != (1e-5, 0.1):
            return "the kernel's batch norms have epsilon 1e-5 and momentum 0.1"
        if isinstance(module, ChannelNorm) and not (module.affine and module.track_running_stats):
            return "the kernel's batch norms have weights and running statistics"
        widest = max(module.weight.shape[:2]) if isinstance(module, Conv1xK) else 0
        if widest > MAX_CHANNELS:
            return f"the kernel is no faster for {widest} channels, more than {MAX_CHANNELS}"
    return "the head has no bias" if network.head.bias is None else None


def _fits(network: TCNNetwork, data: TrainingSet) -> bool:
    """Return whether the data has the network's features, and its steps end in the one that the head reads."""
    _, window, features = data.inputs.shape
    positions = window - network.unused
    convolutions = [layer for block in network.residual_blocks for layer in block.convolutions]
    for layer in convolutions:
        if isinstance(layer, Conv1xK):
            positions = (positions + layer.left_padding - layer.weight.shape[2]) // layer.stride + 1
    return positions == 1 and features == next(network.parameters()).shape[1]


def _unsupported_settings(settings: TrainingSettings) -> str | None:
    """Return why no kernel can train so, or None."""
    unknown = sorted({field.name for field in fields(settings)} - KNOWN_SETTINGS)
    if unknown:
        return f"the kernel doesn't know the settings {', '.join(unknown)}"
    if settings.optimizer not in {"rmsprop", "adam"}:
        return f"the kernel doesn't know the optimizer {settings.optimizer}"
    return None


def _unsupported_data(data: TrainingSet) -> str | None:
    """Return why no kernel can read this data, or None."""
    if not data.in_memory:
        return "the kernel reads arrays, the samples are decoded on demand"
    for tensor in (data.inputs, data.targets):
        if tensor.device.type != "cpu":
            return f"the kernel computes on the CPU, the data is on {tensor.device}"
    if data.inputs.dtype != torch.float32:
        return f"the kernel computes in float32, the inputs are {data.inputs.dtype}"
    if data.augment is not None:
        return "the task changes its samples at random"
    if data.inputs.ndim != 3:  # noqa: PLR2004 - sample, step, feature
        return "the inputs are no sequences"
    return None


def _unsupported_modules(network: nn.Module, layers: Collection[type[nn.Module]]) -> str | None:
    """Return why a network of other layers, or of layers otherwise used, isn't a kernel's mathematics, or None.

    Args:
        network: to be trained.
        layers: what the kernel knows.
    """
    for module in network.modules():
        # a parametrization changes the type, a hook the mathematics
        if type(module) not in layers:
            return f"the kernel doesn't know the layer {type(module).__name__}"
        if module._forward_hooks or module._forward_pre_hooks:
            return f"the kernel doesn't run the hooks on {type(module).__name__}"
    for name, parameter in network.named_parameters():
        if not (parameter.requires_grad and parameter.dtype == torch.float32 and parameter.device.type == "cpu"):
            return f"the kernel trains all weights, in float32 on the CPU: {name} isn't so"
    return None
