"""Stacked LSTM for sequences, read at the last step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self, get_args

from pydantic import Field
from torch import Tensor, nn

from qanas.core.candidate import Candidate, Value
from qanas.layers.initializers import INITIALIZERS, BiasInitializer
from qanas.layers.sequences import LSTMInitialization, OneBiasLSTM, ScaledLinear
from qanas.search_space.network_space import NetworkSpace, TaskShape, narrowed_width
from qanas.search_space.quantization_group import quantization_settings
from qanas.search_space.settings import AtLeast, Integer, Setting
from qanas.search_space.training_group import (
    Penalty,
    TrainingSettings,
    initializer_setting,
    penalty_of,
    regularizer_settings,
    training_settings,
)


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


REFERENCE_TRAINING = TrainingSettings(
    learning_rate=0.0025, optimizer="rmsprop", scheduler="none", batch_size=64, loss="mae"
)
"""How the paper trains its reference network; batch size and loss are not stated there."""


@dataclass(frozen=True)
class LSTMSpace(NetworkSpace):
    """LSTMs around the reference network of two layers of 100 units (van de Waterlaat et al. 2023).

    Attributes:
        max_layers: layers searched: 1 to this many.
        max_units: units searched in each layer: 1 to this many.
        weight_bits: bits of a weight that are searched with the group ``quantization``; the reference has 8.
        per_layer_training: whether regularization and initialization of each layer belong to what is searched with
            the group ``training``, or stay at the reference's.
        units_scale: whether samplers see units on a logarithmic or a linear scale. Size saturates early on
            small tasks, so that most of a linear scale is wasted on networks that are too large.
        seed_layers: layers of the reference network.
        seed_units: units in each of its layers.
    """

    max_layers: Annotated[int, Field(ge=1, le=8)] = 3
    max_units: Annotated[int, Field(ge=1, le=1024)] = 100
    units_scale: Literal["log", "linear"] = "log"
    per_layer_training: bool = True
    weight_bits: Annotated[tuple[Literal[4, 6, 8], ...], Field(strict=False)] = (8,)
    seed_layers: Annotated[int, Field(ge=1, le=8)] = 2
    seed_units: Annotated[int, Field(ge=1, le=1024)] = 100

    def settings(self, shape: TaskShape) -> list[Setting]:
        """Return layers, units by layer, training, training by layer, quantization.

        Settings of a layer exist only if the layer does.
        """
        numbers = range(1, max(self.max_layers, self.seed_layers) + 1)
        units = [
            Integer(
                f"units_{layer}",
                "architecture",
                self.seed_units,
                low=1,
                high=self.max_units,
                log=self.units_scale == "log",
                condition=_exists(layer),
            )
            for layer in numbers
        ]
        layers = Integer("layers", "architecture", self.seed_layers, low=1, high=self.max_layers)
        training = training_settings(shape.losses, replace(REFERENCE_TRAINING, loss=shape.losses[0]))
        if self.per_layer_training:
            training += [setting for layer in numbers for setting in _layer_settings(layer)]
        return [layers, *units, *training, *quantization_settings(self.weight_bits)]

    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        """Return the candidate's `LSTMNetwork`."""
        architecture = candidate.architecture
        units = [int(architecture[f"units_{layer}"]) for layer in range(1, int(architecture["layers"]) + 1)]
        network = LSTMNetwork(shape.input_shape[-1], units, shape.output_size, shape.output_scale)
        for number, layer in enumerate(network.layers, 1):
            initialization = _initialization(candidate.training, number)
            if initialization != LSTMInitialization():
                layer.reset_parameters(initialization)
        return network

    def narrowed(self, share: float) -> Self:
        """Return the space around the reference with that share of the units of every layer."""
        return replace(self, seed_units=narrowed_width(self.seed_units, share))

    def penalties(self, candidate: Candidate, network: nn.Module) -> dict[str, Penalty]:
        """Return the penalties on the kernels, recurrent weights and biases of the layers."""
        del network
        found = {
            f"lstm.{layer - 1}.{parameter}": penalty_of(candidate.training, weights, layer)
            for layer in range(1, int(candidate.architecture["layers"]) + 1)
            for weights, parameter in _PARAMETERS.items()
        }
        return {name: penalty for name, penalty in found.items() if penalty is not None}


_PARAMETERS = {"kernel": "weight_ih", "recurrent": "weight_hh", "bias": "bias"}


def _exists(layer: int) -> AtLeast | None:
    """Return the condition under which a layer exists."""
    return AtLeast("layers", layer) if layer > 1 else None


def _layer_settings(layer: int) -> list[Setting]:
    """Return how one layer is initialised and regularised."""
    exists, reference = _exists(layer), LSTMInitialization()
    return [
        initializer_setting("kernel", layer, exists, INITIALIZERS, reference.kernel),
        initializer_setting("recurrent", layer, exists, INITIALIZERS, reference.recurrent),
        initializer_setting("bias", layer, exists, get_args(BiasInitializer), reference.bias),
        *(setting for weights in _PARAMETERS for setting in regularizer_settings(weights, layer, exists)),
    ]


def _initialization(training: Mapping[str, Value], layer: int) -> LSTMInitialization:
    """Return a layer's initialization; where it isn't searched, the reference network's."""
    searched = {
        weights: training[name] for weights in _PARAMETERS if (name := f"{weights}_initializer_{layer}") in training
    }
    return LSTMInitialization(**searched)  # type: ignore[arg-type] # the setting's options are initializers
