"""The units of work of a block-wise search: one supernet, one table."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save

from qanas.core.events import Event
from qanas.core.run_folder import write_atomically
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.block_table.build import TableBuilder
from qanas.performance_estimation.block_table.layers import BlockLayers
from qanas.search_space.blockwise_space import Block, BlockwiseSpace
from qanas.supernet.block_supernet import BlockSupernet
from qanas.supernet.distillation import distil
from qanas.supernet.teacher_features import BlockFeatures
from qanas.workflows.blockwise.files import BlockFiles
from qanas.workflows.plan import BlockwisePlan, Setup
from qanas.workflows.units import OnPartEpoch, Unit


@dataclass(frozen=True)
class FeatureFolders:
    """Where the teacher's features lie.

    Attributes:
        train: on every view of the training samples.
        held_out: on validation samples.
    """

    train: Path
    held_out: Path


@dataclass(frozen=True)
class BlockUnit(Unit[dict[str, Any]]):
    """Work on one block; returns the note that it left.

    Attributes:
        block: its position.
        files: where results go.
        features: the teacher's.
    """

    block: int
    files: BlockFiles
    features: FeatureFolders

    def _block(self, setup: Setup) -> Block:
        return blocks_of(setup)[self.block]


@dataclass(frozen=True)
class DistillationUnit(BlockUnit):
    """One supernet of a block.

    Attributes:
        seed: its number.
    """

    seed: int = 0

    def run(self, setup: Setup, on_epoch: OnPartEpoch) -> dict[str, Any]:
        """Train the supernet and keep its weights."""
        started = time.process_time()
        plan = blockwise_plan(setup)
        block = self._block(setup)
        seed = derive_seed(setup.plan.seed, "distillation", block.name, self.seed)
        supernet = BlockSupernet.seeded(block, derive_seed(seed, "weights"))
        features = BlockFeatures.mapped(self.features.train, self.block)
        losses: list[float] = []

        def watch(event: Event) -> bool:
            losses.append(event.loss)
            on_epoch(0, event.done, event.loss)
            return True

        distil(supernet, features, plan.distillation, derive_seed(seed, "order"), watch)
        file = self.files.supernets[self.seed]
        write_atomically(file.path, save(dict(supernet.state_dict())))
        note = {"losses": losses, "cpu_seconds": time.process_time() - started}
        file.finish(note)
        return note


@dataclass(frozen=True)
class TableUnit(BlockUnit):
    """The table of a block."""

    def run(self, setup: Setup, on_epoch: OnPartEpoch) -> dict[str, Any]:
        """Score paths and keep the table."""
        del on_epoch
        started = time.process_time()
        plan, block = blockwise_plan(setup), self._block(setup)
        train = BlockFeatures.mapped(self.features.train, self.block)
        held_out = BlockFeatures.mapped(self.features.held_out, self.block)
        shape = tuple(train.inputs.shape[1:])
        supernets = []
        for file in self.files.supernets:
            supernet = BlockSupernet(block)
            supernet.load_state_dict(load_file(file.path))
            supernets.append(BlockLayers.of(supernet.eval(), shape, setup.plan.quantization))
        seed = derive_seed(setup.plan.seed, "table", block.name)
        table = TableBuilder(supernets, train, held_out, plan.table, seed).build(setup.plan.decisive_costs)
        table.write(self.files.table.path, [[option.name for option in options] for options in block.layers])
        note = {
            "rows": len(table.rows),
            "exact_rows": int(table.exact.sum()),
            "samples": int(table.samples.max()),
            "cpu_seconds": time.process_time() - started,
        }
        self.files.table.finish(note)
        return note


def blockwise_plan(setup: Setup) -> BlockwisePlan:
    """Return the plan's own part for a block-wise search."""
    plan = setup.plan.search
    if not isinstance(plan, BlockwisePlan):
        raise TypeError("this is no plan of a block-wise search")
    return plan


def blockwise_space(setup: Setup) -> BlockwiseSpace:
    """Return the networks that are searched."""
    networks = setup.plan.networks
    if not isinstance(networks, BlockwiseSpace):
        raise TypeError(f"{type(networks).__name__} has no blocks")
    return networks


def blocks_of(setup: Setup) -> list[Block]:
    """Return the blocks of the networks that are searched."""
    return list(blockwise_space(setup).blocks(setup.problem.shape))
