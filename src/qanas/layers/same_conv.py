"""Two-dimensional convolution that pads as the runtime's SAME does."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, fx, nn


def same_padding(size: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """Return how much TFLite's SAME padding puts in front of an axis and behind it.

    The output has ceil(size / stride) positions. Of what is missing for that, the smaller half goes in front:
    with stride 2 and an even size, that is another place than torch's symmetric padding.

    >>> same_padding(224, 3, stride=2), same_padding(7, 3, stride=2), same_padding(12, 7, dilation=2)
    ((0, 1), (1, 1), (6, 6))
    """
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + (kernel_size - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def pad_same(
    inputs: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
    value: float = 0.0,
) -> Tensor:
    """Return (..., height, width) with the padding that SAME asks for, filled with ``value``."""
    height, width = inputs.shape[-2:]
    top, bottom = same_padding(height, kernel_size[0], stride[0], dilation[0])
    left, right = same_padding(width, kernel_size[1], stride[1], dilation[1])
    if not (top or bottom or left or right):
        return inputs
    return F.pad(inputs, (left, right, top, bottom), value=value)


@fx.wrap
def conv2d_same(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Return the convolution of (batch, channels, height, width) under SAME padding.

    A function that `torch.fx` doesn't look into: how much is padded depends on the size alone, but a traced size
    is no number.
    """
    kernel_size = (weight.shape[2], weight.shape[3])
    sides = [same_padding(*axis) for axis in zip(inputs.shape[2:], kernel_size, stride, dilation, strict=True)]
    if all(before == after for before, after in sides):
        # torch pads on its way through: no copy of the input.
        return F.conv2d(inputs, weight, bias, stride, (sides[0][0], sides[1][0]), dilation, groups)
    padded = pad_same(inputs, kernel_size, stride, dilation)
    return F.conv2d(padded, weight, bias, stride, 0, dilation, groups)


class SameConv2d(nn.Conv2d):
    """A convolution whose output has ceil(size / stride) positions a side, padded as TFLite's SAME.

    It ships as one operator. A strided ``torch.nn.Conv2d`` on even sizes pads elsewhere, so that it needs a PAD
    in front, with a copy of its input in RAM. `same_padding` says how much is padded; inputs may have any size.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: taps a side, or (in height, in width); even ones are fine.
        stride: positions between two outputs.
        dilation: positions between two taps.
        groups: groups of channels convolved apart.
        bias: whether there is one; before a batch norm it would be without effect.
    """

    stride: tuple[int, int]
    dilation: tuple[int, int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        """Create the parameters, initialised as torch does."""
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups, bias=bias
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """Map (batch, in_channels, height, width) to (batch, out_channels, height', width')."""
        return conv2d_same(input, self.weight, self.bias, self.stride, self.dilation, self.groups)
