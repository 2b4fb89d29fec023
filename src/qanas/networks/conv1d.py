"""Convolutions over time, then the mean of all steps: for windows of sensors and waveforms, of any length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from qanas.layers.images import ConvNormActivation
from qanas.layers.mbconv import MBConvChoice
from qanas.networks.staged import Place, Stage, StagedSpace, mean_head
from qanas.search_space.network_space import TaskShape, sequence_shape
from qanas.search_space.training_group import TrainingSettings

Reference = Literal["fcn", "m3", "m5"]
Taps = Annotated[int, Field(ge=1, le=256)]


@dataclass(frozen=True)
class Published:
    """A network as published.

    Attributes:
        channels: of every convolution, the first one's in front.
        kernels: taps of each.
        first_stride: steps between two outputs of the first one.
        pool: steps that a max pool in front of all further ones makes one of.
    """

    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    first_stride: int = 1
    pool: int = 1


REFERENCES: Mapping[Reference, Published] = {
    "fcn": Published((128, 256, 128), (8, 5, 3)),
    "m3": Published((256, 256), (80, 3), 4, 4),
    "m5": Published((128, 128, 256, 512), (80, 3, 3, 3), 4, 4),
}


class Over(nn.Module):
    """Sees a sequence as an image of one row: (batch, steps, features) to (batch, features, 1, steps)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Put the features of shape (batch, steps, features) in front, and a row behind them."""
        return torch.unsqueeze(torch.transpose(inputs, 1, 2), 2)


@dataclass(frozen=True)
class Conv1DSpace(StagedSpace):
    """Convolutions in a row; each but the first is a stage, which can have further ones of the same channels.

    Attributes:
        reference: ``fcn`` is that of Wang et al. (2017) for windows of any kind; ``m3`` and ``m5`` are those of Dai et
            al. (2017) for waveforms, made for 8 kHz.
        kernels: taps that are searched in every convolution but the first; none: each has the reference's.
    """

    reference: Reference = "fcn"
    kernels: Annotated[tuple[Taps, ...], Field(strict=False)] = (3, 5, 7)  # type: ignore[assignment]

    training: ClassVar[TrainingSettings] = TrainingSettings(
        learning_rate=1e-3, optimizer="adam", scheduler="cosine", batch_size=32, loss="cross_entropy"
    )

    @property
    def published(self) -> Published:
        """The reference's table."""
        return REFERENCES[self.reference]

    def reference_stages(self) -> Sequence[Stage]:
        """Return a stage for every convolution but the first."""
        rows = zip(self.published.channels[1:], self.published.kernels[1:], strict=True)
        return [
            Stage(channels, (MBConvChoice(kernel, 1, activation="relu"),), self.published.pool)
            for channels, kernel in rows
        ]

    def stem(self, shape: TaskShape, width: float) -> tuple[nn.Module, int]:
        """Return the first convolution."""
        _, features = sequence_shape("conv1d", shape)
        published, channels = self.published, self.scaled(self.published.channels[0], width)
        conv = ConvNormActivation(
            features, channels, (1, published.kernels[0]), "relu", stride=(1, published.first_stride)
        )
        return nn.Sequential(Over(), conv), channels

    def layer(self, place: Place, choice: MBConvChoice) -> nn.Module:
        """Return a convolution, behind a max pool where a stage shortens its input."""
        conv = ConvNormActivation(place.in_channels, place.out_channels, (1, choice.kernel_size), choice.activation)
        return nn.Sequential(_pool(place.stride), conv) if place.stride > 1 else conv

    def head(self, shape: TaskShape, channels: int, width: float) -> nn.Module:
        """Return the mean over all steps and a linear layer, behind a last pool where the network has pools."""
        del width
        mean = mean_head(shape, channels)
        return nn.Sequential(_pool(self.published.pool), mean) if self.published.pool > 1 else mean


def _pool(steps: int) -> nn.Module:
    """Return a max pool over so many steps, of which the last one may have fewer."""
    return nn.MaxPool2d((1, steps), ceil_mode=True)
