"""Fronts of several runs on the same axes, and their hypervolumes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qanas.core.measurement import Objective
from qanas.core.pareto import hypervolume, non_dominated
from qanas.reporting.scaling import ScaledAxis
from qanas.reporting.wording import number, title

if TYPE_CHECKING:
    from collections.abc import Sequence

REFERENCE = 1.1
"""The reference point in every scaled objective: a little beyond the worst front point, so that the extremes of a front
count too (Ishibuchi et al., How to specify a reference point in hypervolume calculation, 2018)."""


@dataclass(frozen=True)
class Entry:
    """A point of a run's front.

    Attributes:
        name: of the model's folder, or the candidate's key.
        values: one for each objective.
        lines: what a reader sees when pointing at it.
    """

    name: str
    values: tuple[float, ...]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overlay:
    """Fronts on the same axes; everything else follows from them.

    Attributes:
        objectives: the axes.
        fronts: the points of each run, of which none dominates another; a run may have none.
    """

    objectives: tuple[Objective, ...]
    fronts: tuple[tuple[Entry, ...], ...]

    @classmethod
    def of(cls, objectives: Sequence[Objective], runs: Sequence[Sequence[Entry]]) -> Overlay:
        """Keep of each run the points that none of its own dominates, sorted by the objectives."""
        fronts = []
        for entries in runs:
            kept = non_dominated(_losses(objectives, entries)).tolist() if entries else []
            fronts.append(tuple(entries[position] for position in kept))
        return cls(tuple(objectives), tuple(fronts))

    @cached_property
    def axes(self) -> tuple[ScaledAxis, ...]:
        """Each objective, scaled between its best and its worst value over all fronts together.

        Raises:
            ValueError: no front has a point.
        """
        points = [entry.values for front in self.fronts for entry in front]
        if not points:
            raise ValueError("no front has a point")
        columns = zip(*points, strict=True)
        return tuple(
            ScaledAxis.over(objective, column) for objective, column in zip(self.objectives, columns, strict=True)
        )

    @cached_property
    def volumes(self) -> tuple[float, ...]:
        """The hypervolume of each front: its share of the box between the best corner and the reference point.

        The same points and the same other runs give the same number; with another run beside them the axes change.
        """
        corner = [REFERENCE] * len(self.axes)
        return tuple(hypervolume(self._scaled(front), corner) / REFERENCE ** len(corner) for front in self.fronts)

    @cached_property
    def joint(self) -> tuple[tuple[Entry, ...], ...]:
        """The points of each front that no point of another one dominates: the fronts' share of their joint front."""
        everything = np.concatenate([self._scaled(front) for front in self.fronts])
        return tuple(
            tuple(
                entry
                for entry, point in zip(front, self._scaled(front), strict=True)
                if not _dominated(point, everything)
            )
            for front in self.fronts
        )

    @property
    def reference(self) -> tuple[float, ...]:
        """The reference point in the objectives' own units."""
        return tuple(axis.unscaled(REFERENCE) for axis in self.axes)

    def told(self) -> str:
        """Return normalisation and reference point in words."""
        corner = ", ".join(
            f"{title(axis.objective.name)} {number(value)}"
            for axis, value in zip(self.axes, self.reference, strict=True)
        )
        return (
            f"Hypervolume: the share of the box between the best corner and the reference point that a front "
            f"dominates. Each objective is scaled over all compared fronts together: "
            f"{'; '.join(axis.told() for axis in self.axes)}. Reference point: {REFERENCE} on every scaled axis "
            f"({corner})."
        )

    def _scaled(self, front: Sequence[Entry]) -> NDArray[np.float64]:
        rows = [[axis.scaled(value) for axis, value in zip(self.axes, e.values, strict=True)] for e in front]
        return np.array(rows, dtype=np.float64).reshape(len(front), len(self.axes))


def _losses(objectives: Sequence[Objective], entries: Sequence[Entry]) -> NDArray[np.float64]:
    return np.array([[o.loss(value) for o, value in zip(objectives, entry.values, strict=True)] for entry in entries])


def _dominated(point: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    return bool(np.any(np.all(others <= point, axis=1) & np.any(others < point, axis=1)))
