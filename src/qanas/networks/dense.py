"""Dense layers on a vector, or on each pixel's: linear, or with a few hidden layers; for features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.layers.sequences import ScaledLinear
from qanas.search_space.network_space import NetworkSpace, TaskShape, described, narrowed_width
from qanas.search_space.quantization_group import quantization_settings
from qanas.search_space.settings import Integer, Setting, sizes_of_parts
from qanas.search_space.training_group import TrainingSettings, training_settings


class DenseNetwork(nn.Module):
    """Dense layers with ReLU, then a linear head.

    Args:
        inputs: values of a sample.
        units: the width of each hidden layer, from the first to the last; none for a linear network.
        output_size: values put out per sample.
        output_scale: constant factor of the head, see `ScaledLinear`.
    """

    def __init__(self, inputs: int, units: Sequence[int], output_size: int = 1, output_scale: float = 1.0) -> None:
        """Create the layers."""
        super().__init__()
        widths = [inputs, *units]
        layers: list[nn.Module] = []
        for width, size in zip(widths, units, strict=False):
            layers += [ScaledLinear(width, size), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.head = ScaledLinear(widths[-1], output_size, output_scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, *input_shape) to (batch, output_size)."""
        flat = torch.flatten(inputs, 1) if inputs.ndim > 2 else inputs  # noqa: PLR2004 - batch and values
        outputs: Tensor = self.head(self.hidden(flat))
        return outputs


class PixelNetwork(nn.Module):
    """Dense layers with ReLU, then a linear head, on the channels of every pixel by itself: convolutions of 1 x 1.

    Args:
        inputs: channels.
        units: the width of each hidden layer, from the first to the last; none for a linear network.
        output_size: values put out per pixel.
    """

    def __init__(self, inputs: int, units: Sequence[int], output_size: int) -> None:
        """Create the layers."""
        super().__init__()
        widths = [inputs, *units]
        layers: list[nn.Module] = []
        for width, size in zip(widths, units, strict=False):
            layers += [nn.Conv2d(width, size, 1), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], output_size, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, output_size, height, width)."""
        outputs: Tensor = self.head(self.hidden(inputs))
        return outputs


REFERENCE_TRAINING = TrainingSettings(
    learning_rate=0.01, optimizer="adam", scheduler="cosine", batch_size=64, loss="mae"
)
"""Networks of a few hundred weights take large steps, and end at rest."""


@dataclass(frozen=True)
class DenseSpace(NetworkSpace):
    """Dense networks around a reference of one hidden layer.

    Attributes:
        max_layers: hidden layers searched: none, which is a linear network, to this many.
        max_units: units searched in each: 1 to this many, on a logarithmic scale.
        weight_bits: bits of a weight that are searched with the group ``quantization``; the reference has 8.
        seed_layers: hidden layers of the reference network.
        seed_units: units in each of them.
    """

    max_layers: Annotated[int, Field(ge=0, le=8)] = 2
    max_units: Annotated[int, Field(ge=1, le=4096)] = 64
    weight_bits: Annotated[tuple[Literal[4, 6, 8], ...], Field(strict=False)] = (8,)
    seed_layers: Annotated[int, Field(ge=0, le=8)] = 1
    seed_units: Annotated[int, Field(ge=1, le=4096)] = 16

    def settings(self, shape: TaskShape) -> list[Setting]:
        """Return layers, units by layer (if it exists), training, quantization."""
        most = max(self.max_layers, self.seed_layers)
        units = sizes_of_parts("units", "layers", most, self.seed_units, self.max_units, fewest=0)
        layers = Integer("layers", "architecture", self.seed_layers, low=0, high=self.max_layers)
        training = training_settings(shape.losses, replace(REFERENCE_TRAINING, loss=shape.losses[0]))
        return [layers, *units, *training, *quantization_settings(self.weight_bits)]

    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        """Return the candidate's `DenseNetwork`."""
        return DenseNetwork(prod(shape.input_shape), _units(candidate), shape.output_size, shape.output_scale)

    def describe(self, candidate: Candidate) -> str:
        """Return the units of its hidden layers and its bits; without such layers it is linear."""
        told = described(candidate)
        return told if candidate.architecture.get("layers") else told.replace("layers 0", "linear")

    def narrowed(self, share: float) -> Self:
        """Return the space around the reference with that share of the units of every layer."""
        return replace(self, seed_units=narrowed_width(self.seed_units, share))


PIXEL_BATCH = 8
"""Images at a time: of each there are thousands of pixels."""


@dataclass(frozen=True)
class PixelSpace(DenseSpace):
    """Dense networks on every pixel by itself, for segmentation by features of pixels."""

    def settings(self, shape: TaskShape) -> list[Setting]:
        """Return what dense networks have, with fewer samples a step."""
        own = super().settings(shape)
        return [replace(setting, reference=PIXEL_BATCH) if setting.name == "batch_size" else setting for setting in own]

    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        """Return the candidate's `PixelNetwork`."""
        return PixelNetwork(shape.input_shape[0], _units(candidate), shape.output_size)


def _units(candidate: Candidate) -> list[int]:
    """Return the width of every hidden layer."""
    architecture = candidate.architecture
    return [int(architecture[f"units_{layer}"]) for layer in range(1, int(architecture["layers"]) + 1)]
