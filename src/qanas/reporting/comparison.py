"""Runs beside each other: the fronts that they searched, what they shipped, and whether that is fair to compare."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qanas.core.errors import InputError, unknown
from qanas.core.measures import Cost, Measure, Metric, Score, measure_of
from qanas.core.pareto import hypervolume, non_dominated
from qanas.reporting.figures import ScaledAxis
from qanas.reporting.models import statistic
from qanas.reporting.protocol import Difference, differences
from qanas.reporting.run_data import RunData, finite, name_of, read_run
from qanas.reporting.wording import number, setting, title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.core.card import Card, Statistic
    from qanas.core.run_folder import RunFolder

_LEAST = 2  # runs
_KINDS = {"front_axes": "front's axes", "front_scores": "scores", "scores": "metrics", "costs": "costs"}
"""What a run can be asked for, and what it is called in messages."""

REFERENCE = 1.1
"""The reference point on every scaled axis: a little beyond the worst front point, so that the extremes of a front
count too (Ishibuchi et al., How to specify a reference point in hypervolume calculation, 2018)."""


@dataclass(frozen=True)
class Entry:
    """A point of a run's front.

    Attributes:
        name: of the model's folder, or the candidate's key.
        values: one for each measure.
        lines: what a reader sees when pointing at it.
    """

    name: str
    values: tuple[float, ...]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overlay:
    """Fronts on the same axes; everything else follows from them.

    Attributes:
        measures: on its axes.
        fronts: the points of each run, of which none dominates another; a run may have none.
    """

    measures: tuple[Measure, ...]
    fronts: tuple[tuple[Entry, ...], ...]

    @classmethod
    def of(cls, measures: Sequence[Measure], runs: Sequence[Sequence[Entry]]) -> Overlay:
        """Keep of each run the points that none of its own dominates, sorted by the measures."""
        fronts = []
        for entries in runs:
            kept = non_dominated(_losses(measures, entries)).tolist() if entries else []
            fronts.append(tuple(entries[position] for position in kept))
        return cls(tuple(measures), tuple(fronts))

    @cached_property
    def axes(self) -> tuple[ScaledAxis, ...]:
        """Each measure, scaled between its best and its worst value over all fronts together.

        Raises:
            ValueError: no front has a point.
        """
        points = [entry.values for front in self.fronts for entry in front]
        if not points:
            raise ValueError("no front has a point")
        columns = zip(*points, strict=True)
        return tuple(ScaledAxis.over(measure, column) for measure, column in zip(self.measures, columns, strict=True))

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
        """The reference point in the measures' own units."""
        return tuple(axis.unscaled(REFERENCE) for axis in self.axes)

    def told(self) -> str:
        """Return normalisation and reference point in words."""
        corner = ", ".join(
            f"{title(axis.measure.column)} {number(value)}"
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


def _losses(measures: Sequence[Measure], entries: Sequence[Entry]) -> NDArray[np.float64]:
    return np.array([[m.loss(value) for m, value in zip(measures, entry.values, strict=True)] for entry in entries])


def _dominated(point: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    return bool(np.any(np.all(others <= point, axis=1) & np.any(others < point, axis=1)))


@dataclass(frozen=True)
class Shipped:
    """A shipped model as compared.

    Attributes:
        name: of its folder.
        card: what is known of it.
        cost: of the network as it ships.
        val: the deployed score on validation data; it ranks.
        test: the deployed score on test data; shown only.
        joint: whether no model of any run is better in both validation score and cost.
    """

    name: str
    card: Card
    cost: float
    val: Statistic
    test: Statistic | None
    joint: bool


@dataclass(frozen=True)
class Comparison:
    """Several runs on the same axes.

    Attributes:
        labels: short and unique, one for each run.
        runs: what their files say.
        search: their fronts as searched, scored on validation data, each point trained once.
        deployed: what they shipped, by the mean deployed validation score over trainings; None where nothing was.
        chosen: whether the axes were named rather than the runs' own.
        differences: between recipes and protocols.
    """

    labels: tuple[str, ...]
    runs: tuple[RunData, ...]
    search: Overlay
    deployed: Overlay | None
    chosen: bool
    differences: tuple[Difference, ...]

    @property
    def unfair(self) -> list[str]:
        """Say why the runs can't be compared fairly; empty if they can."""
        return [difference.told(self.labels) for difference in self.differences if not difference.fair]

    @property
    def shipped_axes(self) -> tuple[str, str] | None:
        """The metric and the cost that shipped models are shown by; None where its axes are none or others."""
        if self.deployed is None:
            return None
        metrics = [axis.name for axis in self.deployed.measures if isinstance(axis, Metric)]
        costs = [axis.column for axis in self.deployed.measures if isinstance(axis, Cost)]
        return (metrics[0], (costs or ["weight_bytes"])[0]) if metrics else None

    def shipped(self, run: int) -> list[Shipped]:
        """Return a run's shipped models but for the reference, the cheapest first."""
        if self.deployed is None or self.shipped_axes is None:
            return []
        metric, cost = self.shipped_axes
        joint = {entry.name for entry in self.deployed.joint[run]}
        models = [
            Shipped(name, card, paid, val, statistic(card, "deployed", "test", metric), name in joint)
            for name, card in self.runs[run].shipped.items()
            if (val := statistic(card, "deployed", "val", metric)) is not None
            and (paid := card.costs_everywhere().get(cost)) is not None
        ]
        return sorted(models, key=lambda model: (model.cost, model.name))


def compare_runs(folders: Sequence[RunFolder], score: str | None = None, cost: str | None = None) -> Comparison:
    """Put runs on the same axes.

    Args:
        folders: of two or more runs.
        score: the metric's column, such as ``mae_quantized``; the runs' own axes if None.
        cost: the cost's column; the runs' own axes if None.

    Raises:
        InputError: fewer than two folders, one without a front, different axes, or an unknown column.
    """
    if len(folders) < _LEAST:
        raise InputError("compare: give the folders of two or more runs")
    runs = tuple(read_run(folder) for folder in folders)
    for data in runs:
        if not data.front:
            raise InputError(f"{data.folder.front}: no front yet; run the recipe until a trial is measured")
    axes = _axes(runs, score, cost) if score or cost else _own(runs, "front_axes")
    found = [_searched(data, axes) for data in runs]
    named = dict.fromkeys(_as_shipped(axis, runs) for axis in axes)
    as_shipped = tuple(axis for axis in named if axis is not None)
    shipped = [_deployed(data, as_shipped) for data in runs]
    return Comparison(
        labels=_labels(folders),
        runs=runs,
        search=Overlay.of(axes, found),
        deployed=Overlay.of(as_shipped, shipped) if as_shipped and any(shipped) else None,
        chosen=bool(score or cost),
        differences=differences(runs),
    )


# Axes


def _own(runs: Sequence[RunData], kind: str) -> tuple[Measure, ...]:
    """Return what all runs have, one of `_KINDS`.

    Raises:
        InputError: they differ.
    """
    first: tuple[Measure, ...] = getattr(runs[0], kind)
    for data in runs[1:]:
        found: tuple[Measure, ...] = getattr(data, kind)
        if set(found) != set(first):
            raise InputError(
                f"{data.folder.path}: its {_KINDS[kind]} are {_told(found)}, those of {runs[0].folder.path} are "
                f"{_told(first)}; {_way_out(runs)}"
            )
    return first


def _told(measures: Sequence[Measure]) -> str:
    return ", ".join(f"{measure.column} ({measure.direction})" for measure in measures) or "none"


def _way_out(runs: Sequence[RunData]) -> str:
    """Return what can be compared all the same."""
    if any(isinstance(measure_of(column), Metric | Score) for column in _columns(runs)):
        return "name two columns that all runs have with --score and --cost"
    return "their fronts have no score in common; compare what they shipped: finalists.csv of all"


def _axes(runs: Sequence[RunData], score: str | None, cost: str | None) -> tuple[Measure, ...]:
    """Return the named axes; of what is not named, the first that all runs have."""
    scores = [_score_axis(runs, score)] if score else [*_own(runs, "front_scores")[:1]]
    costs = [_cost_axis(runs, cost)] if cost else [*_own(runs, "costs")[:1]]
    return (*scores, *costs)


def _columns(runs: Sequence[RunData]) -> list[str]:
    """Return the columns in which every run's front has values."""
    held = [{name for row in data.front for name, value in row.items() if finite(value) is not None} for data in runs]
    return sorted(set.intersection(*held))


def _score_axis(runs: Sequence[RunData], column: str) -> Measure:
    axes = {axis.column: axis for data in runs for axis in data.front_scores}
    held = {name: axes.get(name) or measure_of(name) for name in _columns(runs)}
    known = {name: found for name, found in held.items() if isinstance(found, Metric | Score)}
    if column not in known:
        raise InputError(f"--score {column}: {unknown('score of all runs', column, list(known))}")
    measure = known[column]
    if isinstance(measure, Score):
        return measure
    directions = {metric.direction for data in runs for metric in data.scores if metric.name == measure.name}
    if len(directions) != 1:
        searched = sorted({metric.column for data in runs for metric in data.scores})
        raise InputError(
            f"--score {column}: no run has an objective about {measure.name}, so which way is better is not known; the "
            f"runs have {', '.join(searched) or 'none'}"
        )
    return replace(measure, better=directions.pop())


def _cost_axis(runs: Sequence[RunData], column: str) -> Cost:
    known = {name: cost for name in _columns(runs) if (cost := Cost.parse(name)) is not None}
    if column not in known:
        raise InputError(f"--cost {column}: {unknown('cost of all runs', column, list(known))}")
    return known[column]


def _as_shipped(measure: Measure, runs: Sequence[RunData]) -> Measure | None:
    """Return what an axis of the search is called on the cards of shipped models.

    Scores stand for the metric that the recipe asks for; None where it asks for none.
    """
    if isinstance(measure, Score):
        measure = next(iter(_own(runs, "scores")), measure)
    if isinstance(measure, Metric):
        return replace(measure, precision="deployed")
    return replace(measure, float_=False) if isinstance(measure, Cost) else None


# Points


def _searched(data: RunData, axes: Sequence[Measure]) -> list[Entry]:
    """Return the points of the run's own front, as they lie on the axes."""
    entries = []
    for row in data.front:
        values = [finite(row.get(axis.column)) for axis in axes]
        if None in values:
            raise InputError(f"{data.folder.front}: a row has no {', '.join(axis.column for axis in axes)}")
        told = [f"{title(axis.column)} {number(value)}" for axis, value in zip(axes, values, strict=True)]
        settings = [f"{key} {setting(value)}" for key, value in data.settings(row).items()]
        lines = (name_of(row), *told, *settings)
        entries.append(Entry(name_of(row), tuple(v for v in values if v is not None), lines))
    return entries


def _deployed(data: RunData, axes: Sequence[Measure]) -> list[Entry]:
    """Return the shipped models that the cards have all values of, by their means over trainings."""
    entries = []
    for name, card in data.shipped.items():
        values = [_on_card(card, axis) for axis in axes]
        if None not in values:
            entries.append(Entry(name, tuple(value for value in values if value is not None), (name,)))
    return entries


def _on_card(card: Card, measure: Measure) -> float | None:
    if isinstance(measure, Cost):
        return card.costs_everywhere().get(measure.column)
    found = statistic(card, "deployed", "val", measure.name)
    return None if found is None else finite(found.mean)


def _labels(folders: Sequence[RunFolder]) -> tuple[str, ...]:
    """Return the folders' names, or their paths where names repeat; the same folder twice is numbered."""
    names = [folder.path.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder.path) for folder in folders]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    )
