"""Pooling that pads as the runtime's SAME does: padding is never seen."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, fx, nn

from qanas.layers.same_conv import pad_same


@fx.wrap
def max_pool2d_same(inputs: Tensor, kernel_size: int, stride: int) -> Tensor:
    """Return the largest value of each window of (batch, channels, height, width), under SAME padding."""
    padded = pad_same(inputs, (kernel_size, kernel_size), (stride, stride), value=float("-inf"))
    return F.max_pool2d(padded, kernel_size, stride)


@fx.wrap
def avg_pool2d_same(inputs: Tensor, kernel_size: int, stride: int) -> Tensor:
    """Return the mean of each window of (batch, channels, height, width), padding left out of the count."""
    kernel, steps = (kernel_size, kernel_size), (stride, stride)
    means = F.avg_pool2d(pad_same(inputs, kernel, steps), kernel_size, stride)
    seen = F.avg_pool2d(pad_same(inputs.new_ones(inputs.shape[2:])[None], kernel, steps), kernel_size, stride)
    return means / seen


class _SamePool2d(nn.Module):
    """What both have in common: (batch, channels, height, width), ceil(size / stride) outputs a side.

    Args:
        kernel_size: taps a side.
        stride: positions between two outputs.
    """

    def __init__(self, kernel_size: int, stride: int) -> None:
        """Store the geometry."""
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride


class SameMaxPool2d(_SamePool2d):
    """The largest value of each window: TFLite's MAX_POOL_2D with SAME."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, channels, height', width')."""
        return max_pool2d_same(inputs, self.kernel_size, self.stride)


class SameAvgPool2d(_SamePool2d):
    """The mean of each window: TFLite's AVERAGE_POOL_2D with SAME.

    ``torch.nn.AvgPool2d`` counts its padding as zeros unless told not to, and pads on both sides alike.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, channels, height', width')."""
        return avg_pool2d_same(inputs, self.kernel_size, self.stride)
