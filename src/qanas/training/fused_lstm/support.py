"""Which trainings the compiled kernel takes. Importing this doesn't load Numba."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import torch
from torch import nn

from qanas.layers.linear import ScaledLinear
from qanas.layers.lstm import OneBiasLSTM
from qanas.networks.lstm import LSTMNetwork

if TYPE_CHECKING:
    from qanas.search_space.training_group import TrainingSettings
    from qanas.training.fit import Loss, TrainingSet

KNOWN_SETTINGS = frozenset(
    {"learning_rate", "optimizer", "scheduler", "batch_size", "loss", "gradient_clip", "ema_decay"}
)
"""Settings that the kernel honours, or that the fit loop and the task's loss see to."""

MAX_UNITS = 192
"""Widest layer that the kernel was measured to be faster for (``benchmarks/training.py``): the ratio to torch falls
from 20 at 4 units to 1.3 here, and to 1.1 for two layers of 256, where a tuned matrix product has caught up."""


def supports(network: nn.Module, data: TrainingSet, loss: Loss, settings: TrainingSettings) -> str | None:
    """Return why `FusedLSTMTrainer` cannot train this or would be slower than torch, or None if it should.

    Args:
        network: to be trained.
        data: what on.
        loss: any that torch can differentiate by the outputs.
        settings: how to train.
    """
    del loss
    unknown = sorted({field.name for field in fields(settings)} - KNOWN_SETTINGS)
    if unknown:
        return f"the kernel doesn't know the settings {', '.join(unknown)}"
    if settings.optimizer not in {"rmsprop", "adam"}:
        return f"the kernel doesn't know the optimizer {settings.optimizer}"
    return _unsupported_data(data) or _unsupported_network(network)


def _unsupported_data(data: TrainingSet) -> str | None:
    """Return why the kernel cannot read this data, or None."""
    for tensor in (data.inputs, data.targets):
        if tensor.device.type != "cpu":
            return f"the kernel computes on the CPU, the data is on {tensor.device}"
    if data.inputs.dtype != torch.float32:
        return f"the kernel computes in float32, the inputs are {data.inputs.dtype}"
    if data.inputs.ndim != 3:  # noqa: PLR2004 - sample, step, feature
        return "the inputs are no sequences"
    return None


def _unsupported_network(network: nn.Module) -> str | None:
    """Return why the kernel isn't this network's mathematics, or None."""
    if type(network) is not LSTMNetwork:
        return f"the kernel computes LSTMNetwork, not {type(network).__name__}"
    for module in network.modules():
        # a parametrization changes the type, a hook the mathematics
        if type(module) not in {LSTMNetwork, nn.Sequential, OneBiasLSTM, ScaledLinear}:
            return f"the kernel doesn't know the layer {type(module).__name__}"
        if module._forward_hooks or module._forward_pre_hooks:
            return f"the kernel doesn't run the hooks on {type(module).__name__}"
    for name, parameter in network.named_parameters():
        if not (parameter.requires_grad and parameter.dtype == torch.float32 and parameter.device.type == "cpu"):
            return f"the kernel trains all weights, in float32 on the CPU: {name} isn't so"
    widest = max(layer.units for layer in network.layers)
    if widest > MAX_UNITS:
        return f"the kernel is no faster for a layer of {widest} units, more than {MAX_UNITS}"
    return "the head has no bias" if network.head.bias is None else None
