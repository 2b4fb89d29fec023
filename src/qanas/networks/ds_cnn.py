"""DS-CNN: depthwise separable convolutions for keyword spotting (Zhang et al. 2017, "Hello Edge").

Its input is a table of features: frames by coefficients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from qanas.core.candidate import Value
from qanas.layers.images import ConvNormActivation
from qanas.layers.mbconv import MBConv, MBConvChoice
from qanas.networks.staged import Expansion, Place, Stage, StagedSpace, image_stem, mean_head
from qanas.search_space.network_space import TaskShape

STEM_KERNEL = (10, 4)
"""Frames and coefficients that an output of the first convolution sees."""

Reference = Literal["ds_cnn_s", "ds_cnn_m", "ds_cnn_l"]


@dataclass(frozen=True)
class Size:
    """One of the published sizes.

    Attributes:
        channels: of every layer.
        layers: separable ones.
        stem_stride: frames and coefficients between two outputs of the first convolution.
        stride: of the first separable one.
    """

    channels: int
    layers: int
    stem_stride: tuple[int, int]
    stride: int


SIZES: Mapping[Reference, Size] = {
    "ds_cnn_s": Size(64, 4, (2, 2), 1),
    "ds_cnn_m": Size(172, 4, (2, 1), 2),
    "ds_cnn_l": Size(276, 5, (2, 1), 2),
}


@dataclass(frozen=True)
class DSCNNSpace(StagedSpace):
    """A convolution of 10 x 4, then separable convolutions; samples are tables or images.

    Attributes:
        reference: ``ds_cnn_s`` is MLPerf Tiny's for keyword spotting.
        expansions: channels inside a layer per channel of its input, searched; none: 1, as published.
    """

    reference: Reference = "ds_cnn_s"
    expansions: Annotated[tuple[Expansion, ...], Field(strict=False)] = ()

    def searched(self, layer: MBConvChoice) -> dict[str, tuple[Value, ...]]:
        """Return kernels and expansions."""
        return {"expansion": self.expansions, **super().searched(layer)}

    def reference_stages(self) -> Sequence[Stage]:
        """Return one stage."""
        size = SIZES[self.reference]
        return [Stage(size.channels, (MBConvChoice(3, 1, activation="relu"),) * size.layers, size.stride)]

    def stem(self, shape: TaskShape, width: float) -> tuple[nn.Module, int]:
        """Return a convolution of 10 x 4."""
        size = SIZES[self.reference]
        channels = self.scaled(size.channels, width)
        layer = partial(
            ConvNormActivation,
            out_channels=channels,
            kernel_size=STEM_KERNEL,
            activation="relu",
            stride=size.stem_stride,
        )
        return image_stem("ds_cnn", shape, layer), channels

    def layer(self, place: Place, choice: MBConvChoice) -> nn.Module:
        """Return a separable convolution; at an expansion other than 1, of more or fewer channels inside."""
        return MBConv(place.in_channels, place.out_channels, choice, stride=place.stride, linear=False)

    def head(self, shape: TaskShape, channels: int, width: float) -> nn.Module:
        """Return the mean over the table and a linear layer."""
        del width
        return mean_head(shape, channels)
