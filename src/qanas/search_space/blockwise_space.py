"""What a network family brings to be searched block by block: where the blocks are, and what can stand in them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from qanas.core.candidate import Candidate, Value
from qanas.search_space.network_space import NetworkSpace, TaskShape
from qanas.search_space.quantization_group import BY_LAYER, BitsPer, bits_of_layers


@dataclass(frozen=True)
class LayerOption:
    """What can stand at the place of one layer.

    Attributes:
        name: for people, such as "k5e3".
        settings: the architecture settings that choose it.
        build: makes it with initial weights.
    """

    name: str
    settings: Mapping[str, Value]
    build: Callable[[], nn.Module]


@dataclass(frozen=True)
class Block:
    """A part of the network with a teacher's part in its place.

    A path through it is one option a layer, given by the options' positions.

    Attributes:
        name: for people and files.
        module: the path of the module in the reference network, the teacher, and in every candidate. In a candidate it
            holds its layers as ``0``, ``1``, ...
        layers: the options of every layer, from the first to the last.
        settings: the architecture settings that all its paths have.
        weight_bits_setting: the quantization setting with the bits of its weights.
        bits_per: what has bits of its own; where it is a layer, its setting has its number behind that of the block.
    """

    name: str
    module: str
    layers: tuple[tuple[LayerOption, ...], ...]
    settings: Mapping[str, Value]
    weight_bits_setting: str
    bits_per: BitsPer = "block"

    def quantization(self, bits: int | Sequence[int]) -> dict[str, Value]:
        """Return the quantization settings of a block whose weights, or each layer's, have some bits."""
        each = [bits] * len(self.layers) if isinstance(bits, int) else list(bits)
        name = self.weight_bits_setting
        if self.bits_per == "block":
            return {name: each[0]}
        return {name: BY_LAYER, **{f"{name}_{layer}": own for layer, own in enumerate(each, 1)}}

    def bits_of(self, quantization: Mapping[str, Value]) -> tuple[int, ...]:
        """Return the bits of each layer's weights of a candidate."""
        return bits_of_layers(self.weight_bits_setting, len(self.layers), quantization)

    def architecture(self, path: Sequence[int]) -> dict[str, Value]:
        """Return the architecture settings of a path."""
        chosen: dict[str, Value] = dict(self.settings)
        for options, position in zip(self.layers, path, strict=True):
            chosen |= options[position].settings
        return chosen

    def path_of(self, architecture: Mapping[str, Value]) -> tuple[int, ...]:
        """Return the path that a candidate has through the block.

        Raises:
            ValueError: it has what is no option of a layer.
        """
        path = []
        for number, options in enumerate(self.layers, 1):
            fitting = [i for i, option in enumerate(options) if option.settings.items() <= architecture.items()]
            if not fitting:
                raise ValueError(f"{self.name}: layer {number} of the candidate is none of its options")
            path.append(fitting[0])
        return tuple(path)

    @property
    def paths(self) -> int:
        """How many paths there are."""
        total = 1
        for options in self.layers:
            total *= len(options)
        return total


class BlockwiseSpace(NetworkSpace):
    """A family of networks that consist of blocks behind each other, between a stem and a head that stay.

    The reference network is the teacher: each block learns to put out what the teacher's does, given what the teacher's
    is given, so that blocks can be trained and scored apart (Li et al., CVPR 2020). Input and output of a block must
    have the teacher's shapes on every path.
    """

    @abstractmethod
    def blocks(self, shape: TaskShape) -> Sequence[Block]:
        """Return the blocks in the order in which values pass them."""

    def candidate(
        self,
        shape: TaskShape,
        reference: Candidate,
        paths: Sequence[Sequence[int]],
        weight_bits: Sequence[int | Sequence[int]],
    ) -> Candidate:
        """Return the network of one path a block.

        Args:
            shape: of the task.
            reference: the reference network's candidate, which has everything that is not searched.
            paths: through each block.
            weight_bits: of each block's weights, or of each of its layers'.
        """
        architecture: dict[str, Value] = {}
        quantization = dict(reference.quantization)
        for block, path, bits in zip(self.blocks(shape), paths, weight_bits, strict=True):
            architecture |= block.architecture(path)
            quantization |= block.quantization(bits)
        return Candidate(architecture, reference.training, quantization, reference.input)
