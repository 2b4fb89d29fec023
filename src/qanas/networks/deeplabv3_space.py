"""The space around DeepLabv3 with MobileNetV2: six blocks of MBConv layers (Lu et al. 2023, table I)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from qanas.core.candidate import Candidate, Value
from qanas.networks.deeplabv3 import ASPP_CHANNELS, DeepLabV3, Geometry, Size, Upsampling
from qanas.networks.mbconv import MBConv, MBConvChoice
from qanas.networks.mobilenet_v2 import BLOCK_CHANNELS, BLOCK_LAYERS, STEM_CHANNELS, Blocks, scaled_channels
from qanas.search_space.blockwise_space import Block, BlockwiseSpace, LayerOption
from qanas.search_space.network_space import TaskShape
from qanas.search_space.quantization_group import REFERENCE_WEIGHT_BITS
from qanas.search_space.settings import AtLeast, Choice, Integer, Setting
from qanas.search_space.training_group import TrainingSettings, training_settings

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


@dataclass(frozen=True)
class DeepLabV3Space(BlockwiseSpace):
    """Encoders of six blocks between DeepLabv3's stem and head. The reference network is MobileNetV2's, all 3 x 3 x 6.

    Attributes:
        width: factor on all channels, of the reference network and of candidates, so that their features fit.
        layers: MBConv layers of each block of a candidate.
        strides: of each block's first layer, in the reference network too.
        kernels: taps a side of a depthwise convolution, searched.
        expansions: inner channels per channel of a layer's input, searched.
        weight_bits: bits of a weight, searched by block; stem and head have 8.
        aspp_channels: of the head, at width 1.
        atrous_rates: of the head's 3 x 3 branches.
        upsampling: bilinear in steps of two, or at once.
    """

    width: Annotated[float, Field(ge=0.1, le=4)] = 1.0
    layers: Annotated[tuple[Layers, ...], Field(strict=False, min_length=6, max_length=6)] = STUDENT_LAYERS
    strides: Annotated[tuple[Literal[1, 2], ...], Field(strict=False, min_length=6, max_length=6)] = (2, 2, 1, 1, 1, 1)
    kernels: Annotated[tuple[Kernel, ...], Field(strict=False, min_length=1)] = (3, 5, 7)
    expansions: Annotated[tuple[Expansion, ...], Field(strict=False, min_length=1)] = (3, 6)
    weight_bits: Annotated[tuple[WeightBits, ...], Field(strict=False, min_length=1)] = (8,)
    aspp_channels: Annotated[int, Field(ge=8, le=1024)] = ASPP_CHANNELS
    atrous_rates: Annotated[tuple[int, ...], Field(strict=False)] = ()
    upsampling: Upsampling = "steps"

    def settings(self, shape: TaskShape) -> list[Setting]:
        """Return layers, kernels and expansions by block, training, bits by block."""
        settings: list[Setting] = []
        reference = MBConvChoice()
        for number, (own, original) in enumerate(zip(self.layers, BLOCK_LAYERS, strict=True), 1):
            layers = f"layers_{number}"
            settings.append(Integer(layers, "architecture", original, low=own, high=own))
            for layer in range(1, max(own, original) + 1):
                exists = AtLeast(layers, layer) if layer > 1 else None
                kernel, expansion = _names(number, layer)
                settings += [
                    Choice(kernel, "architecture", reference.kernel_size, options=self.kernels, condition=exists),
                    Choice(expansion, "architecture", reference.expansion, options=self.expansions, condition=exists),
                ]
        settings += training_settings(shape.losses, REFERENCE_TRAINING)
        bits: list[Setting] = [
            Choice(_bits(number), "quantization", REFERENCE_WEIGHT_BITS, options=self.weight_bits)
            for number in range(1, len(self.layers) + 1)
        ]
        return settings + bits

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

    def module_weight_bits(self, candidate: Candidate) -> dict[str, int]:
        """Return the bits of each block's weights."""
        numbers = range(1, len(self.layers) + 1)
        return {_module(number): int(candidate.quantization[_bits(number)]) for number in numbers}

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
            blocks.append(
                Block(f"block_{number}", _module(number), options, {f"layers_{number}": layers}, _bits(number))
            )
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


def _bits(block: int) -> str:
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
