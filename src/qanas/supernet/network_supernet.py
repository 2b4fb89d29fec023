"""The supernet of whole networks: every path through all blocks, between a stem and a head that all share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath

import torch
from safetensors.torch import load
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.core.events import Watch
from qanas.search_space.blockwise_space import Block, BlockwiseSpace
from qanas.search_space.network_space import TaskShape
from qanas.search_space.start import Start
from qanas.supernet.block_supernet import BlockSupernet, Path, outside, path_state
from qanas.supernet.paths import CostWindows, PathsTrainer, Sampling, path_optimizer, paths_a_step
from qanas.supernet.segments import Checkpoint, train_in_segments
from qanas.training.loop import Passes
from qanas.training.trainer import Loss, TrainingSet


class _PathBlock(BlockSupernet):
    """A block of which one path is taken at a time, in the place of the reference's block."""

    path: Path = ()

    def forward(self, inputs: Tensor, path: Path | None = None) -> Tensor:
        """Map the block's input, shape (batch, channels, ...), to its output along its path, or another one."""
        return super().forward(inputs, self.path if path is None else path)


class NetworkSupernet(nn.Module):
    """All networks of a family that differ in their blocks' layers; those that share an option share its weights.

    Stem, head and whatever else is outside of the blocks are the reference's and shared by all (Guo et al., ECCV 2020).

    Args:
        reference: a network of the family with initial weights; its blocks are replaced, in place.
        blocks: where they are, and what can stand in them.

    Attributes:
        network: the reference with supernets for blocks.
    """

    def __init__(self, reference: nn.Module, blocks: Sequence[Block]) -> None:
        """Create every option with initial weights."""
        super().__init__()
        self.network = reference
        self._places = [_PathBlock(block) for block in blocks]
        for block, place in zip(blocks, self._places, strict=True):
            reference.set_submodule(block.module, place)

    @property
    def options(self) -> list[int]:
        """How many options each layer has, those of all blocks behind each other."""
        return [len(options) for place in self._places for options in place.options]

    def forward(self, inputs: Tensor, path: Path) -> Tensor:
        """Map inputs, shape (batch, *input_shape), to outputs along a path.

        Args:
            inputs: of the network.
            path: the position of the chosen option of each layer, as `options` counts them.
        """
        taken = 0
        for place in self._places:
            place.path = path[taken : taken + len(place.layers)]
            taken += len(place.layers)
        outputs: Tensor = self.network(inputs)
        return outputs


@dataclass(frozen=True)
class SharedStart(Start):
    """The weights of a supernet that a network of its family has: its path's, stem and head.

    Statistics of batch norms are those of all paths mixed; `qanas.training.trainer.refresh_batch_norms` gives a network
    its own.

    Attributes:
        networks: the family.
        file: of the supernet's weights; its name changes with what it was made from.
    """

    networks: BlockwiseSpace
    file: FilePath

    @property
    def digest(self) -> str:
        """Changes with the weights."""
        return hashlib.sha256(self.file.name.encode()).hexdigest()[:8]

    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        """Give a candidate's network these weights.

        Args:
            candidate: of the family, one option a layer.
            network: as `BlockwiseSpace.build` returned it.
            shape: of the task.
        """
        blocks = self.networks.blocks(shape)
        state = load(self.file.read_bytes())
        chosen = outside(blocks, state)
        for block in blocks:
            home = f"{block.module}."
            own = {name.removeprefix(home): values for name, values in state.items() if name.startswith(home)}
            path = path_state(own, block.path_of(candidate.architecture))
            chosen |= {f"{home}{name}": values for name, values in path.items()}
        network.load_state_dict(chosen)


@dataclass(frozen=True)
class SharedTraining:
    """How a supernet is trained on the task itself.

    Attributes:
        passes: paths trained, each on one batch; a fair step takes as many as the widest layer has options.
        sampling: which paths: one at random (SPOS, Guo et al., ECCV 2020), or every option once a step (FairNAS, Chu et
            al., ICCV 2021).
        batch_size: samples of a batch.
        learning_rate: of the first step; falls to 0 with power 0.9.
        loss: the task's kind of loss.
        windows: of the paths' cost that they are drawn in, one a step; None: whatever they cost.
    """

    passes: int
    sampling: Sampling
    batch_size: int
    learning_rate: float
    loss: str
    windows: CostWindows | None = None


def train_shared(
    supernet: NetworkSupernet,
    data: Callable[[int], TrainingSet],
    loss: Loss,
    settings: SharedTraining,
    *,
    seed: int,
    checkpoint: FilePath,
    watch: Watch,
) -> bool:
    """Train a supernet in place, and leave it in evaluation mode; return whether it went to the end.

    Args:
        supernet: with initial weights.
        data: what on, by the seed of its random changes.
        loss: of the task.
        settings: how.
        seed: of batches, paths and random changes.
        checkpoint: written after each segment, and gone on from where it is there: the weights are those of a training
            that nobody stopped.
        watch: told of every hundredth of the way; says whether to go on.

    Raises:
        TrainingFailed: the loss became NaN or infinite.
    """
    options = supernet.options
    a_step = paths_a_step(settings.sampling, options)
    optimizer = path_optimizer(supernet)
    kept = Checkpoint(checkpoint, {"supernet": (supernet, optimizer)})
    first, _ = kept.restored()

    def begin(changes: int, generator: torch.Generator) -> tuple[PathsTrainer, Passes]:
        changed = data(changes)
        trainer = PathsTrainer(
            supernet,
            changed,
            partial(loss, settings.loss),
            options=options,
            sampling=settings.sampling,
            generator=generator,
            windows=settings.windows,
            optimizer=optimizer,
        )
        passes = Passes(len(changed), settings.batch_size, settings.learning_rate, settings.passes, a_step, generator)
        return trainer, passes

    def keep(segments: int) -> None:
        kept.write(segments, {})

    return train_in_segments(first, begin, keep, seed=seed, watch=watch)
