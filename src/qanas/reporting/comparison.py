"""Runs beside each other: the fronts that they searched, what they shipped, and whether that is fair to compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qanas.core.errors import InputError
from qanas.core.measurement import Objective
from qanas.core.suggestions import unknown
from qanas.reporting.differences import Difference, differences
from qanas.reporting.model_table import statistic
from qanas.reporting.overlay import Entry, Overlay
from qanas.reporting.run_data import RunData, finite, read_run
from qanas.reporting.wording import FLOAT_PREFIX, is_block_score, is_cost, metric_parts, number, setting, title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.core.card import Card, Statistic
    from qanas.core.run_folder import RunFolder

_LEAST = 2  # runs
_KINDS = {"front_axes": "objectives", "front_scores": "scores", "scores": "metrics", "costs": "costs"}
"""What a run can be asked for, and what it is called in messages."""


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
        """The metric and the cost that shipped models are shown by; None where the objectives are none or others."""
        if self.deployed is None:
            return None
        metrics = [parts[0] for o in self.deployed.objectives if (parts := metric_parts(o.name))]
        costs = [o.name for o in self.deployed.objectives if is_cost(o.name)]
        return (metrics[0], (costs or ["weight_bytes"])[0]) if metrics else None

    def shipped(self, run: int) -> list[Shipped]:
        """Return a run's shipped models but for the seed network, the cheapest first."""
        if self.deployed is None or self.shipped_axes is None:
            return []
        metric, cost = self.shipped_axes
        joint = {entry.name for entry in self.deployed.joint[run]}
        models = [
            Shipped(name, card, card.costs()[cost], val, statistic(card, "deployed", "test", metric), name in joint)
            for name, card in self.runs[run].shipped.items()
            if (val := statistic(card, "deployed", "val", metric)) is not None
        ]
        return sorted(models, key=lambda model: (model.cost, model.name))


def compare_runs(folders: Sequence[RunFolder], score: str | None = None, cost: str | None = None) -> Comparison:
    """Put runs on the same axes.

    Args:
        folders: of two or more runs.
        score: the metric's column, such as ``mae_quantized``; the runs' own objectives if None.
        cost: the cost's column; the runs' own objectives if None.

    Raises:
        InputError: fewer than two folders, one without a front, different objectives, or an unknown column.
    """
    if len(folders) < _LEAST:
        raise InputError("compare: give the folders of two or more runs")
    runs = tuple(read_run(folder) for folder in folders)
    for data in runs:
        if not data.front:
            raise InputError(f"{data.folder.front}: no front yet; run the recipe until a trial is measured")
    _require_one_kind(runs)
    objectives = _axes(runs, score, cost) if score or cost else _own(runs, "front_axes")
    found = [_searched(data, objectives) for data in runs]
    as_shipped = tuple(dict.fromkeys(_as_shipped(objective, runs) for objective in objectives))
    shipped = [_deployed(data, as_shipped) for data in runs]
    return Comparison(
        labels=_labels(folders),
        runs=runs,
        search=Overlay.of(objectives, found),
        deployed=Overlay.of(as_shipped, shipped) if any(shipped) else None,
        chosen=bool(score or cost),
        differences=differences(runs),
    )


# Axes


def _require_one_kind(runs: Sequence[RunData]) -> None:
    """Refuse fronts over tables of blocks beside fronts of trained candidates.

    Raises:
        InputError: names one of each.
    """
    kinds = {data.blockwise: data.folder.path for data in runs}
    if len(kinds) > 1:
        raise InputError(
            f"{kinds[True]}: its front is scored by noise over blocks, that of {kinds[False]} by trained candidates, "
            "which no axis has in common; compare what they shipped: finalists.csv of both"
        )


def _own(runs: Sequence[RunData], kind: str) -> tuple[Objective, ...]:
    """Return what all runs have, one of `_KINDS`.

    Raises:
        InputError: they differ.
    """
    first: tuple[Objective, ...] = getattr(runs[0], kind)
    for data in runs[1:]:
        found: tuple[Objective, ...] = getattr(data, kind)
        if set(found) != set(first):
            raise InputError(
                f"{data.folder.path}: its {_KINDS[kind]} are {_listed(found)}, those of {runs[0].folder.path} "
                f"are {_listed(first)}; name two columns that all runs have with --score and --cost"
            )
    return first


