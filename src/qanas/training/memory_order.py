"""The order in which images and weights of convolutions lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor

IMAGE_AXES = 4


def channels_last(values: Tensor) -> Tensor:
    """Return (batch, channels, height, width) with the channels next to each other; anything else as it is.

    Convolutions on a CPU train 1.2 to 1.6 times faster on them (DeepLabv3 of width 0.5 at 96 x 128, one thread).
    """
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == IMAGE_AXES else values


def flattened(weights: Tensor) -> Tensor:
    """Return weights as one vector, those of two-dimensional convolutions with the input channels last."""
    return (weights.permute(0, 2, 3, 1) if weights.ndim == IMAGE_AXES else weights).reshape(-1)


def unflattened(vector: Tensor, shape: torch.Size) -> Tensor:
    """Return the part of a vector that `flattened` made of weights, as a view of their shape."""
    if len(shape) != IMAGE_AXES:
        return vector.view(shape)
    out, inner, rows, columns = shape
    return vector.view(out, rows, columns, inner).permute(0, 3, 1, 2)
