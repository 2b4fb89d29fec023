"""Block-wise distillation: each block's supernet learns to put out what the teacher's block does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from qanas.core.errors import TrainingFailed
from qanas.supernet.block_supernet import BlockSupernet
from qanas.supernet.noise import NoiseToSignal
from qanas.supernet.paths import SAMPLERS, Sampling
from qanas.supernet.teacher_features import BlockFeatures
from qanas.training.memory_order import channels_last

MOMENTUM = 0.9
POLYNOMIAL_POWER = 0.9
GRADIENT_CLIP = 1.0
"""Bound on the norm of the gradient: first steps of a block whose teacher has channels of little variance are wild."""

OnPasses = Callable[[int, float], None]
"""Told now and then: how many paths were trained, and their mean loss since it was last told."""


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
    supernet: BlockSupernet,
    features: BlockFeatures,
    settings: DistillationSettings,
    seed: int,
    on_passes: OnPasses | None = None,
) -> None:
    """Train a block's supernet in place and leave it in evaluation mode.

    Args:
        supernet: with initial weights.
        features: of the teacher on training samples.
        settings: how.
        seed: of batches and paths.
        on_passes: told about every hundredth of the way.

    Raises:
        TrainingFailed: the loss became NaN or infinite.
    """
    generator = torch.Generator().manual_seed(seed)
    options = [len(places) for places in supernet.options]
    sample = SAMPLERS[settings.sampling]
    noise = NoiseToSignal.of(features.outputs)
    optimizer = torch.optim.SGD(supernet.parameters(), settings.learning_rate, MOMENTUM)
    told = passes = 0
    summed = 0.0
    supernet.train()
    while passes < settings.passes:
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1.0 - passes / settings.passes) ** POLYNOMIAL_POWER
        chosen = torch.randint(len(features), (settings.batch_size,), generator=generator)
        inputs, targets = channels_last(features.inputs[chosen]), channels_last(features.outputs[chosen])
        # Options that no path uses have no gradient at all: momentum must not move them.
        optimizer.zero_grad(set_to_none=True)
        for path in sample(options, generator):
            loss = noise(supernet(inputs, path), targets).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            summed += loss.item()
            passes += 1
        nn.utils.clip_grad_norm_(supernet.parameters(), GRADIENT_CLIP)
        optimizer.step()
        if not math.isfinite(summed):
            raise TrainingFailed(f"the distillation loss became {summed} after {passes} passes")
        if on_passes is not None and (passes - told) * 100 >= settings.passes:
            on_passes(passes, summed / (passes - told))
            told, summed = passes, 0.0
    supernet.eval()
