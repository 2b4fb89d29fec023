"""How long a block-wise search may take."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from qanas.supernet.block_supernet import BlockSupernet
from qanas.supernet.distillation import distil
from qanas.supernet.teacher_features import BlockFeatures, features_of
from qanas.workflows.blockwise.units import blocks_of
from qanas.workflows.plan import BlockwisePlan, Setup

PROBED_PASSES = 3


def forecast_distillation(setup: Setup, plan: BlockwisePlan) -> float:
    """Return the CPU seconds of all supernets, from a few passes through each block."""
    blocks = blocks_of(setup)
    teacher = setup.problem.build(setup.space.reference, 0).eval()
    samples = torch.from_numpy(setup.problem.data.train.inputs[: plan.distillation.batch_size])
    seconds = 0.0
    for block, features in zip(blocks, features_of(teacher, blocks, samples), strict=True):
        seconds += _pass_seconds(BlockSupernet.seeded(block, 0), features, plan) * plan.distillation.passes
    return seconds * plan.supernets


def _pass_seconds(supernet: BlockSupernet, features: BlockFeatures, plan: BlockwisePlan) -> float:
    """Return the seconds that a path takes; the first ones, which are slow, are not counted."""
    # Nothing is to be learnt here: the features of an untrained teacher may send a learning supernet astray.
    settings = replace(plan.distillation, passes=PROBED_PASSES, sampling="uniform", learning_rate=0.0)
    distil(supernet, features, settings, seed=0)
    started = time.perf_counter()
    distil(supernet, features, settings, seed=0)
    return (time.perf_counter() - started) / PROBED_PASSES
