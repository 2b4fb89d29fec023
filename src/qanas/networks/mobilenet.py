"""Mobile networks for images: MobileNetV1, V2 and V3, EfficientNet-Lite, and the space around one of them.

Stages of one kind of layer (`qanas.layers.mbconv`) behind a strided convolution and a first layer of few channels, in
front of a wider convolution and a classifier. Published tables, a row a stage.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from qanas.core.candidate import Value
from qanas.layers.images import ACTIVATIONS, Activation, ConvNormActivation
from qanas.layers.mbconv import MBConv, MBConvChoice, scaled_channels
from qanas.layers.sequences import ScaledLinear
from qanas.networks.staged import Expansion, Place, Stage, StagedSpace, image_stem
from qanas.search_space.network_space import TaskShape

MOST_HALVINGS = 5
EXPANSIONS = (3, 6)
"""What is searched where nothing else is said."""


@dataclass(frozen=True)
class MobileNet:
    """A network as published.

    Attributes:
        first: the layer behind the stem's convolution.
        stages: all further ones.
        head_channels: of the 1 x 1 convolution behind them; 0: there is none.
        hidden: units of a dense layer in front of the last one; 0: there is none.
        width: factor on all channels but those of the head, which never fall below the published.
        stem_channels: of the strided convolution.
        activation: of stem and head.
        linear: whether layers end without activation, and add their input.
        expansions: that are searched where nothing else is said.
    """

    first: Stage
    stages: tuple[Stage, ...]
    head_channels: int = 1280
    hidden: int = 0
    width: float = 1.0
    stem_channels: int = 32
    activation: Activation = "relu6"
    linear: bool = True
    expansions: tuple[float, ...] = EXPANSIONS


def _stage(channels: int, layers: int, stride: int, kernel: int = 3, expansion: float = 6) -> Stage:
    return Stage(channels, (MBConvChoice(kernel, expansion),) * layers, stride)


_V1 = MobileNet(  # Howard et al. 2017, table 1
    _stage(64, 1, 1, expansion=1),
    tuple(_stage(channels, layers, 2, expansion=1) for channels, layers in ((128, 2), (256, 2), (512, 6), (1024, 2))),
    head_channels=0,
    linear=False,
    expansions=(1,),
)
_V2 = MobileNet(  # Sandler et al. 2018, table 2
    _stage(16, 1, 1, expansion=1),
    tuple(_stage(*row) for row in ((24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))),
)


def _v3(channels: int, stride: int, activation: Activation, kernel: int, inner: Sequence[float], *, se: bool) -> Stage:
    """Return a stage of layers that differ in their inner channels per channel of the input."""
    return Stage(channels, tuple(MBConvChoice(kernel, expansion, se, activation) for expansion in inner), stride)


_V3_LARGE = MobileNet(  # Howard et al. 2019, table 1
    _v3(16, 1, "relu", 3, [1], se=False),
    (
        _v3(24, 2, "relu", 3, [4, 3], se=False),
        _v3(40, 2, "relu", 5, [3, 3, 3], se=True),
        _v3(80, 2, "hard_swish", 3, [6, 2.5, 2.3, 2.3], se=False),
        _v3(112, 1, "hard_swish", 3, [6, 6], se=True),
        _v3(160, 2, "hard_swish", 5, [6, 6, 6], se=True),
    ),
    head_channels=960,
    hidden=1280,
    stem_channels=16,
    activation="hard_swish",
)
_V3_SMALL = MobileNet(  # Howard et al. 2019, table 2
    _v3(16, 2, "relu", 3, [1], se=True),
    (
        _v3(24, 2, "relu", 3, [72 / 16, 88 / 24], se=False),
        _v3(40, 2, "hard_swish", 5, [96 / 24, 6, 6], se=True),
        _v3(48, 1, "hard_swish", 5, [3, 3], se=True),
        _v3(96, 2, "hard_swish", 5, [6, 6, 6], se=True),
    ),
    head_channels=576,
    hidden=1024,
    stem_channels=16,
    activation="hard_swish",
)


def _lite(width: float, depth: float) -> MobileNet:
    """Return an EfficientNet-Lite: EfficientNet-B0's stages (Tan & Le 2019, table 1) scaled, but for stem and head."""
    rows = ((24, 2, 2, 3), (40, 2, 2, 5), (80, 3, 2, 3), (112, 3, 1, 5), (192, 4, 2, 5), (320, 1, 1, 3))
    return MobileNet(
        _stage(scaled_channels(16, width), 1, 1, expansion=1),
        tuple(
            _stage(
                scaled_channels(channels, width), layers if layers == 1 else math.ceil(depth * layers), stride, kernel
            )
            for channels, layers, stride, kernel in rows
        ),
    )


Reference = Literal[
    "mobilenet_v1_0.25",
    "mobilenet_v1_0.5",
    "mobilenet_v1_0.75",
    "mobilenet_v1_1.0",
    "mobilenet_v2_0.35",
    "mobilenet_v2_0.5",
    "mobilenet_v2_0.75",
    "mobilenet_v2_1.0",
    "mobilenet_v2_1.4",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "efficientnet_lite3",
    "efficientnet_lite4",
]

