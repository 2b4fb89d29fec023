"""Block-wise distillation: each block's supernet learns to put out what the teacher's block does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qanas.core.events import Watch, go_on
from qanas.supernet.block_supernet import BlockSupernet
from qanas.supernet.paths import PathsTrainer, Sampling, paths_a_step
from qanas.supernet.teacher_features import BlockFeatures
from qanas.training.loop import Passes, fit
from qanas.training.trainer import TrainingSet

VARIANCE_FLOOR = 1e-8
"""Below the variance of any channel that carries something; a channel that doesn't must not divide by 0."""


@dataclass(frozen=True)
class NoiseToSignal:
    """The noise-to-signal ratio of a block's output, ``mean over c of mean (y_c - t_c)^2 / var(t_c)``.

    The mean over samples and positions makes blocks comparable (Moons et al., ICCV 2021; Lu et al. 2023).

    Attributes:
        inverse_variance: one over the variance of each of the teacher's channels, shape (channels, 1, 1).
    """

    inverse_variance: Tensor

    @classmethod
    def of(cls, teacher: Tensor) -> NoiseToSignal:
        """Take the variances of the teacher's features, shape (n, channels, height, width)."""
        variance = teacher.var(dim=(0, 2, 3), correction=0)
        return cls(1.0 / variance.clamp(min=VARIANCE_FLOOR)[:, None, None])

    def __call__(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        """Return the ratio of each sample, shape (batch,).

        Args:
            outputs: of the block, shape (batch, channels, height, width).
            teacher: what it shall put out, of that shape.
        """
        error = outputs - teacher
        return (error.square() * self.inverse_variance).mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class DistillationSettings:
    """How a block's supernet is trained (Lu et al. 2023: SGD with momentum 0.9, polynomial schedule, batch 8).

    Attributes:
        passes: paths trained, each on one batch. A fair step takes as many as a layer has options, a uniform one takes
            one, so that both cost the same.
        sampling: which paths.
        batch_size: samples of a batch.
        learning_rate: of the first step; falls to 0 with power 0.9.
    """

    passes: int
    sampling: Sampling
    batch_size: int
    learning_rate: float


def distil(
    supernet: BlockSupernet, features: BlockFeatures, settings: DistillationSettings, seed: int, watch: Watch = go_on
) -> bool:
    """Train a block's supernet in place and leave it in evaluation mode; return whether it went to the end.

    Args:
        supernet: with initial weights.
        features: of the teacher on training samples.
        settings: how.
        seed: of batches and paths.
        watch: told of every hundredth of the way, in passes; says whether to go on.

    Raises:
        TrainingFailed: the loss became NaN or infinite.
    """
    generator = torch.Generator().manual_seed(seed)  # of batches and paths in turn
    options = [len(places) for places in supernet.options]
    trainer = PathsTrainer(
        supernet,
        TrainingSet(features.inputs, features.outputs),
        NoiseToSignal.of(features.outputs),
        options=options,
        sampling=settings.sampling,
        generator=generator,
    )
    a_step = paths_a_step(settings.sampling, options)
    schedule = Passes(len(features), settings.batch_size, settings.learning_rate, settings.passes, a_step, generator)
    return fit(trainer, schedule, watch)
