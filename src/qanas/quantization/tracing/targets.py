"""Every call of torch that has a translation; one line here for a new file of translators."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn

from qanas.quantization.tracing import (
    arithmetic,
    convolution,
    elementwise,
    joining,
    linear,
    normalization,
    parts,
    pooling,
    recurrent,
    resizing,
    shapes,
)
from qanas.quantization.tracing.translators import FunctionTranslators, ModuleTranslators

_HOMES = (
    arithmetic,
    convolution,
    elementwise,
    joining,
    linear,
    normalization,
    parts,
    pooling,
    recurrent,
    resizing,
    shapes,
)

FUNCTIONS: FunctionTranslators = {target: made for home in _HOMES for target, made in home.FUNCTIONS.items()}
"""Functions, and methods by their name."""

MODULES: ModuleTranslators = {target: made for home in _HOMES for target, made in home.MODULES.items()}

_INSTEAD: dict[Any, str] = {
    **dict.fromkeys((nn.GELU, F.gelu, nn.Mish, F.mish), "Hardswish or ReLU6"),
    **dict.fromkeys((nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d), "BatchNorm2d, which costs nothing once folded"),
    **dict.fromkeys((nn.GRU, nn.RNN), "LSTM"),
    nn.ConvTranspose2d: "a resize and a Conv2d",
}
"""What to use in place of what some networks have and no runtime here."""


def instead_of(target: object) -> str:
    """Return what to use in place of an unknown module's class, function or method."""
    if target in _INSTEAD:
        return f"use {_INSTEAD[target]}"
    if isinstance(target, type):
        return f"known are {', '.join(sorted(known.__name__ for known in MODULES))}"
    names = {known if isinstance(known, str) else known.__name__ for known in FUNCTIONS}
    return f"known are {', '.join(sorted(names))}"