REFERENCES: Mapping[Reference, MobileNet] = {
    "mobilenet_v1_0.25": replace(_V1, width=0.25),
    "mobilenet_v1_0.5": replace(_V1, width=0.5),
    "mobilenet_v1_0.75": replace(_V1, width=0.75),
    "mobilenet_v1_1.0": _V1,
    "mobilenet_v2_0.35": replace(_V2, width=0.35),
    "mobilenet_v2_0.5": replace(_V2, width=0.5),
    "mobilenet_v2_0.75": replace(_V2, width=0.75),
    "mobilenet_v2_1.0": _V2,
    "mobilenet_v2_1.4": replace(_V2, width=1.4),
    "mobilenet_v3_large": _V3_LARGE,
    "mobilenet_v3_small": _V3_SMALL,
    "efficientnet_lite0": _lite(1.0, 1.0),
    "efficientnet_lite1": _lite(1.0, 1.1),
    "efficientnet_lite2": _lite(1.1, 1.2),
    "efficientnet_lite3": _lite(1.2, 1.4),
    "efficientnet_lite4": _lite(1.4, 1.8),
}


@dataclass(frozen=True)
class MobileNetSpace(StagedSpace):
    """Mobile networks around one that is published.

    Attributes:
        reference: ``mobilenet_v1_0.25`` is MLPerf Tiny's for visual wake words.
        expansions: inner channels per channel of a layer's input, searched; none: 3 and 6, around MobileNetV1 1 alone.
        squeezes: whether layers have squeeze-and-excite, searched; none: as the reference.
        activations: of the layers, searched; none: as the reference.
        halvings: how often images are halved; below 5 the first strides are 1, from the stem on: for small images.
    """

    reference: Reference = "mobilenet_v2_0.35"
    expansions: Annotated[tuple[Expansion, ...], Field(strict=False)] = ()
    squeezes: Annotated[tuple[bool, ...], Field(strict=False)] = ()
    activations: Annotated[tuple[Activation, ...], Field(strict=False)] = ()
    halvings: Annotated[int, Field(ge=1, le=MOST_HALVINGS)] = MOST_HALVINGS

    @property
    def published(self) -> MobileNet:
        """The reference's tables."""
        return REFERENCES[self.reference]

    def scaled(self, channels: int, width: float) -> int:
        """Return a multiple of 8, as published."""
        return scaled_channels(channels, self.published.width * width)

    @property
    def strides(self) -> list[int]:
        """Of the stem, the first layer, and every stage."""
        own = [2, self.published.first.stride, *(stage.stride for stage in self.published.stages)]
        spared = MOST_HALVINGS - self.halvings
        for place, stride in enumerate(own):
            if stride > 1 and spared:
                own[place] = 1
                spared -= 1
        return own

    def reference_stages(self) -> Sequence[Stage]:
        """Return all stages but the first layer."""
        pairs = zip(self.published.stages, self.strides[2:], strict=True)
        return [replace(stage, stride=stride) for stage, stride in pairs]

    def searched(self, layer: MBConvChoice) -> dict[str, tuple[Value, ...]]:
        """Return kernels, expansions, squeeze-and-excite and activations."""
        del layer
        expansions = self.expansions or self.published.expansions
        return {
            "expansion": expansions,
            "kernel_size": self.kernels,
            "squeeze": self.squeezes,
            "activation": self.activations,
        }

    def stem(self, shape: TaskShape, width: float) -> tuple[nn.Module, int]:
        """Return a convolution of 3 x 3 and the first layer."""
        published, (stride, stride_behind, *_) = self.published, self.strides
        inner, outputs = (self.scaled(count, width) for count in (published.stem_channels, published.first.channels))
        conv = partial(
            ConvNormActivation, out_channels=inner, kernel_size=3, activation=published.activation, stride=stride
        )
        first = self.layer(Place(inner, outputs, stride_behind), published.first.layers[0])
        return nn.Sequential(image_stem("mobilenet", shape, conv), first), outputs

    def layer(self, place: Place, choice: MBConvChoice) -> nn.Module:
        """Return an `MBConv`."""
        return MBConv(place.in_channels, place.out_channels, choice, stride=place.stride, linear=self.published.linear)

    def head(self, shape: TaskShape, channels: int, width: float) -> nn.Module:
        """Return a 1 x 1 convolution, the mean over the image, and dense layers."""
        published, layers = self.published, OrderedDict[str, nn.Module]()
        factor = max(published.width, 1.0) * width
        if published.head_channels:
            inner = scaled_channels(published.head_channels, factor)
            layers["conv"] = ConvNormActivation(channels, inner, activation=published.activation)
            channels = inner
        layers["mean"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        if published.hidden:
            units = scaled_channels(published.hidden, factor)
            layers["hidden"] = ScaledLinear(channels, units)
            layers["activation"] = ACTIVATIONS[published.activation]()
            channels = units
        layers["output"] = ScaledLinear(channels, shape.output_size, shape.output_scale)
        return nn.Sequential(layers)
