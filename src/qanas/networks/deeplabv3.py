"""DeepLabv3 (Chen et al. 2017) with MobileNetV2 as its encoder, and the space around it.

The network has the light form of Sandler et al. (2018, sec. 6.3); the space is that of Lu et al. (2023, table I), six
blocks of MBConv layers.

Shapes, for an input of h x w, width 1: stem 16 x h/2 x w/2; blocks 24 x h/4 x w/4, 32 x h/8 x w/8, then 64, 96, 160
and 320 channels at h/8 x w/8; head: classes x h x w. Sizes are rounded up where they don't divide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from pydantic import Field
from torch import Tensor, nn

from qanas.core.bits import told_bits
from qanas.core.candidate import Candidate, Value
from qanas.layers.images import ConvNormReLU6
from qanas.layers.mbconv import MBConv, MBConvChoice, scaled_channels
from qanas.networks.mobilenet_v2 import (
    BLOCK_CHANNELS,
    BLOCK_LAYERS,
    MOBILENET_V2_BLOCKS,
    STEM_CHANNELS,
    Blocks,
    MobileNetV2Encoder,
    strides_and_dilations,
)
from qanas.search_space.blockwise_space import Block, BlockwiseSpace, LayerOption
from qanas.search_space.network_space import TaskShape
from qanas.search_space.quantization_group import BitsPer, BlockBits
from qanas.search_space.settings import Choice, Integer, Setting, exists
from qanas.search_space.training_group import TrainingSettings, training_settings

OUTPUT_STRIDE = 8
STRIDES = strides_and_dilations(OUTPUT_STRIDE)[0]
"""The stride of each block (Lu et al. 2023, table I)."""

ASPP_CHANNELS = 256
LARGEST_KERNEL = 7
"""The largest kernel that block-wise search puts into a block."""

Size = tuple[int, int]
Upsampling = Literal["steps", "at_once"]
"""In x2 bilinear steps, which microcontrollers' accelerators have, or in one: two networks that differ."""


def halved(size: Size, times: int) -> Size:
    """Return height and width after strides of 2, rounded up each time.

    >>> halved((360, 500), 3)
    (45, 63)
    """
    factor = 2**times
    return -(-size[0] // factor), -(-size[1] // factor)


@dataclass(frozen=True)
class Geometry:
    """Where the encoder's blocks look.

    Attributes:
        strides: of each block, 1 or 2.
        dilations: of each block.
    """

    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    @classmethod
    def fitting(cls, input_size: Size, kernel_size: int = LARGEST_KERNEL, strides: tuple[int, ...] = STRIDES) -> Self:
        """Return strides with the dilations that suit the input's size, see `dilations_for`."""
        return cls(strides, dilations_for(input_size, kernel_size, strides))


def halvings(strides: Sequence[int]) -> int:
    """Return how many times the features behind all blocks were halved; the stem halves once.

    >>> halvings((2, 2, 1, 1, 1, 1))
    3
    """
    return 1 + sum(stride == 2 for stride in strides)  # noqa: PLR2004 - strides are 1 or 2


def dilations_for(
    input_size: Size, kernel_size: int = LARGEST_KERNEL, strides: Sequence[int] = STRIDES
) -> tuple[int, ...]:
    """Return the dilation of each block, that of `strides_and_dilations` halved until its kernels fit the features.

    Dilation is meant for maps of Cityscapes' size (64 x 128 at stride 8). On maps of 12 x 16, a kernel of 7 at
    dilation 4 spans 25 positions: most of its taps would see nothing but padding.

    Args:
        input_size: height and width of the network's input.
        kernel_size: the largest kernel there will be; the same for teacher and students, so that they agree.
        strides: of each block.

    >>> dilations_for((360, 480)), dilations_for((192, 256)), dilations_for((96, 128))
    ((1, 1, 2, 2, 4, 4), (1, 1, 2, 2, 2, 2), (1, 1, 1, 1, 1, 1))
    """
    room = min(halved(input_size, halvings(strides)))
    dilations = []
    for dilation in strides_and_dilations(OUTPUT_STRIDE)[1]:
        fitting = dilation
        while fitting > 1 and (kernel_size - 1) * fitting >= room:
            fitting //= 2
        dilations.append(fitting)
    return tuple(dilations)


class ImagePooling(nn.Module):
    """What the whole image says, at every position: mean, 1 x 1 convolution, copied back to the map's size.

    It has a bias and no batch norm: a batch of one sample has a single value a channel here, and no deviation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        size: height and width of the map.
    """

    def __init__(self, in_channels: int, out_channels: int, size: Size) -> None:
        """Create the layers."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(in_channels, out_channels, 1), nn.ReLU6(inplace=True)
        )
        self.size = size

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, in_channels, *size) to (batch, out_channels, *size)."""
        return F.interpolate(self.layers(inputs), size=self.size, mode="nearest")


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2017, figure 5): views of several extents, concatenated.

    Without rates, the light form: 1 x 1 and image pooling. An atrous branch is depthwise separable, as in
    DeepLabv3+ (Chen et al. 2018, section 3.1).

    Args:
        in_channels: channels of the input.
        out_channels: channels of every branch and of the output.
        size: height and width of the map.
        rates: dilations of the 3 x 3 branches.
    """

    def __init__(self, in_channels: int, out_channels: int, size: Size, rates: Sequence[int] = ()) -> None:
        """Create the branches."""
        super().__init__()
        self.branches = nn.ModuleList(
            [
                ConvNormReLU6(in_channels, out_channels),
                *(
                    nn.Sequential(
                        ConvNormReLU6(in_channels, in_channels, 3, dilation=rate, groups=in_channels),
                        ConvNormReLU6(in_channels, out_channels),
                    )
                    for rate in rates
                ),
                ImagePooling(in_channels, out_channels, size),
            ]
        )
        self.project = ConvNormReLU6(len(self.branches) * out_channels, out_channels)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, in_channels, *size) to (batch, out_channels, *size)."""
        views = torch.cat([branch(inputs) for branch in self.branches], dim=1)
        projected: Tensor = self.project(views)
        return projected


