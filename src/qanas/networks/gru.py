"""Stacked GRU for sequences, read at the last step. No runtime has it as one operator: it ships unrolled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

from pydantic import Field
from torch import Tensor, nn

from qanas.layers.initializers import BiasInitializer, initialize, initialize_bias
from qanas.layers.sequences import RecurrentInitialization, ScaledLinear
from qanas.networks.recurrent import RecurrentSpace
from qanas.search_space.network_space import TaskShape, sequence_shape

KERAS = RecurrentInitialization("glorot_uniform", "orthogonal", "zeros")


class GRUNetwork(nn.Module):
    """GRU layers (Cho et al. 2014) of individual width, the last state of the last one into a linear head.

    Args:
        input_size: features of a time step.
        units: the width of each layer, from the first to the last.
        output_size: values put out per sample.
        output_scale: constant factor of the head, see `ScaledLinear`.
    """

    def __init__(self, input_size: int, units: Sequence[int], output_size: int = 1, output_scale: float = 1.0) -> None:
        """Create the layers, initialised as Keras does."""
        super().__init__()
        widths = [input_size, *units]
        self.gru = nn.ModuleList(
            nn.GRU(width, size, batch_first=True) for width, size in zip(widths, units, strict=False)
        )
        for layer in self.gru:
            draw(cast("nn.GRU", layer), KERAS)
        self.head = ScaledLinear(units[-1], output_size, output_scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, time, input_size) to (batch, output_size)."""
        hidden = inputs
        for layer in self.gru:
            hidden = layer(hidden)[0]
        output: Tensor = self.head(hidden[:, -1])
        return output


def draw(layer: nn.GRU, initialization: RecurrentInitialization) -> None:
    """Draw a layer's weights; fans are those of the three gates together, as in Keras."""
    features, units = layer.input_size, layer.hidden_size
    initialize(layer.get_parameter("weight_ih_l0"), initialization.kernel, features, 3 * units)
    initialize(layer.get_parameter("weight_hh_l0"), initialization.recurrent, units, 3 * units)
    for name in ("bias_ih_l0", "bias_hh_l0"):
        initialize_bias(layer.get_parameter(name), initialization.bias)


@dataclass(frozen=True)
class GRUSpace(RecurrentSpace):
    """GRUs around the smallest of Zhang et al. (2017) for keyword spotting: one layer of 154 units.

    Attributes:
        max_layers: layers searched: 1 to this many.
        max_units: units searched in each layer: 1 to this many.
        seed_layers: layers of the reference network.
        seed_units: units in each of its layers; their larger ones have 250 and 400.
    """

    max_layers: Annotated[int, Field(ge=1, le=8)] = 2
    max_units: Annotated[int, Field(ge=1, le=1024)] = 154
    seed_layers: Annotated[int, Field(ge=1, le=8)] = 1
    seed_units: Annotated[int, Field(ge=1, le=1024)] = 154

    initialization: ClassVar[RecurrentInitialization] = KERAS
    bias_initializers: ClassVar[tuple[BiasInitializer, ...]] = ("zeros", "uniform")
    parameters: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kernel": ("weight_ih_l0",),
        "recurrent": ("weight_hh_l0",),
        "bias": ("bias_ih_l0", "bias_hh_l0"),
    }
    layers_at: ClassVar[str] = "gru"

    def network(self, shape: TaskShape, units: Sequence[int]) -> nn.Module:
        """Return a `GRUNetwork`."""
        _, features = sequence_shape("gru", shape)
        return GRUNetwork(features, units, shape.output_size, shape.output_scale)

    def initialize(self, layer: nn.Module, initialization: RecurrentInitialization) -> None:
        """Draw a layer's weights anew."""
        draw(cast("nn.GRU", layer), initialization)
