"""What spaces of recurrent layers in a row have in common, whatever their cell: layers, units, training by layer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field
from torch import nn

from qanas.core.candidate import Candidate, Value
from qanas.layers.initializers import INITIALIZERS, BiasInitializer
from qanas.layers.sequences import RecurrentInitialization
from qanas.search_space.network_space import NetworkSpace, TaskShape, narrowed_width
from qanas.search_space.quantization_group import quantization_settings
from qanas.search_space.settings import Integer, Setting, exists, sizes_of_parts
from qanas.search_space.training_group import (
    Penalty,
    TrainingSettings,
    initializer_setting,
    penalty_of,
    regularizer_settings,
    training_settings,
)

REFERENCE_TRAINING = TrainingSettings(
    learning_rate=0.0025, optimizer="rmsprop", scheduler="none", batch_size=64, loss="mae"
)
"""How van de Waterlaat et al. train their reference network; batch size and loss are not stated there."""

WEIGHTS = ("kernel", "recurrent", "bias")
"""Of a layer, as settings call them."""


@dataclass(frozen=True)
class RecurrentSpace(NetworkSpace):
    """Recurrent layers of individual width around a reference in which all have the same.

    Attributes:
        max_layers: layers searched: 1 to this many.
        max_units: units searched in each layer: 1 to this many.
        units_scale: whether samplers see units on a logarithmic or a linear scale. Size saturates early on
            small tasks, so that most of a linear scale is wasted on networks that are too large.
        per_layer_training: whether regularization and initialization of each layer belong to what is searched with
            the group ``training``, or stay at the reference's.
        weight_bits: bits of a weight that are searched with the group ``quantization``; the reference has 8.
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

    initialization: ClassVar[RecurrentInitialization]
    """The reference's."""

    bias_initializers: ClassVar[tuple[BiasInitializer, ...]]
    """That are searched."""

    parameters: ClassVar[Mapping[str, tuple[str, ...]]]
    """What the settings' weights are called in a layer."""

    layers_at: ClassVar[str]
    """The path of the layers in a network."""

    @abstractmethod
    def network(self, shape: TaskShape, units: Sequence[int]) -> nn.Module:
        """Return a network of layers of these widths, with the reference's initialization.

        Args:
            shape: of the task, whose samples are sequences.
            units: the width of each layer, from the first to the last.
        """

    @abstractmethod
    def initialize(self, layer: nn.Module, initialization: RecurrentInitialization) -> None:
        """Draw a layer's weights anew."""

    def settings(self, shape: TaskShape) -> list[Setting]:
        """Return layers, units by layer, training, training by layer, quantization.

        Settings of a layer exist only if the layer does.
        """
        numbers = range(1, max(self.max_layers, self.seed_layers) + 1)
        units = sizes_of_parts(
            "units", "layers", len(numbers), self.seed_units, self.max_units, log=self.units_scale == "log"
        )
        layers = Integer("layers", "architecture", self.seed_layers, low=1, high=self.max_layers)
        training = training_settings(shape.losses, replace(REFERENCE_TRAINING, loss=shape.losses[0]))
        if self.per_layer_training:
            training += [setting for layer in numbers for setting in self._layer_settings(layer)]
        return [layers, *units, *training, *quantization_settings(self.weight_bits)]

    def _layer_settings(self, layer: int) -> list[Setting]:
        """Return how one layer is initialised and regularised."""
        there, reference = exists("layers", layer), self.initialization
        return [
            initializer_setting("kernel", layer, there, INITIALIZERS, reference.kernel),
            initializer_setting("recurrent", layer, there, INITIALIZERS, reference.recurrent),
            initializer_setting("bias", layer, there, self.bias_initializers, reference.bias),
            *(setting for weights in WEIGHTS for setting in regularizer_settings(weights, layer, there)),
        ]

    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        """Return the candidate's network.

        Raises:
            ValueError: a task whose samples are no sequences.
        """
        architecture = candidate.architecture
        units = [int(architecture[f"units_{layer}"]) for layer in range(1, int(architecture["layers"]) + 1)]
        network = self.network(shape, units)
        for number in range(1, len(units) + 1):
            initialization = self._initialization(candidate.training, number)
            if initialization != self.initialization:
                self.initialize(network.get_submodule(f"{self.layers_at}.{number - 1}"), initialization)
        return network

    def _initialization(self, training: Mapping[str, Value], layer: int) -> RecurrentInitialization:
        """Return a layer's initialization; where it isn't searched, the reference network's."""
        searched = {
            weights: training[name] for weights in WEIGHTS if (name := f"{weights}_initializer_{layer}") in training
        }
        return replace(self.initialization, **searched)  # type: ignore[arg-type] # the options are initializers

    def narrowed(self, share: float) -> Self:
        """Return the space around the reference with that share of the units of every layer."""
        return replace(self, seed_units=narrowed_width(self.seed_units, share))

    def penalties(self, candidate: Candidate, network: nn.Module) -> dict[str, Penalty]:
        """Return the penalties on the kernels, recurrent weights and biases of the layers."""
        del network
        found = {
            f"{self.layers_at}.{layer - 1}.{parameter}": penalty_of(candidate.training, weights, layer)
            for layer in range(1, int(candidate.architecture["layers"]) + 1)
            for weights, parameters in self.parameters.items()
            for parameter in parameters
        }
        return {name: penalty for name, penalty in found.items() if penalty is not None}
