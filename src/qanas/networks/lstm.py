"""Stacked LSTM for sequences, read at the last step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.layers.linear import ScaledLinear
from qanas.layers.lstm import OneBiasLSTM
from qanas.search_space.network_space import NetworkSpace, TaskShape
from qanas.search_space.quantization_group import quantization_settings
from qanas.search_space.settings import AtLeast, Integer, Setting
from qanas.search_space.training_group import TrainingSettings, training_settings


class LSTMNetwork(nn.Module):
    """LSTM layers of individual width, the last hidden state of the last one into a linear head.

    Args:
        input_size: features of a time step.
        units: the width of each layer, from the first to the last.
        output_size: values put out per sample.
        output_scale: constant factor of the head, see `ScaledLinear`.
    """

    def __init__(self, input_size: int, units: Sequence[int], output_size: int = 1, output_scale: float = 1.0) -> None:
        """Create the layers."""
        super().__init__()
        widths = [input_size, *units]
        self.lstm = nn.Sequential(*(OneBiasLSTM(width, size) for width, size in zip(widths, units, strict=False)))
        self.head = ScaledLinear(units[-1], output_size, output_scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, time, input_size) to (batch, output_size)."""
        hidden: Tensor = self.lstm(inputs)
        output: Tensor = self.head(hidden[:, -1])
        return output


SEED_TRAINING = TrainingSettings(learning_rate=0.0025, optimizer="rmsprop", scheduler="none", batch_size=64, loss="mae")
"""How the paper trains its seed network (seed document 2); batch size and loss are not stated there."""


@dataclass(frozen=True)
class LSTMSpace(NetworkSpace):
    """LSTMs around the seed network of two layers of 100 units (van de Waterlaat et al. 2023).

    Attributes:
        max_layers: layers searched: 1 to this many.
        max_units: units searched in each layer: 1 to this many.
        units_scale: whether samplers see units on a logarithmic or a linear scale. Size saturates early on
            small tasks, so that most of a linear scale is wasted on networks that are too large.
        seed_layers: layers of the seed network.
        seed_units: units in each of its layers.
    """

    max_layers: Annotated[int, Field(ge=1, le=8)] = 3
    max_units: Annotated[int, Field(ge=1, le=1024)] = 100
    units_scale: Literal["log", "linear"] = "log"
    seed_layers: Annotated[int, Field(ge=1, le=8)] = 2
    seed_units: Annotated[int, Field(ge=1, le=1024)] = 100

    def settings(self, shape: TaskShape) -> list[Setting]:
        """Return layers, units by layer (those of a layer exist only if the layer does), training, quantization."""
        most = max(self.max_layers, self.seed_layers)
        units = [
            Integer(
                f"units_{layer}",
                "architecture",
                self.seed_units,
                low=1,
                high=self.max_units,
                log=self.units_scale == "log",
                condition=AtLeast("layers", layer) if layer > 1 else None,
            )
            for layer in range(1, most + 1)
        ]
        layers = Integer("layers", "architecture", self.seed_layers, low=1, high=self.max_layers)
        seed = replace(SEED_TRAINING, loss=shape.losses[0])
        return [layers, *units, *training_settings(shape.losses, seed), *quantization_settings()]

    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        """Return the candidate's `LSTMNetwork`."""
        architecture = candidate.architecture
        units = [int(architecture[f"units_{layer}"]) for layer in range(1, int(architecture["layers"]) + 1)]
        return LSTMNetwork(shape.input_shape[-1], units, shape.output_size, shape.output_scale)
