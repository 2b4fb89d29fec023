"""Scores of a network that is there: its FP32 outputs on a split, and the task's metrics of any outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.core.even_spread import evenly_spread
from qanas.quantization.border import alone, named_parts
from qanas.quantization.ranges import joined
from qanas.tasks.base import Outputs, Task
from qanas.tasks.samples import Split
from qanas.training.trainer import channels_last

CHUNK_BYTES = 8 << 20
CHUNK_SAMPLES = 1024
"""Inputs that a network is given at a time: at most so many, and at most of so many bytes."""


@torch.no_grad()
def float_outputs(network: nn.Module, split: Split) -> Outputs:
    """Return a network's outputs on all samples, shape (n, output_size, ...); several by name.

    Args:
        network: on the CPU, in evaluation mode.
        split: its n samples.
    """
    chunks = split.chunks(chunk_size(split))
    outputs = joined([named_parts(network(channels_last(torch.from_numpy(chunk))), Tensor) for chunk in chunks])
    return alone({name: values.numpy() for name, values in outputs.items()})


def sample_of(split: Split, most: int) -> Split:
    """Return samples spread evenly over a split, at most so many, in memory."""
    return part_of(split, evenly_spread(len(split), min(len(split), most)))


def part_of(split: Split, indices: NDArray[np.intp]) -> Split:
    """Return some samples of a split, in memory, by their positions, shape (m,)."""
    inputs, targets = split.batch(indices)
    return Split(inputs, targets, {name: values[indices] for name, values in split.extras.items()})


def metrics_of(task: Task, outputs: Outputs, split: Split) -> dict[str, float]:
    """Return what a task's `evaluate` says, as plain numbers; one that is not defined on the split is NaN.

    Args:
        task: whose metrics they are.
        outputs: shape (n, output_size, ...).
        split: its n samples.

    Raises:
        TypeError: it returns other metrics than the task has, or something that is no number.
    """
    found = task.evaluate(outputs, split)
    name = type(task).__name__
    if not isinstance(found, Mapping):
        raise TypeError(f"{name}.evaluate returns a {type(found).__name__}; return a number for each of its metrics")
    lacking, strange = [n for n in task.metrics if n not in found], [str(n) for n in found if n not in task.metrics]
    if lacking or strange:
        more = f"; it returns {', '.join(strange)}, which its metrics don't have" if strange else ""
        raise TypeError(f"{name}.evaluate returns no {', '.join(lacking) or 'such metrics'}{more}")
    return {metric: number_of(f"{name}.evaluate: {metric}", found[metric]) for metric in task.metrics}


def number_of(place: str, value: object) -> float:
    """Return a number of Python, NumPy or torch as a float; None is not defined."""
    if value is None:
        return math.nan
    try:
        plain = value.item() if isinstance(value, np.ndarray | np.generic | Tensor) else value
        if isinstance(plain, str | bytes):  # which Python would read
            raise TypeError(plain)  # noqa: TRY301 - as what else is no number
        return float(plain)  # type: ignore[arg-type]  # what it can't take, it refuses
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"{place} is a {type(value).__name__}, not a number") from error


def chunk_size(split: Split) -> int:
    """Return how many samples are computed at a time."""
    sample_bytes = 4 * int(np.prod(split.input_shape))
    return max(1, min(CHUNK_SAMPLES, CHUNK_BYTES // sample_bytes))
