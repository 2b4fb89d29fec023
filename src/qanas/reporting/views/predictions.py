"""What a run kept of its shipped models' predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.errors import InputError
from qanas.core.run_folder import SEED_ID

if TYPE_CHECKING:
    from pathlib import Path

    from qanas.reporting.run_data import RunData

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Predictions:
    """What is kept of a shipped model's predictions.

    Attributes:
        name: of the model's folder.
        weight_bytes: of its file.
        arrays: by name, with the split's in front.
    """

    name: str
    weight_bytes: int
    arrays: Arrays

    @property
    def label(self) -> str:
        """Name and size."""
        return f"{self.name}, {self.weight_bytes:,} bytes"

    def column(self, name: str) -> NDArray[np.float64] | None:
        """Return an array with one number a row; None if there is none such."""
        array = self.arrays.get(name)
        if array is None or not array.size or array.size != len(array):
            return None
        return np.asarray(array, dtype=np.float64).reshape(-1)

    def has(self, split: str, *names: str) -> bool:
        """Tell whether all arrays of a split are there, of one length."""
        columns = [self.column(f"{split}_{name}") for name in ("outputs", "targets", *names)]
        lengths = {len(column) for column in columns if column is not None}
        return all(column is not None for column in columns) and len(lengths) == 1

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        column = self.column(name)
        if column is None:
            raise KeyError(name)
        return column


def read_predictions(data: RunData) -> list[Predictions]:
    """Read the predictions of every shipped model, the best one first and the reference last.

    Raises:
        InputError: a file was damaged.
    """
    names = sorted(data.cards, key=lambda name: (name == SEED_ID, _loss(data, name)))
    paths = {name: data.folder.model(name) / "predictions.npz" for name in names}
    there = [(name, path) for name, path in paths.items() if path.is_file()]
    return [Predictions(name, data.cards[name].weight_bytes, _arrays(path)) for name, path in there]


def _arrays(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: {error}; it was damaged, run again to write it anew") from error


def _loss(data: RunData, name: str) -> float:
    """Return a model's deployed validation score, with the sign that makes smaller better."""
    metrics = data.cards[name].metrics.get("deployed", {}).get("val", {})
    for objective in data.scores:
        if objective.name in metrics:
            return objective.loss(metrics[objective.name].mean)
    return 0.0
