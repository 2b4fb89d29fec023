"""MobileNetV2 (Sandler et al., CVPR 2018): its block (MBConv), an encoder cut at named borders, and the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from qanas.layers.images import ConvNorm, ConvNormReLU6


@dataclass(frozen=True)
class MBConvChoice:
    """What is searched of one block; channels and stride belong to its place.

    Attributes:
        kernel_size: taps a side of the depthwise convolution.
        expansion: inner channels per channel of the input.
    """

    kernel_size: int = 3
    expansion: int = 6


class MBConv(nn.Module):
    """Inverted residual with a linear bottleneck (Sandler et al. 2018, figure 4d).

    1 x 1 to ``expansion`` times the channels, depthwise, 1 x 1 to the output's without activation; the first one
    is left out at expansion 1. Where the stride is 1 and the channels stay as many, the input is added.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        choice: kernel and expansion.
        stride: positions between two outputs of the depthwise convolution.
        dilation: positions between two of its taps.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        choice: MBConvChoice,
        *,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        """Create the layers."""
        super().__init__()
        inner = in_channels * choice.expansion
        layers: list[nn.Module] = [ConvNormReLU6(in_channels, inner)] if choice.expansion > 1 else []
        layers.append(
            ConvNormReLU6(inner, inner, choice.kernel_size, stride=stride, dilation=dilation, groups=inner),
        )
        layers.append(ConvNorm(inner, out_channels))
        self.layers = nn.Sequential(*layers)
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, out_channels, ceil(h / stride), ceil(w / stride))."""
        outputs: Tensor = self.layers(inputs)
        return inputs + outputs if self.adds_input else outputs


def mbconv_stage(
    in_channels: int,
    out_channels: int,
    choices: Sequence[MBConvChoice],
    *,
    stride: int = 1,
    dilation: int = 1,
) -> nn.Sequential:
    """Return a stage: blocks in a row, of which the first has the stride and changes the channels.

    Args:
        in_channels: channels of the stage's input.
        out_channels: channels of every block's output.
        choices: a block each, at least one.
        stride: of the first block.
        dilation: of every block.
    """
    widths = [in_channels, *[out_channels] * len(choices)]
    return nn.Sequential(
        *(
            MBConv(widths[i], out_channels, choice, stride=stride if i == 0 else 1, dilation=dilation)
            for i, choice in enumerate(choices)
        )
    )


STEM_CHANNELS = (32, 16)
"""Channels of the strided convolution and of the block without expansion behind it."""

BLOCK_CHANNELS = (24, 32, 64, 96, 160, 320)
BLOCK_LAYERS = (2, 3, 4, 3, 3, 1)
BLOCK_STRIDES = (2, 2, 2, 1, 2, 1)
STEM_STRIDE = 2
OUTPUT_STRIDES = (8, 16, 32)
HEAD_CHANNELS = 1280
_DIVISOR = 8
_LEAST_SHARE = 0.9

Blocks = Sequence[Sequence[MBConvChoice]]
"""The choices of every layer of every block."""

MOBILENET_V2_BLOCKS: Blocks = tuple((MBConvChoice(),) * layers for layers in BLOCK_LAYERS)
"""The network as published: kernel 3 and expansion 6 everywhere."""


def scaled_channels(channels: int, width: float) -> int:
    """Return ``channels * width`` as a multiple of 8, at least 8, never below 90 % of it (as published).

    >>> [scaled_channels(32, width) for width in (0.35, 0.5, 1.0, 1.4)]
    [16, 16, 32, 48]
    """
    scaled = max(_DIVISOR, int(channels * width + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
    return scaled if scaled >= _LEAST_SHARE * channels * width else scaled + _DIVISOR


def strides_and_dilations(output_stride: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return each block's stride and dilation so that the encoder shrinks its input ``output_stride`` times.

    A stride beyond that becomes dilation, of that block and of all behind it: their taps see what they saw
    (Chen et al. 2017, section 3.1).

    >>> strides_and_dilations(8)
    ((2, 2, 1, 1, 1, 1), (1, 1, 2, 2, 4, 4))

    Raises:
        ValueError: another output stride than 8, 16 or 32.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"an output stride of {output_stride}: take one of {OUTPUT_STRIDES}")
    reached, dilation = STEM_STRIDE, 1
    strides, dilations = [], []
    for stride in BLOCK_STRIDES:
        if reached < output_stride:
            reached *= stride
            strides.append(stride)
        else:
            dilation *= stride
            strides.append(1)
        dilations.append(dilation)
    return tuple(strides), tuple(dilations)


class MobileNetV2Encoder(nn.Module):
    """The convolutions of MobileNetV2 but for the last: a stem and six blocks.

    Args:
        width: factor on all channels (`scaled_channels`).
        output_stride: 8, 16 or 32: how much smaller the last features are than the input.
        blocks: kernel and expansion of each layer of each of the six blocks.
        dilations: of each block, in place of those of `strides_and_dilations`.
        strides: likewise.

    Attributes:
        stem: (batch, 3, h, w) to (batch, 16 width, ceil(h / 2), ceil(w / 2)).
        blocks: six stages, each an ``nn.Sequential`` of `MBConv`.
        channels: of the output of every block.
    """

    def __init__(
        self,
        width: float = 1.0,
        output_stride: int = 32,
        blocks: Blocks = MOBILENET_V2_BLOCKS,
        dilations: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
    ) -> None:
        """Create the layers."""
        super().__init__()
        own_strides, own_dilations = strides_and_dilations(output_stride)
        first, second = (scaled_channels(channels, width) for channels in STEM_CHANNELS)
        self.channels = tuple(scaled_channels(channels, width) for channels in BLOCK_CHANNELS)
        self.stem = nn.Sequential(
            ConvNormReLU6(3, first, 3, stride=STEM_STRIDE),
            MBConv(first, second, MBConvChoice(expansion=1)),
        )
        before = (second, *self.channels[:-1])
        places = zip(before, self.channels, blocks, strides or own_strides, dilations or own_dilations, strict=True)
        self.blocks = nn.Sequential(
            *(
                mbconv_stage(inputs, outputs, choices, stride=stride, dilation=dilation)
                for inputs, outputs, choices, stride, dilation in places
            )
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, 3, h, w) to (batch, 320 width, ceil(h / output_stride), ceil(w / output_stride))."""
        features: Tensor = self.blocks(self.stem(inputs))
        return features

    def features(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return what passes each border: ``stem``, ``block_1`` to ``block_6``.

        Args:
            inputs: shape (batch, 3, h, w).
        """
        borders = {"stem": self.stem(inputs)}
        for index, block in enumerate(self.blocks, 1):
            borders[f"block_{index}"] = block(list(borders.values())[-1])
        return borders


class MobileNetV2(nn.Module):
    """The classifier: encoder, 1 x 1 convolution, global mean, linear layer.

    Args:
        classes: values put out.
        width: factor on all channels; that of the last convolution never falls below 1280, as published.
        output_stride: 8, 16 or 32.
        blocks: kernel and expansion of each layer of each of the six blocks.

    Attributes:
        encoder: stem and blocks.
        head: (batch, 320 width, h', w') to (batch, classes).
    """

    def __init__(
        self,
        classes: int,
        width: float = 1.0,
        output_stride: int = 32,
        blocks: Blocks = MOBILENET_V2_BLOCKS,
    ) -> None:
        """Create the layers."""
        super().__init__()
        self.encoder = MobileNetV2Encoder(width, output_stride, blocks)
        last = scaled_channels(HEAD_CHANNELS, max(width, 1.0))
        self.head = nn.Sequential(
            ConvNormReLU6(self.encoder.channels[-1], last),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(last, classes),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, 3, h, w) to logits, (batch, classes)."""
        logits: Tensor = self.head(self.encoder(inputs))
        return logits
