"""ShuffleNetV2 (Ma et al., ECCV 2018) as a backbone of detectors: features at strides 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qanas.layers.images import ChannelShuffle, ConvNorm, ConvNormReLU6, SameMaxPool2d

STEM_CHANNELS = 24
STAGE_CHANNELS = (48, 96, 192)
STAGE_UNITS = (4, 8, 4)


class Unit(nn.Module):
    """The unit of stride 1 (figure 3c): half of the channels pass, the other half is convolved.

    The shuffle is in front of the split instead of behind the concatenation: the same network up to the order of
    its channels, with a shuffle less a stage.

    Args:
        channels: of the input and of the output; even.
    """

    def __init__(self, channels: int) -> None:
        """Create the layers."""
        super().__init__()
        half = channels // 2
        self.shuffle = ChannelShuffle(2)
        self.branch = nn.Sequential(
            ConvNormReLU6(half, half),
            ConvNorm(half, half, 3, groups=half),
            ConvNormReLU6(half, half),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape."""
        halves = torch.chunk(self.shuffle(inputs), 2, dim=1)
        # By number: to unpack them, torch.fx reads the bytecode, which takes as long as all the rest of its tracing.
        return torch.cat((halves[0], self.branch(halves[1])), dim=1)


class DownUnit(nn.Module):
    """The unit of stride 2 (figure 3d): both branches see all channels and put out half of them each.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; even.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Create the layers."""
        super().__init__()
        half = out_channels // 2
        self.shortcut = nn.Sequential(
            ConvNorm(in_channels, in_channels, 3, stride=2, groups=in_channels),
            ConvNormReLU6(in_channels, half),
        )
        self.branch = nn.Sequential(
            ConvNormReLU6(in_channels, half),
            ConvNorm(half, half, 3, stride=2, groups=half),
            ConvNormReLU6(half, half),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, out_channels, ceil(h / 2), ceil(w / 2))."""
        return torch.cat((self.shortcut(inputs), self.branch(inputs)), dim=1)


class ShuffleNetV2(nn.Module):
    """Stem and three stages.

    Args:
        stem_channels: of the strided convolution in front.
        stage_channels: of each stage, even.
        stage_units: of each stage; the first one has stride 2.
    """

    def __init__(
        self,
        stem_channels: int = STEM_CHANNELS,
        stage_channels: Sequence[int] = STAGE_CHANNELS,
        stage_units: Sequence[int] = STAGE_UNITS,
    ) -> None:
        """Create the layers."""
        super().__init__()
        self.stem = nn.Sequential(ConvNormReLU6(3, stem_channels, 3, stride=2), SameMaxPool2d(3, 2))
        before = (stem_channels, *stage_channels[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(DownUnit(inputs, outputs), *(Unit(outputs) for _ in range(units - 1)))
            for inputs, outputs, units in zip(before, stage_channels, stage_units, strict=True)
        )

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Map (batch, 3, h, w) to the features of every stage, at strides 8, 16 and 32."""
        features = [self.stem(inputs)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return tuple(features[1:])
