"""What a run keeps of a shipped model's predictions, for its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qanas.core.card import SplitName
from qanas.tasks.base import FloatArray, Split
from qanas.workflows.plan import Setup


def save_predictions(
    path: Path, setup: Setup, splits: Mapping[SplitName, Split], outputs: Mapping[SplitName, FloatArray]
) -> None:
    """Write of the deployed outputs what the task wants to be kept, each array with its split's name in front.

    Args:
        path: of the .npz file; it appears whole or not at all.
        setup: plan and data.
        splits: the samples.
        outputs: of the deployed model on them.
    """
    task, notes = setup.plan.task, setup.problem.data.preprocessing
    kept = {name: task.predictions(outputs[name], split, notes) for name, split in splits.items()}
    arrays = {f"{name}_{array}": values for name, entry in kept.items() for array, values in entry.items()}
    partial = path.with_name(f".{path.name}.partial.npz")
    np.savez_compressed(partial, allow_pickle=False, **arrays)
    partial.replace(path)
