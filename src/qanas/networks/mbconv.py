"""The inverted residual block (MBConv) and stages of it."""

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
