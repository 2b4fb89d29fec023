"""MobileNetV2 (Sandler et al., CVPR 2018) as an encoder, cut at named borders; the classifier is in `mobilenet`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from qanas.layers.images import ConvNormReLU6
from qanas.layers.mbconv import MBConv, MBConvChoice, mbconv_stage, scaled_channels

STEM_CHANNELS = (32, 16)
"""Channels of the strided convolution and of the block without expansion behind it."""

BLOCK_CHANNELS = (24, 32, 64, 96, 160, 320)
BLOCK_LAYERS = (2, 3, 4, 3, 3, 1)
BLOCK_STRIDES = (2, 2, 2, 1, 2, 1)
STEM_STRIDE = 2
OUTPUT_STRIDES = (8, 16, 32)

Blocks = Sequence[Sequence[MBConvChoice]]
"""The choices of every layer of every block."""

MOBILENET_V2_BLOCKS: Blocks = tuple((MBConvChoice(),) * layers for layers in BLOCK_LAYERS)
"""The network as published: kernel 3 and expansion 6 everywhere."""


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
