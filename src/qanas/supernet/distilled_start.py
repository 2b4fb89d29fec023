"""Weights that a candidate can start from: the teacher's for what is its own too, and distilled blocks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from qanas.core.candidate import Candidate
from qanas.search_space.blockwise_space import BlockwiseSpace
from qanas.search_space.network_space import TaskShape
from qanas.search_space.start import Start
from qanas.supernet.block_supernet import BlockSupernet


@dataclass(frozen=True)
class DistilledStart(Start):
    """What a block-wise search leaves for its finalists.

    Attributes:
        networks: the family of networks.
        teacher: the teacher's weights.
        supernets: a file of each block; its name changes with what it was made from.
    """

    networks: BlockwiseSpace
    teacher: Path
    supernets: tuple[Path, ...]

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
        inside = tuple(f"{block.module}." for block in blocks)
        outside = {name: value for name, value in load_file(self.teacher).items() if not name.startswith(inside)}
        network.load_state_dict(outside, strict=False)
        for block, path in zip(blocks, self.supernets, strict=True):
            supernet = BlockSupernet(block)
            supernet.load_state_dict(load_file(path))
            state = supernet.path_state(block.path_of(candidate.architecture))
            network.get_submodule(block.module).load_state_dict(dict(state))
