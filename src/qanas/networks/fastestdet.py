"""FastestDet: a one-stage detector with a single map of cells at stride 16, on ShuffleNetV2 (Ma et al., ECCV 2018).

The graph alone; targets, losses and decoding are a task's. Two things differ from the published one. The head puts
out raw numbers: sigmoid, tanh and softmax of 14 x 14 cells are nothing, and raw numbers share one scale, or have one a
branch. And a single class has no branch of its own: the softmax of one number is 1 whatever that number is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qanas.core.errors import InputError
from qanas.core.maps import STRIDE, doubles
from qanas.layers.images import ChannelShuffle, ConvNorm, ConvNormReLU6, SameAvgPool2d, SameMaxPool2d

STEM_CHANNELS = 24
STAGE_CHANNELS = (48, 96, 192)
STAGE_UNITS = (4, 8, 4)


class Unit(nn.Module):
    """The unit of stride 1 (figure 3c): half of the channels pass, the other half is convolved.

    The shuffle is in front of the split instead of behind the concatenation: the same network up to the order of
    its channels, with a shuffle less a stage.

    Args:
        channels: of the input and of the output; even.
    """

    def __init__(self, channels: int) -> None:
        """Create the layers."""
        super().__init__()
        half = channels // 2
        self.shuffle = ChannelShuffle(2)
        self.branch = nn.Sequential(
            ConvNormReLU6(half, half),
            ConvNorm(half, half, 3, groups=half),
            ConvNormReLU6(half, half),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape."""
        halves = torch.chunk(self.shuffle(inputs), 2, dim=1)
        # By number: to unpack them, torch.fx reads the bytecode, which takes as long as all the rest of its tracing.
        return torch.cat((halves[0], self.branch(halves[1])), dim=1)


