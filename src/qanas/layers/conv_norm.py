"""The convolution that most networks repeat: SAME padding, batch norm, ReLU6."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from qanas.layers.same_conv import SameConv2d


class ConvNorm(nn.Sequential):
    """A convolution without bias and its batch norm (Ioffe & Szegedy 2015): one operator once folded.

    (batch, in_channels, height, width) to (batch, out_channels, ceil(height / stride), ceil(width / stride)).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: taps a side.
        stride: positions between two outputs.
        dilation: positions between two taps.
        groups: groups of channels convolved apart; as many as there are channels is a depthwise convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        """Create the layers ``conv`` and ``norm``."""
        conv = SameConv2d(
            in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups, bias=False
        )
        super().__init__(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels)))


class ConvNormReLU6(ConvNorm):
    """A `ConvNorm` and min(max(x, 0), 6): a range that is known suits eight bits (Sandler et al. 2018)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        """Create the layers ``conv``, ``norm`` and ``activation``."""
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups)
        self.add_module("activation", nn.ReLU6(inplace=True))
