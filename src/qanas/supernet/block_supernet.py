"""The supernet of one block, and the weights that it leaves for networks to start from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.search_space.blockwise_space import Block, BlockwiseSpace
from qanas.search_space.network_space import TaskShape
from qanas.search_space.start import Start

Path = Sequence[int]
"""The position of the chosen option of each layer."""


class BlockSupernet(nn.Module):
    """All paths through a block; those that share an option share its weights.

    Args:
        block: with the options of every layer.

    Attributes:
        layers: the options of each layer.
    """

    def __init__(self, block: Block) -> None:
        """Create every option with initial weights."""
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleList(option.build() for option in options) for options in block.layers)

    @classmethod
    def seeded(cls, block: Block, seed: int) -> BlockSupernet:
        """Return the supernet with initial weights that depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(block)

    @property
    def options(self) -> list[list[nn.Module]]:
        """The modules that can stand at each layer's place."""
        return [list(cast("nn.ModuleList", places)) for places in self.layers]

    def forward(self, inputs: Tensor, path: Path) -> Tensor:
        """Map the block's input, shape (batch, channels, height, width), to its output along a path."""
        for options, position in zip(self.options, path, strict=True):
            inputs = options[position](inputs)
        return inputs

    def path_state(self, path: Path) -> Mapping[str, Tensor]:
        """Return the weights of a path by the names that they have in a candidate's block: ``0``, ``1``, ..."""
        return path_state(self.state_dict(), path)


def path_state(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the weights of a path, of a `BlockSupernet`'s, by the names that they have in a candidate's block.

    Args:
        state: the supernet's.
        path: an option a layer.
    """
    chosen = {f"layers.{layer}.{position}": layer for layer, position in enumerate(path)}
    parts = ((name.split(".", 3), tensor) for name, tensor in state.items())  # layers, layer, position, name
    return {
        f"{chosen[place]}.{name}": tensor for (*option, name), tensor in parts if (place := ".".join(option)) in chosen
    }


def outside(blocks: Sequence[Block], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a network's weights that are in no block."""
    inside = tuple(f"{block.module}." for block in blocks)
    return {name: tensor for name, tensor in state.items() if not name.startswith(inside)}


@dataclass(frozen=True)
class DistilledStart(Start):
    """What a block-wise search leaves for its finalists.

    Attributes:
        networks: the family of networks.
        teacher: the teacher's weights.
        supernets: a file of each block; its name changes with what it was made from.
    """

    networks: BlockwiseSpace
    teacher: FilePath
    supernets: tuple[FilePath, ...]

    @property
    def digest(self) -> str:
        """Changes with the weights."""
        return hashlib.sha256("".join(path.name for path in self.supernets).encode()).hexdigest()[:8]

    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        """Give a candidate's network these weights.

        Args:
            candidate: of the family, one option a layer.
            network: as `BlockwiseSpace.build` returned it.
            shape: of the task.
        """
        blocks = self.networks.blocks(shape)
        network.load_state_dict(outside(blocks, load_file(self.teacher)), strict=False)
        for block, path in zip(blocks, self.supernets, strict=True):
            state = path_state(load_file(path), block.path_of(candidate.architecture))
            network.get_submodule(block.module).load_state_dict(state)