class DownUnit(nn.Module):
    """The unit of stride 2 (figure 3d): both branches see all channels and put out half of them each.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; even.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Create the layers."""
        super().__init__()
        half = out_channels // 2
        self.shortcut = nn.Sequential(
            ConvNorm(in_channels, in_channels, 3, stride=2, groups=in_channels),
            ConvNormReLU6(in_channels, half),
        )
        self.branch = nn.Sequential(
            ConvNormReLU6(in_channels, half),
            ConvNorm(half, half, 3, stride=2, groups=half),
            ConvNormReLU6(half, half),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, out_channels, ceil(h / 2), ceil(w / 2))."""
        return torch.cat((self.shortcut(inputs), self.branch(inputs)), dim=1)


PATCH = 4
"""Pixels of a side of what a stem without pooling sees at a time: its stride."""


class ShuffleNetV2(nn.Module):
    """Stem and three stages.

    Args:
        stem_channels: of the strided convolution in front.
        stage_channels: of each stage, even.
        stage_units: of each stage; the first one has stride 2.
        stem_stride: of the convolution: 2, and pooling of stride 2 behind it; or 4, over patches of 4 x 4, and none.
    """

    def __init__(
        self,
        stem_channels: int = STEM_CHANNELS,
        stage_channels: Sequence[int] = STAGE_CHANNELS,
        stage_units: Sequence[int] = STAGE_UNITS,
        stem_stride: int = 2,
    ) -> None:
        """Create the layers."""
        super().__init__()
        self.stem = (
            nn.Sequential(ConvNormReLU6(3, stem_channels, PATCH, stride=PATCH))
            if stem_stride == PATCH
            else nn.Sequential(ConvNormReLU6(3, stem_channels, 3, stride=2), SameMaxPool2d(3, 2))
        )
        before = (stem_channels, *stage_channels[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(DownUnit(inputs, outputs), *(Unit(outputs) for _ in range(units - 1)))
            for inputs, outputs, units in zip(before, stage_channels, stage_units, strict=True)
        )

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Map (batch, 3, h, w) to the features of every stage, at strides 8, 16 and 32."""
        features = [self.stem(inputs)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return tuple(features[1:])


@dataclass(frozen=True)
class BackboneSettings:
    """What is searched of the backbone.

    Attributes:
        stem_channels: of the strided convolution in front.
        stem_stride: 2 or 4, see `ShuffleNetV2`.
        stage_channels: of each stage, even.
        stage_units: of each stage.
    """

    stem_channels: int = STEM_CHANNELS
    stem_stride: int = 2
    stage_channels: tuple[int, ...] = STAGE_CHANNELS
    stage_units: tuple[int, ...] = STAGE_UNITS


@dataclass(frozen=True)
class HeadSettings:
    """What is searched of the head.

    Attributes:
        channels: of every inner map.
        spp_kernels: of each parallel chain of depthwise convolutions, in the chain's order.
        spp_groups: of the 1 x 1 convolution behind the chains; more than one is followed by one of a single group.
        stem_groups: of the 1 x 1 convolution in front of the branches; likewise.
        objectness_kernel: of the depthwise convolution of the branch that tells objects from background.
        box_kernel: likewise, of the branch of the four numbers of a box.
        class_kernel: likewise, of the branch of the classes.
    """

    channels: int = 96
    spp_kernels: tuple[tuple[int, ...], ...] = ((5,), (5, 5), (5, 5, 5))
    spp_groups: int = 1
    stem_groups: int = 1
    objectness_kernel: int = 5
    box_kernel: int = 5
    class_kernel: int = 5

    def __post_init__(self) -> None:
        """Check what torch would only find later.

        Raises:
            InputError: groups that don't divide the channels.
        """
        for name in ("spp_groups", "stem_groups"):
            groups = getattr(self, name)
            if self.channels % groups:
                raise InputError(f"{name} = {groups} doesn't divide {self.channels} channels; change one of them")


def require_input_size(height: int, width: int) -> None:
    """Refuse inputs whose map at stride 32, doubled, is not the one at stride 16.

    Raises:
        InputError: names the side and the nearest sizes that fit.
    """
    for name, size in (("height", height), ("width", width)):
        if not doubles(size):
            below = size // (2 * STRIDE) * 2 * STRIDE
            nearest = f"{below} or {below + STRIDE + 1}" if below > 0 else f"{STRIDE + 1}"
            raise InputError(
                f"input {name} {size}: its map at stride 32, doubled, is not the one at stride 16; take {nearest}"
            )


def mixed_groups(in_channels: int, out_channels: int, groups: int) -> list[tuple[str, nn.Module]]:
    """Return the layers of a 1 x 1 convolution: in groups and then across them, if there is more than one."""
    if groups == 1:
        return [("mix", ConvNorm(in_channels, out_channels))]
    return [
        ("grouped", ConvNormReLU6(in_channels, out_channels, groups=groups)),
        ("mix", ConvNorm(out_channels, out_channels)),
    ]


class SPP(nn.Module):
    """Parallel chains of depthwise convolutions that see ever farther, mixed and added to what they saw.

    Args:
        in_channels: channels of the input.
        settings: of the head.
    """

    def __init__(self, in_channels: int, settings: HeadSettings) -> None:
        """Create the layers."""
        super().__init__()
        channels = settings.channels
        self.reduce = ConvNormReLU6(in_channels, channels)
        self.chains = nn.ModuleList(
            nn.Sequential(*(ConvNormReLU6(channels, channels, kernel, groups=channels) for kernel in kernels))
            for kernels in settings.spp_kernels
        )
        self.output = nn.Sequential(
            OrderedDict(mixed_groups(len(self.chains) * channels, channels, settings.spp_groups))
        )
        self.activation = nn.ReLU6()

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, channels, h, w)."""
        reduced = self.reduce(inputs)
        seen = torch.cat([chain(reduced) for chain in self.chains], dim=1)
        output: Tensor = self.activation(reduced + self.output(seen))
        return output


def branch(channels: int, kernel_size: int, outputs: int) -> nn.Sequential:
    """Return a branch of the head, (batch, channels, h, w) to (batch, outputs, h, w)."""
    return nn.Sequential(
        ConvNormReLU6(channels, channels, kernel_size, groups=channels),
        ConvNorm(channels, outputs),
    )


OUTPUTS = ("objectness", "box", "classes")


class FastestDet(nn.Module):
    """Backbone, a neck that gathers its three maps at stride 16, and the head.

    Args:
        input_size: height and width; see `require_input_size`.
        classes: kinds of object.
        head: what is searched of it.
        backbone: likewise.

    Raises:
        InputError: an input size that doesn't fit.
    """

    def __init__(
        self,
        input_size: tuple[int, int],
        classes: int = 1,
        head: HeadSettings | None = None,
        backbone: BackboneSettings | None = None,
    ) -> None:
        """Create the layers."""
        super().__init__()
        require_input_size(*input_size)
        settings, body = head or HeadSettings(), backbone or BackboneSettings()
        channels = settings.channels
        self.backbone = ShuffleNetV2(body.stem_channels, body.stage_channels, body.stage_units, body.stem_stride)
        self.shrink = SameAvgPool2d(3, 2)
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")
        self.spp = SPP(sum(body.stage_channels), settings)
        self.stem = nn.Sequential(
            OrderedDict([*mixed_groups(channels, channels, settings.stem_groups), ("activation", nn.ReLU6())])
        )
        kernels = [(settings.objectness_kernel, 1), (settings.box_kernel, 4)]
        if classes > 1:
            kernels.append((settings.class_kernel, classes))
        self.branches = nn.ModuleList(branch(channels, kernel, outputs) for kernel, outputs in kernels)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, 3, h, w) to the numbers of every cell, (batch, outputs, ceil(h / 16), ceil(w / 16)).

        The outputs are in this order, all raw: objectness (its logit), the box (4 numbers), and the logits of the
        classes where there is more than one.
        """
        return torch.cat(self.parts(inputs), dim=1)

    def parts(self, inputs: Tensor) -> list[Tensor]:
        """Return the outputs of `forward` apart, each of shape (batch, numbers, h / 16, w / 16)."""
        fine, middle, coarse = self.backbone(inputs)
        gathered = torch.cat((self.shrink(fine), middle, self.grow(coarse)), dim=1)
        hidden = self.stem(self.spp(gathered))
        return [part(hidden) for part in self.branches]


class FastestDetByName(FastestDet):
    """The same with an output a branch: each has a scale of its own once it is quantized."""

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:  # type: ignore[override]  # what it is there for
        """Map (batch, 3, h, w) to ``objectness``, ``box`` and, of several, ``classes``, each (batch, n, h', w')."""
        return dict(zip(OUTPUTS, self.parts(inputs), strict=False))
