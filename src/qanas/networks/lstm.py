"""Stacked LSTM for sequences, read at the last step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast, get_args

from torch import Tensor, nn

from qanas.layers.initializers import BiasInitializer
from qanas.layers.sequences import OneBiasLSTM, RecurrentInitialization, ScaledLinear
from qanas.networks.recurrent import RecurrentSpace
from qanas.search_space.network_space import TaskShape, sequence_shape


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

    @property
    def layers(self) -> list[OneBiasLSTM]:
        """The LSTM layers, from the first to the last."""
        return [layer for layer in self.lstm if isinstance(layer, OneBiasLSTM)]

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, time, input_size) to (batch, output_size)."""
        hidden: Tensor = self.lstm(inputs)
        output: Tensor = self.head(hidden[:, -1])
        return output


@dataclass(frozen=True)
class LSTMSpace(RecurrentSpace):
    """LSTMs around the reference network of two layers of 100 units (van de Waterlaat et al. 2023)."""

    initialization: ClassVar[RecurrentInitialization] = RecurrentInitialization()
    bias_initializers: ClassVar[tuple[BiasInitializer, ...]] = get_args(BiasInitializer)
    parameters: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kernel": ("weight_ih",),
        "recurrent": ("weight_hh",),
        "bias": ("bias",),
    }
    layers_at: ClassVar[str] = "lstm"

    def network(self, shape: TaskShape, units: Sequence[int]) -> nn.Module:
        """Return an `LSTMNetwork`."""
        _, features = sequence_shape("lstm", shape)
        return LSTMNetwork(features, units, shape.output_size, shape.output_scale)

    def initialize(self, layer: nn.Module, initialization: RecurrentInitialization) -> None:
        """Draw a layer's weights anew."""
        cast("OneBiasLSTM", layer).reset_parameters(initialization)
