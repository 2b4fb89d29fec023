"""Small residual networks for images (He et al. 2016, section 4.2), of which MLPerf Tiny has one: ResNet8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from qanas.core.candidate import Value
from qanas.layers.images import ConvNorm, ConvNormActivation
from qanas.layers.mbconv import MBConvChoice
from qanas.networks.staged import Expansion, Place, Stage, StagedSpace, image_stem, mean_head
from qanas.search_space.network_space import TaskShape, narrowed_width

STAGE_CHANNELS = (16, 32, 64)

Reference = Literal["resnet8", "resnet20", "resnet32", "resnet44", "resnet56"]

BLOCKS_A_STAGE: Mapping[str, int] = {"resnet8": 1, "resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9}
"""A network of n blocks a stage has 6 n + 2 layers."""


class ResidualBlock(nn.Module):
    """Two convolutions and a way around them; where the shape changes, a 1 x 1 convolution is on it.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        choice: kernel of both convolutions, and channels between them for each of the output's.
        stride: positions between two outputs.
    """

    def __init__(self, in_channels: int, out_channels: int, choice: MBConvChoice, stride: int = 1) -> None:
        """Create the layers."""
        super().__init__()
        inner = narrowed_width(out_channels, choice.expansion)
        self.layers = nn.Sequential(
            ConvNormActivation(in_channels, inner, choice.kernel_size, choice.activation, stride=stride),
            ConvNorm(inner, out_channels, choice.kernel_size),
        )
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else ConvNorm(in_channels, out_channels, stride=stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, out_channels, ceil(h / stride), ceil(w / stride))."""
        return torch.relu(self.layers(inputs) + self.shortcut(inputs))


@dataclass(frozen=True)
class ResNetSpace(StagedSpace):
    """Residual networks of three stages. Ways around have convolutions where the shape changes, as in MLPerf Tiny's.

    Attributes:
        reference: ``resnet8`` is MLPerf Tiny's for image classification; the others are He et al.'s for CIFAR-10.
        expansions: channels between a block's two convolutions for each of its output's, searched.
    """

    reference: Reference = "resnet8"
    expansions: Annotated[tuple[Expansion, ...], Field(strict=False)] = (0.5, 1)

    def searched(self, layer: MBConvChoice) -> dict[str, tuple[Value, ...]]:
        """Return kernels and expansions."""
        return {"expansion": self.expansions, **super().searched(layer)}

    def reference_stages(self) -> Sequence[Stage]:
        """Return three stages, the second and the third at half the size of the one before."""
        layers = (MBConvChoice(3, 1, activation="relu"),) * BLOCKS_A_STAGE[self.reference]
        return [Stage(channels, layers, stride) for channels, stride in zip(STAGE_CHANNELS, (1, 2, 2), strict=True)]

    def stem(self, shape: TaskShape, width: float) -> tuple[nn.Module, int]:
        """Return a convolution of 3 x 3."""
        channels = self.scaled(STAGE_CHANNELS[0], width)
        return image_stem(
            "resnet", shape, partial(ConvNormActivation, out_channels=channels, kernel_size=3, activation="relu")
        ), channels

    def layer(self, place: Place, choice: MBConvChoice) -> nn.Module:
        """Return a `ResidualBlock`."""
        return ResidualBlock(place.in_channels, place.out_channels, choice, place.stride)

    def head(self, shape: TaskShape, channels: int, width: float) -> nn.Module:
        """Return the mean over the image and a linear layer."""
        del width
        return mean_head(shape, channels)
