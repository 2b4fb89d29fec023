"""Dense layers through a bottleneck: what can't be put out again is an anomaly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.layers.sequences import ChannelNorm, ScaledLinear
from qanas.search_space.network_space import NetworkSpace, TaskShape, narrowed_width
from qanas.search_space.quantization_group import quantization_settings
from qanas.search_space.settings import Integer, Setting, sizes_of_parts
from qanas.search_space.training_group import TrainingSettings, training_settings


class Autoencoder(nn.Module):
    """Dense layers with batch norms and ReLU that narrow to a bottleneck and widen again, then a linear one.

    Args:
        inputs: values of a sample.
        units: the width of each layer in front of the bottleneck; those behind it have the same in reverse.
        bottleneck: the width between them.
        output_size: values put out per sample.
        output_scale: constant factor of the last layer, see `ScaledLinear`.
    """

    def __init__(
        self, inputs: int, units: Sequence[int], bottleneck: int, output_size: int, output_scale: float = 1.0
    ) -> None:
        """Create the layers."""
        super().__init__()
        widths = [inputs, *units, bottleneck, *reversed(units)]
        layers: list[nn.Module] = []
        for width, size in pairwise(widths):
            layers += [nn.Linear(width, size, bias=False), ChannelNorm(size), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.head = ScaledLinear(widths[-1], output_size, output_scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, *input_shape) to (batch, output_size)."""
        flat = torch.flatten(inputs, 1) if inputs.ndim > 2 else inputs  # noqa: PLR2004 - batch and values
        outputs: Tensor = self.head(self.hidden(flat))
        return outputs


REFERENCE_TRAINING = TrainingSettings(
    learning_rate=1e-3, optimizer="adam", scheduler="none", batch_size=256, loss="mse"
)
"""As the reference is trained: Adam with Keras's rate; its batch of 512 is beyond what is searched."""


@dataclass(frozen=True)
class AutoencoderSpace(NetworkSpace):
    """Autoencoders around MLPerf Tiny's for anomaly detection, the baseline of DCASE 2020 (Koizumi et al. 2020).

    Attributes:
        reference: ``fc_autoencoder``: 640 values through four layers of 128, one of 8, and four of 128.
        max_layers: layers searched in front of the bottleneck, and as many behind it: 1 to this many.
        max_units: units searched in each: 1 to this many, on a logarithmic scale.
        max_bottleneck: units of the bottleneck searched, likewise.
        weight_bits: bits of a weight that are searched with the group ``quantization``; the reference has 8.
        seed_layers: layers of the reference in front of the bottleneck.
        seed_units: units of each of them.
        seed_bottleneck: units of its bottleneck.
    """

    reference: Literal["fc_autoencoder"] = "fc_autoencoder"
    max_layers: Annotated[int, Field(ge=1, le=8)] = 4
    max_units: Annotated[int, Field(ge=1, le=4096)] = 128
    max_bottleneck: Annotated[int, Field(ge=1, le=1024)] = 32
    weight_bits: Annotated[tuple[Literal[4, 6, 8], ...], Field(strict=False)] = (8,)
    seed_layers: Annotated[int, Field(ge=1, le=8)] = 4
    seed_units: Annotated[int, Field(ge=1, le=4096)] = 128
    seed_bottleneck: Annotated[int, Field(ge=1, le=1024)] = 8

    def settings(self, shape: TaskShape) -> list[Setting]:
        """Return layers, units by layer (if it exists), the bottleneck, training, quantization."""
        most = max(self.max_layers, self.seed_layers)
        units = sizes_of_parts("units", "layers", most, self.seed_units, self.max_units)
        layers = Integer("layers", "architecture", self.seed_layers, low=1, high=self.max_layers)
        bottleneck = Integer(
            "bottleneck", "architecture", self.seed_bottleneck, low=1, high=self.max_bottleneck, log=True
        )
        training = training_settings(shape.losses, replace(REFERENCE_TRAINING, loss=shape.losses[0]))
        return [layers, *units, bottleneck, *training, *quantization_settings(self.weight_bits)]

    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        """Return the candidate's `Autoencoder`."""
        architecture = candidate.architecture
        units = [int(architecture[f"units_{layer}"]) for layer in range(1, int(architecture["layers"]) + 1)]
        bottleneck = int(architecture["bottleneck"])
        return Autoencoder(prod(shape.input_shape), units, bottleneck, shape.output_size, shape.output_scale)

    def narrowed(self, share: float) -> Self:
        """Return the space around the reference with that share of the units of every layer."""
        return replace(
            self,
            seed_units=narrowed_width(self.seed_units, share),
            seed_bottleneck=narrowed_width(self.seed_bottleneck, share),
        )
