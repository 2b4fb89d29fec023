"""The block of mobile networks: depthwise separable, with more channels inside or without, weighted by channel or not.

MobileNetV1's (Howard et al. 2017), MobileNetV2's inverted residual (Sandler et al. 2018), and MobileNetV3's with
squeeze-and-excite and hard swish (Howard et al. 2019) are settings of one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from qanas.layers.images import Activation, ConvNorm, ConvNormActivation, Kernel

_DIVISOR = 8
_LEAST_SHARE = 0.9
_SQUEEZED = 4


def scaled_channels(channels: float, width: float) -> int:
    """Return ``channels * width`` as a multiple of 8, at least 8, never below 90 % of it (as published).

    >>> [scaled_channels(32, width) for width in (0.35, 0.5, 1.0, 1.4)]
    [16, 16, 32, 48]
    """
    scaled = max(_DIVISOR, int(channels * width + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
    return scaled if scaled >= _LEAST_SHARE * channels * width else scaled + _DIVISOR


@dataclass(frozen=True)
class MBConvChoice:
    """What is searched of one block; channels and stride belong to its place.

    Attributes:
        kernel_size: taps a side of the depthwise convolution.
        expansion: inner channels per channel of the input.
        squeeze: whether channels are weighted by squeeze-and-excite.
        activation: of the inner channels, and behind the block where that isn't linear.
    """

    kernel_size: int = 3
    expansion: float = 6
    squeeze: bool = False
    activation: Activation = "relu6"


class SqueezeExcite(nn.Module):
    """Weights each channel by what the means of all of them say (Hu et al. 2018), as in MobileNetV3.

    No batch norm: a batch of one sample has a single value a channel here, and no deviation.

    Args:
        channels: of the input and of the output.
    """

    def __init__(self, channels: int) -> None:
        """Create the layers; a quarter of the channels, as a multiple of 8, is between the two."""
        super().__init__()
        squeezed = scaled_channels(channels // _SQUEEZED, 1.0)
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape."""
        weights: Tensor = self.weights(inputs)
        return inputs * weights


class MBConv(nn.Module):
    """Inverted residual with a linear bottleneck (Sandler et al. 2018, figure 4d), or MobileNetV1's block.

    1 x 1 to ``expansion`` times the channels, depthwise, 1 x 1 to the output's without activation; the first one
    is left out at expansion 1. Where the stride is 1 and the channels stay as many, the input is added. Without the
    linear bottleneck there is an activation behind it, and nothing is added: at expansion 1 that is a depthwise
    separable convolution.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        choice: kernel, expansion, squeeze-and-excite and activation.
        stride: positions between two outputs of the depthwise convolution.
        dilation: positions between two of its taps.
        linear: whether the bottleneck is linear.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        choice: MBConvChoice,
        *,
        stride: Kernel = 1,
        dilation: int = 1,
        linear: bool = True,
    ) -> None:
        """Create the layers."""
        super().__init__()
        inner, activation = inner_channels(in_channels, choice.expansion), choice.activation
        layers: list[nn.Module] = []
        if choice.expansion != 1:
            layers.append(ConvNormActivation(in_channels, inner, activation=activation))
        layers.append(
            ConvNormActivation(
                inner, inner, choice.kernel_size, activation, stride=stride, dilation=dilation, groups=inner
            )
        )
        if choice.squeeze:
            layers.append(SqueezeExcite(inner))
        if linear:
            layers.append(ConvNorm(inner, out_channels))
        else:
            layers.append(ConvNormActivation(inner, out_channels, activation=activation))
        self.layers = nn.Sequential(*layers)
        self.adds_input = linear and stride in (1, (1, 1)) and in_channels == out_channels

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, out_channels, ceil(h / stride), ceil(w / stride))."""
        outputs: Tensor = self.layers(inputs)
        return inputs + outputs if self.adds_input else outputs


def inner_channels(channels: int, expansion: float) -> int:
    """Return the channels inside a block; fractions are rounded as published networks round theirs.

    >>> inner_channels(24, 6), inner_channels(80, 2.3), inner_channels(5, 3)
    (144, 184, 15)
    """
    inner = channels * expansion
    return int(inner) if inner == int(inner) else scaled_channels(inner, 1.0)


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
