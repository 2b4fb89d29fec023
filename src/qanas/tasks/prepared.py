"""Prepared data on disk: read and cut once a run, then memory-mapped by every process that needs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.base import Split, TaskData

SPLITS = ("train", "val", "test")
DESCRIPTION = "data.json"


def save_prepared(data: TaskData, folder: Path) -> None:
    """Write a task's prepared data: an .npy file an array, and the rest as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    extras = {}
    for name in SPLITS:
        split: Split = getattr(data, name)
        extras[name] = list(split.extras)
        arrays = {"inputs": split.inputs, "targets": split.targets, **split.extras}
        for array, values in arrays.items():
            np.save(folder / f"{name}.{array}.npy", values, allow_pickle=False)
    description = {
        "extras": extras,
        "output_size": data.output_size,
        "target_scale": data.target_scale,
        "preprocessing": data.preprocessing,
        "protocol": data.protocol,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description), "utf-8")


def load_prepared(folder: Path) -> TaskData:
    """Return prepared data whose arrays are memory-mapped: processes share the pages.

    The maps are copy-on-write: torch wants writable memory, and nobody's writing reaches the files.
    """
    description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text("utf-8"))

    def array(split: str, name: str) -> NDArray[Any]:
        values: NDArray[Any] = np.load(folder / f"{split}.{name}.npy", mmap_mode="c", allow_pickle=False)
        return values

    splits = {
        name: Split(
            array(name, "inputs"),
            array(name, "targets"),
            {extra: array(name, extra) for extra in description["extras"][name]},
        )
        for name in SPLITS
    }
    return TaskData(
        **splits,
        output_size=description["output_size"],
        target_scale=description["target_scale"],
        preprocessing=description["preprocessing"],
        protocol=description["protocol"],
    )