class Upsample(nn.Module):
    """Bilinear resizing (corners not aligned) through given sizes, one after the other.

    Args:
        sizes: heights and widths, the last one the output's.
    """

    def __init__(self, sizes: Sequence[Size]) -> None:
        """Store the sizes."""
        super().__init__()
        self.sizes = tuple(sizes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to (batch, channels, *sizes[-1])."""
        for size in self.sizes:
            inputs = F.interpolate(inputs, size=size, mode="bilinear", align_corners=False)
        return inputs


class DeepLabV3(nn.Module):
    """Semantic segmentation: MobileNetV2 at output stride 8, ASPP, classes, upsampling.

    Block-wise search cuts it at ``encoder.stem``, the six of ``encoder.blocks``, and ``head``
    (Lu et al. 2023, table I). Behind other strides than those the head works on maps of another size.

    Args:
        input_size: height and width of the input.
        classes: channels of the output.
        width: factor on all channels.
        blocks: kernel and expansion of each layer of each of the six blocks.
        geometry: of the blocks; the one that fits the input's size where there is none.
        aspp_channels: of the head, at width 1.
        atrous_rates: of the head's 3 x 3 branches; none is the light form.
        upsampling: "steps" doubles as often as the encoder halved (to the sizes that it had, where they are odd),
            "at_once" resizes once. The two are different networks.

    Attributes:
        encoder: (batch, 3, h, w) to (batch, 320 width, ceil(h / 8), ceil(w / 8)) with the strides of table I.
        head: from there to logits, (batch, classes, h, w).
    """

    def __init__(
        self,
        input_size: Size,
        classes: int,
        *,
        width: float = 1.0,
        blocks: Blocks = MOBILENET_V2_BLOCKS,
        geometry: Geometry | None = None,
        aspp_channels: int = ASPP_CHANNELS,
        atrous_rates: Sequence[int] = (),
        upsampling: Upsampling = "steps",
    ) -> None:
        """Create the layers."""
        super().__init__()
        geometry = geometry or Geometry.fitting(input_size)
        self.encoder = MobileNetV2Encoder(width, OUTPUT_STRIDE, blocks, geometry.dilations, geometry.strides)
        channels = scaled_channels(aspp_channels, width)
        times = halvings(geometry.strides)
        sizes = [halved(input_size, done) for done in reversed(range(times))]
        self.head = nn.Sequential(
            ASPP(self.encoder.channels[-1], channels, halved(input_size, times), atrous_rates),
            nn.Conv2d(channels, classes, 1),
            Upsample(sizes if upsampling == "steps" else sizes[-1:]),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, 3, h, w) to logits, (batch, classes, h, w)."""
        logits: Tensor = self.head(self.encoder(inputs))
        return logits


STUDENT_LAYERS = (3, 3, 4, 4, 3, 1)
IMAGE_AXES = 3

REFERENCE_TRAINING = TrainingSettings(
    learning_rate=5e-3, optimizer="adam", scheduler="cosine", batch_size=8, loss="cross_entropy", gradient_clip=5.0
)
"""How teacher and students are trained: one recipe for both."""

Layers = Annotated[int, Field(ge=1, le=12)]
Kernel = Literal[3, 5, 7]
Expansion = Annotated[int, Field(ge=1, le=12)]
WeightBits = Literal[4, 6, 8]

NARROWEST = 0.1
"""Of a space's width."""


@dataclass(frozen=True)
class DeepLabV3Space(BlockwiseSpace):
    """Encoders of six blocks between DeepLabv3's stem and head. The reference network is MobileNetV2's, all 3 x 3 x 6.

    Attributes:
        width: factor on all channels, of the reference network and of candidates, so that their features fit.
        layers: MBConv layers of each block of a candidate.
        strides: of each block's first layer, in the reference network too.
        kernels: taps a side of a depthwise convolution, searched.
        expansions: inner channels per channel of a layer's input, searched.
        weight_bits: bits of a weight that are searched; stem and head have 8.
        bits_per: whether a block or a layer has bits of its own.
        aspp_channels: of the head, at width 1.
        atrous_rates: of the head's 3 x 3 branches.
        upsampling: bilinear in steps of two, or at once.
    """

    width: Annotated[float, Field(ge=NARROWEST, le=4)] = 1.0
    layers: Annotated[tuple[Layers, ...], Field(strict=False, min_length=6, max_length=6)] = STUDENT_LAYERS
    strides: Annotated[tuple[Literal[1, 2], ...], Field(strict=False, min_length=6, max_length=6)] = (2, 2, 1, 1, 1, 1)
    kernels: Annotated[tuple[Kernel, ...], Field(strict=False, min_length=1)] = (3, 5, 7)
    expansions: Annotated[tuple[Expansion, ...], Field(strict=False, min_length=1)] = (3, 6)
    weight_bits: Annotated[tuple[WeightBits, ...], Field(strict=False, min_length=1)] = (8,)
    bits_per: BitsPer = "block"
    aspp_channels: Annotated[int, Field(ge=8, le=1024)] = ASPP_CHANNELS
    atrous_rates: Annotated[tuple[int, ...], Field(strict=False)] = ()
    upsampling: Upsampling = "steps"

    def settings(self, shape: TaskShape) -> list[Setting]:
        """Return layers, kernels and expansions by block, training, bits."""
        settings: list[Setting] = []
        reference = MBConvChoice()
        for number, (own, original) in enumerate(zip(self.layers, BLOCK_LAYERS, strict=True), 1):
            layers = f"layers_{number}"
            settings.append(Integer(layers, "architecture", original, low=own, high=own))
            for layer in range(1, max(own, original) + 1):
                there = exists(layers, layer)
                kernel, expansion = _names(number, layer)
                settings += [
                    Choice(kernel, "architecture", reference.kernel_size, options=self.kernels, condition=there),
                    Choice(expansion, "architecture", reference.expansion, options=self.expansions, condition=there),
                ]
        settings += training_settings(shape.losses, replace(REFERENCE_TRAINING, loss=shape.losses[0]))
        return [*settings, *self._bits.settings()]

    @property
    def _bits(self) -> BlockBits:
        layers = {_bits_name(number): layers for number, layers in enumerate(self.layers, 1)}
        return BlockBits(layers, self.weight_bits, self.bits_per)

    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        """Return the candidate's `DeepLabV3`."""
        return DeepLabV3(
            image_size(shape),
            shape.output_size,
            width=self.width,
            blocks=_choices(candidate.architecture),
            geometry=self._geometry(shape),
            aspp_channels=self.aspp_channels,
            atrous_rates=self.atrous_rates,
            upsampling=self.upsampling,
        )

    def describe(self, candidate: Candidate) -> str:
        """Return how many MBConv layers it has, what they are on average, and the bits of its blocks."""
        layers = [choice for block in _choices(candidate.architecture) for choice in block]
        kernel, expansion = (
            sum(choice.kernel_size for choice in layers) / len(layers),
            sum(choice.expansion for choice in layers) / len(layers),
        )
        bits = told_bits(self._bits.of(candidate.quantization))
        means = f"kernels of {kernel:.2g} and expansions of {expansion:.2g} on average"
        return f"{len(layers)} MBConv layers, {means}, {bits} bits"

    def narrowed(self, share: float) -> Self | None:
        """Return the space of that share of the width, down to the narrowest that there is."""
        width = share * self.width
        return replace(self, width=width) if width >= NARROWEST else None

    def module_weight_bits(self, candidate: Candidate) -> dict[str, int]:
        """Return the bits of each block's weights, or of each layer's."""
        modules = [_module(number) for number, _ in enumerate(self.layers, 1)]
        return self._bits.of_modules(modules, candidate.quantization)

    def blocks(self, shape: TaskShape) -> list[Block]:
        """Return the six blocks; an option is a kernel with an expansion."""
        channels = [scaled_channels(count, self.width) for count in (STEM_CHANNELS[-1], *BLOCK_CHANNELS)]
        blocks = []
        for number, (layers, stride, dilation) in enumerate(
            zip(self.layers, self.strides, self._geometry(shape).dilations, strict=True), 1
        ):
            places = [
                partial(
                    MBConv,
                    channels[number] if layer > 1 else channels[number - 1],
                    channels[number],
                    stride=1 if layer > 1 else stride,
                    dilation=dilation,
                )
                for layer in range(1, layers + 1)
            ]
            options = tuple(self._options(number, layer, place) for layer, place in enumerate(places, 1))
            own = {f"layers_{number}": layers}
            blocks.append(Block(f"block_{number}", _module(number), options, own, _bits_name(number), self.bits_per))
        return blocks

    def _options(self, block: int, layer: int, place: partial[MBConv]) -> tuple[LayerOption, ...]:
        kernel_name, expansion_name = _names(block, layer)
        return tuple(
            LayerOption(
                f"k{kernel}e{expansion}",
                {kernel_name: kernel, expansion_name: expansion},
                partial(place, choice=MBConvChoice(kernel, expansion)),
            )
            for kernel, expansion in product(self.kernels, self.expansions)
        )

    def _geometry(self, shape: TaskShape) -> Geometry:
        return Geometry.fitting(image_size(shape), max(self.kernels), self.strides)


def image_size(shape: TaskShape) -> Size:
    """Return height and width of a task's images.

    Raises:
        ValueError: the task's samples are no images.
    """
    if len(shape.input_shape) != IMAGE_AXES:
        raise ValueError(f"samples of shape {shape.input_shape}: deeplabv3 takes images, (3, height, width)")
    return shape.input_shape[1], shape.input_shape[2]


def _names(block: int, layer: int) -> tuple[str, str]:
    return f"kernel_{block}_{layer}", f"expansion_{block}_{layer}"


def _bits_name(block: int) -> str:
    return f"weight_bits_{block}"


def _module(block: int) -> str:
    return f"encoder.blocks.{block - 1}"


def _choices(architecture: Mapping[str, Value]) -> Blocks:
    """Return kernel and expansion of every layer of every block."""
    blocks = []
    for number in range(1, len(BLOCK_LAYERS) + 1):
        names = [_names(number, layer) for layer in range(1, int(architecture[f"layers_{number}"]) + 1)]
        values = [[int(architecture[name]) for name in pair] for pair in names]
        blocks.append([MBConvChoice(kernel, expansion) for kernel, expansion in values])
    return blocks
