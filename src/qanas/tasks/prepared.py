"""Prepared data on disk: read and cut once a run, then memory-mapped by every process that needs it.

A split that is decoded on demand is there as its recipe: pickled, to be decoded by every process for itself.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.base import TaskData
from qanas.tasks.samples import DecodedSplit, Split, ragged

SPLITS = ("train", "val", "test")
DESCRIPTION = "data.json"


def save_prepared(data: TaskData, folder: Path) -> None:
    """Write a task's prepared data: an .npy file an array, and the rest as JSON.

    Raises:
        ValueError: a split that is decoded on demand can't be pickled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    extras = {}
    for name in SPLITS:
        split: Split = getattr(data, name)
        extras[name] = list(split.extras)
        if isinstance(split, DecodedSplit):
            (folder / f"{name}.pickle").write_bytes(_pickled(split, name))
            continue
        arrays = {"inputs": split.inputs, "targets": split.targets, **split.extras}
        for array, values in arrays.items():
            _save(folder / f"{name}.{array}.npy", values)
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
    train, val, test = (_load_split(folder, name, description["extras"][name]) for name in SPLITS)
    return TaskData(
        train,
        val,
        test,
        output_size=description["output_size"],
        target_scale=description["target_scale"],
        preprocessing=description["preprocessing"],
        protocol=description["protocol"],
    )


def _pickled(split: DecodedSplit, name: str) -> bytes:
    try:
        return pickle.dumps(split)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"the {name} split can't be given to other processes: {error}") from error


def _load_split(folder: Path, name: str, extras: list[str]) -> Split:
    recipe = folder / f"{name}.pickle"
    if recipe.is_file():
        decoded: DecodedSplit = pickle.loads(recipe.read_bytes())  # noqa: S301 - written by this run
        return decoded
    arrays = {array: _load(folder / f"{name}.{array}.npy") for array in ("inputs", "targets", *extras)}
    return Split(arrays.pop("inputs"), arrays.pop("targets"), arrays)


def _save(path: Path, values: NDArray[Any]) -> None:
    """Write an array; a ragged one as its rows behind each other, and where each but the first begins."""
    if values.dtype == object:
        np.save(_borders(path), np.cumsum([len(row) for row in values])[:-1])
        values = np.concatenate(list(values))
    np.save(path, values, allow_pickle=False)


def _load(path: Path) -> NDArray[Any]:
    values: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    if not _borders(path).is_file():
        return values
    return ragged(np.split(values, np.load(_borders(path))))


def _borders(path: Path) -> Path:
    return path.with_suffix(".borders.npy")
