"""The supernet of one block: every option of every layer, of which a path uses one a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from qanas.search_space.blockwise_space import Block

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
        """Map the block's input to its output along a path."""
        for options, position in zip(self.options, path, strict=True):
            inputs = options[position](inputs)
        return inputs

    def path_state(self, path: Path) -> Mapping[str, Tensor]:
        """Return the weights of a path by the names that they have in a candidate's block: ``0``, ``1``, ..."""
        return {
            f"{layer}.{name}": tensor
            for layer, (options, position) in enumerate(zip(self.options, path, strict=True))
            for name, tensor in options[position].state_dict().items()
        }