def _listed(objectives: Sequence[Objective]) -> str:
    return ", ".join(f"{objective.name} ({objective.direction})" for objective in objectives) or "none"


def _axes(runs: Sequence[RunData], score: str | None, cost: str | None) -> tuple[Objective, ...]:
    """Return the named axes; of what is not named, the first that all runs have."""
    scores = [_score_axis(runs, score)] if score else [*_own(runs, "front_scores")[:1]]
    costs = [Objective(_cost_axis(runs, cost))] if cost else [*_own(runs, "costs")[:1]]
    return (*scores, *costs)


def _columns(runs: Sequence[RunData]) -> list[str]:
    """Return the columns in which every run's front has values."""
    held = [{name for row in data.front for name, value in row.items() if finite(value) is not None} for data in runs]
    return sorted(set.intersection(*held))


def _score_axis(runs: Sequence[RunData], name: str) -> Objective:
    known = [column for column in _columns(runs) if metric_parts(column) or is_block_score(column)]
    if name in known and is_block_score(name):
        return Objective(name)
    parts = metric_parts(name)
    if name not in known or parts is None:
        raise InputError(f"--score {name}: {unknown('score of all runs', name, known)}")
    directions = {o.direction for data in runs for o in data.scores if (metric_parts(o.name) or ("",))[0] == parts[0]}
    if len(directions) != 1:
        searched = sorted({o.name for data in runs for o in data.scores})
        raise InputError(
            f"--score {name}: no run has an objective about {parts[0]}, so which way is better is not known; the runs "
            f"have {', '.join(searched) or 'none'}"
        )
    return Objective(name, directions.pop())


def _cost_axis(runs: Sequence[RunData], name: str) -> str:
    known = [column for column in _columns(runs) if is_cost(column)]
    if name not in known:
        raise InputError(f"--cost {name}: {unknown('cost of all runs', name, known)}")
    return name


def _as_shipped(objective: Objective, runs: Sequence[RunData]) -> Objective:
    """Return what an objective of the search is called on the cards of shipped models.

    Scores of blocks stand for the metric that the recipe asks for.
    """
    if is_block_score(objective.name):
        objective = _own(runs, "scores")[0]
    parts = metric_parts(objective.name)
    name = objective.name.removeprefix(FLOAT_PREFIX) if parts is None else f"{parts[0]}_deployed"
    return Objective(name, objective.direction)


# Points


def _searched(data: RunData, objectives: Sequence[Objective]) -> list[Entry]:
    """Return the points of the run's own front, as they lie on the axes."""
    entries = []
    for row in data.front:
        values = [finite(row.get(objective.name)) for objective in objectives]
        if None in values:
            raise InputError(f"{data.folder.front}: a row has no {', '.join(o.name for o in objectives)}")
        name = str(row.get("candidate") or row.get("key"))
        told = [f"{title(o.name)} {number(value)}" for o, value in zip(objectives, values, strict=True)]
        settings = [f"{key} {setting(value)}" for key, value in data.settings(row).items()]
        entries.append(Entry(name, tuple(v for v in values if v is not None), (name, *told, *settings)))
    return entries


def _deployed(data: RunData, objectives: Sequence[Objective]) -> list[Entry]:
    """Return the shipped models that the cards have all values of, by their means over trainings."""
    entries = []
    for name, card in data.shipped.items():
        values = [_on_card(card, objective.name) for objective in objectives]
        if None not in values:
            entries.append(Entry(name, tuple(value for value in values if value is not None), (name,)))
    return entries


def _on_card(card: Card, name: str) -> float | None:
    if is_cost(name):
        return card.costs().get(name)
    found = statistic(card, "deployed", "val", (metric_parts(name) or (name,))[0])
    return None if found is None else found.mean


def _labels(folders: Sequence[RunFolder]) -> tuple[str, ...]:
    """Return the folders' names, or their paths where names repeat; the same folder twice is numbered."""
    names = [folder.path.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder.path) for folder in folders]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    )
