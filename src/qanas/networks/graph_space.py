"""What spaces of networks that are graphs have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

from pydantic import Field
from torch import nn

from qanas.core.candidate import Candidate
from qanas.networks.graph import Graph, GraphNetwork
from qanas.networks.staged import WeightBits
from qanas.search_space.network_space import NetworkSpace, TaskShape, image_shape, narrowed_width
from qanas.search_space.quantization_group import quantization_settings
from qanas.search_space.settings import Setting
from qanas.search_space.training_group import TrainingSettings, training_settings


@dataclass(frozen=True)
class GraphSpace(NetworkSpace):
    """Networks for images, or for tables as images of one channel, each built of the graph that its settings describe.

    Attributes:
        seed_channels: of a convolution of the reference, in the first stage where there are several.
        weight_bits: bits of a weight that are searched, for the whole network.
    """

    seed_channels: Annotated[int, Field(ge=1, le=512)] = 16
    weight_bits: Annotated[tuple[WeightBits, ...], Field(strict=False, min_length=1)] = (8,)

    training: ClassVar[TrainingSettings] = TrainingSettings(
        learning_rate=5e-3, optimizer="adam", scheduler="cosine", batch_size=32, loss="cross_entropy", gradient_clip=5.0
    )
    """How the reference is trained: along a half cosine to 0, which each generation of a growing search restarts."""

    @abstractmethod
    def wiring_settings(self) -> Sequence[Setting]:
        """Return the settings of the group ``architecture``."""

    @abstractmethod
    def graph_of(self, candidate: Candidate) -> Graph:
        """Return the graph of a candidate."""

    def settings(self, shape: TaskShape) -> list[Setting]:
        """Return the settings of the graph, of training, and the bits of weights."""
        image_shape(type(self).__name__, shape)
        training = training_settings(shape.losses, replace(self.training, loss=shape.losses[0]))
        return [*self.wiring_settings(), *training, *quantization_settings(self.weight_bits)]

    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        """Return the network of a candidate's graph."""
        return GraphNetwork(self.graph_of(candidate), shape)

    def describe(self, candidate: Candidate) -> str:
        """Return the channels of all convolutions, an s behind those of separable ones, and the bits."""
        return f"{self.graph_of(candidate).describe()}, {candidate.quantization.get('weight_bits', 8)} bits"

    def narrowed(self, share: float) -> Self:
        """Return the space of a reference with that share of the channels."""
        return replace(self, seed_channels=narrowed_width(self.seed_channels, share))
