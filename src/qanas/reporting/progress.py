"""How the front grew over a search."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qanas.core.pareto import hypervolume, non_dominated
from qanas.reporting.run_data import finite
from qanas.reporting.scaling import ScaledAxis
from qanas.reporting.wording import duration, number, title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.reporting.run_data import RunData

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Progress:
    """A search, trial by trial.

    Attributes:
        indices: of the counted trials.
        volumes: hypervolume of the front after each of them.
        train_seconds: CPU seconds of training up to and with each of them.
        caption: reference point, normalisation and time in words.
    """

    indices: list[int]
    volumes: list[float]
    train_seconds: list[float]
    caption: str


def search_progress(data: RunData) -> Progress | None:
    """Return the front's hypervolume over the counted trials; None without a measured, feasible trial.

    Each objective is scaled to [0, 1] between its best and its worst value over all feasible trials of this run,
    a cost that spans more than a decade by its log10. The reference point is the worst corner: the volume is the
    share of the box that the front dominates, and compares within one run only.
    """
    counted = sorted((row for row in data.trials if finite(row.get("index")) is not None), key=_index)
    feasible = [
        row for row in data.measured if row.get("feasible") is not False and finite(row.get("index")) is not None
    ]
    if not feasible or not data.objectives:
        return None
    axes = [
        ScaledAxis.over(objective, [float(row[objective.name]) for row in feasible]) for objective in data.objectives
    ]
    points = {_index(row): [axis.scaled(float(row[axis.objective.name])) for axis in axes] for row in feasible}
    front = np.empty((0, len(axes)))
    volumes, volume = [], 0.0
    for row in counted:
        point = points.get(_index(row))
        if point is not None and not np.any(np.all(front <= point, axis=1)):
            front = np.vstack([front, point])
            front = front[non_dominated(front)]
            volume = hypervolume(front, [1.0] * len(axes))
        volumes.append(volume)
    seconds = list(accumulate(finite(row.get("train_seconds")) or 0.0 for row in counted))
    return Progress([_index(row) for row in counted], volumes, seconds, _caption(axes, seconds[-1]))


def _index(row: dict[str, object]) -> int:
    return int(str(row["index"]))


def _caption(axes: Sequence[ScaledAxis], seconds: float) -> str:
    corner = ", ".join(f"{title(axis.objective.name)} {number(axis.worst)}" for axis in axes)
    scaled = "; ".join(axis.told() for axis in axes)
    return (
        f"Hypervolume: the share of the box between best and worst feasible trial that the front dominates. "
        f"Reference point: {corner}. Normalisation: {scaled}. It compares trials of this run, not runs. "
        f"Training took {duration(seconds)} of CPU time in all."
    )
