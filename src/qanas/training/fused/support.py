"""What every fused trainer's kernel asks of a training. Importing this doesn't load Numba."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from qanas.search_space.training_group import TrainingSettings
    from qanas.training.fit import TrainingSet

KNOWN_SETTINGS = frozenset(
    {"learning_rate", "optimizer", "scheduler", "batch_size", "loss", "gradient_clip", "ema_decay"}
)
"""Settings that the kernels honour, or that the fit loop and the task's loss see to."""


def unsupported_settings(settings: TrainingSettings) -> str | None:
    """Return why no kernel can train so, or None."""
    unknown = sorted({field.name for field in fields(settings)} - KNOWN_SETTINGS)
    if unknown:
        return f"the kernel doesn't know the settings {', '.join(unknown)}"
    if settings.optimizer not in {"rmsprop", "adam"}:
        return f"the kernel doesn't know the optimizer {settings.optimizer}"
    return None


def unsupported_data(data: TrainingSet) -> str | None:
    """Return why no kernel can read this data, or None."""
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


def unsupported_modules(network: nn.Module, layers: Collection[type[nn.Module]]) -> str | None:
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
