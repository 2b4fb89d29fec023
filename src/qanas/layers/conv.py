"""Convolution over time with channels last, as the runtime has it."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

Padding = Literal["valid", "causal"]


class Conv1xK(nn.Module):
    """A 1 x k convolution over (batch, time, channels).

    ``torch.nn.Conv1d`` wants channels in front; deployed, that costs transposes around every layer.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: k.
        stride: steps of time between two outputs.
        dilation: steps of time between two taps.
        padding: ``valid`` computes only where every tap has input; ``causal`` puts (k - 1) * dilation zeros in
            front, so that output t sees inputs up to t (Bai et al. 2018).

    Attributes:
        weight: shape (out_channels, in_channels, k).
        bias: shape (out_channels,).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding = "valid",
    ) -> None:
        """Create the parameters, initialised as torch does."""
        super().__init__()
        conv = nn.Conv1d(in_channels, out_channels, kernel_size)
        self.weight = conv.weight
        self.bias = conv.bias if conv.bias is not None else nn.Parameter(conv.weight.new_zeros(out_channels))
        self.stride = stride
        self.dilation = dilation
        self.padding: Padding = padding

    @property
    def left_padding(self) -> int:
        """Zeros in front of the sequence."""
        return (self.weight.shape[2] - 1) * self.dilation if self.padding == "causal" else 0

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, time, in_channels) to (batch, time', out_channels)."""
        padded = F.pad(inputs, (0, 0, self.left_padding, 0))
        outputs = F.conv1d(padded.transpose(1, 2), self.weight, self.bias, self.stride, 0, self.dilation)
        return outputs.transpose(1, 2)
