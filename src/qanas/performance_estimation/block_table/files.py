"""The files of a block-wise search, and the blocks that they are of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from qanas.performance_estimation.base import StageFile
from qanas.performance_estimation.bench import Bench
from qanas.search_space.blockwise_space import Block, BlockwiseSpace


@dataclass(frozen=True)
class BlockFiles:
    """The files of one block.

    Attributes:
        supernets: a file of weights each.
        table: its table.
        replaced: what its rows cost the teacher, where that is the score.
    """

    supernets: tuple[StageFile, ...]
    table: StageFile
    replaced: StageFile


@dataclass(frozen=True)
class FeatureFolders:
    """Where the teacher's features lie.

    Attributes:
        train: on every view of the training samples.
        held_out: on validation samples.
    """

    train: Path
    held_out: Path


def blocks_of(bench: Bench) -> list[Block]:
    """Return the blocks of the networks that are searched."""
    return list(cast("BlockwiseSpace", bench.networks).blocks(bench.shape))
