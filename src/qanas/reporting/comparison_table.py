"""A comparison as tables: one row a run, one row a shipped model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from qanas.reporting.block_effort import FINALISTS, stages
from qanas.reporting.block_tables import networks_of
from qanas.reporting.wording import (
    EMPTY,
    decimals,
    duration,
    is_cost,
    magnitude,
    metric_parts,
    number,
    title,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from qanas.core.card import Statistic
    from qanas.reporting.comparison import Comparison
    from qanas.reporting.overlay import Overlay
    from qanas.reporting.run_data import RunData

_PLACES = 4  # of a hypervolume


@dataclass(frozen=True)
class ModelRow:
    """A shipped model in words.

    Attributes:
        run: position of its run.
        name: of its folder.
        cost: with thousands apart.
        val: mean and deviation of the score on validation data.
        test: the same on test data.
        joint: whether it is on the joint front.
    """

    run: int
    name: str
    cost: str
    val: str
    test: str
    joint: bool


def run_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the columns' titles, and a row of cells for each run."""
    objectives = comparison.search.objectives
    best = [("smallest " if is_cost(o.name) else "best ") + title(o.name) for o in objectives]
    titles = ["strategy", "space", *_searched(comparison.runs[0]), "front points", "on the joint front"]
    titles += ["hypervolume", *best, "models shipped", "hypervolume, deployed"]
    rows = []
    for place, data in enumerate(comparison.runs):
        front = comparison.search.fronts[place]
        columns = zip(*(entry.values for entry in front), strict=True)
        extremes = [number(min(c, key=o.loss)) for o, c in zip(objectives, columns, strict=True)]
        strategy = str(data.recipe_table("strategy").get("name", EMPTY))
        cells = [strategy, data.space or EMPTY, *_searched(data).values()]
        cells += [str(len(front)), str(len(comparison.search.joint[place])), _volume(comparison.search, place)]
        rows.append([*cells, *extremes, str(len(data.shipped)), _volume(comparison.deployed, place)])
    return titles, rows


def model_rows(comparison: Comparison) -> tuple[list[str], list[ModelRow]]:
    """Return the titles of cost, validation and test score, and a row for each shipped model."""
    if comparison.shipped_axes is None:
        return [], []
    metric, cost = comparison.shipped_axes
    rows = [
        ModelRow(place, model.name, number(model.cost), _scored(model.val), _scored(model.test), model.joint)
        for place in range(len(comparison.runs))
        for model in comparison.shipped(place)
    ]
    return [title(cost), f"{words(metric)}, validation", f"{words(metric)}, test"], rows


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print one row a run, how its numbers came about, and why the runs can't be compared fairly."""
    titles, rows = run_rows(comparison)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for label in comparison.labels:
        table.add_column(Text(label), justify="right", overflow="fold")
    for place, named in enumerate(titles):
        table.add_row(Text(named), *(Text(cells[place]) for cells in rows))
    console.print(table)
    console.print(Text(comparison.search.told()))
    if comparison.deployed is not None:
        metrics = [words(parts[0]) for o in comparison.deployed.objectives if (parts := metric_parts(o.name))]
        ranked = f"mean validation {' and '.join(metrics)} of the shipped models" if metrics else "the shipped models"
        console.print(Text(f"Deployed: {ranked}. {comparison.deployed.told()}"))
    for reason in comparison.unfair:
        console.print(Text(f"not a fair comparison: {reason}", style="bold"), soft_wrap=True)


def _searched(data: RunData) -> dict[str, str]:
    """Return how much was looked at, and what that took; all compared runs are of one kind."""
    if data.blockwise:
        networks = magnitude(networks_of(data.blocks)) if data.blocks else EMPTY
        spent = [stage.cpu_seconds for stage in stages(data) if stage.name != FINALISTS]
        return {"networks in the tables": networks, "CPU up to the front": _cpu([s for s in spent if s is not None])}
    seconds = data.summary.get("train_cpu_seconds")
    measured = number(data.outcomes.get("measured", 0))
    return {"trials measured": measured, "CPU in training": _cpu([] if seconds is None else [float(seconds)])}


def _cpu(seconds: Sequence[float]) -> str:
    return duration(sum(seconds)) if seconds else EMPTY


def _volume(overlay: Overlay | None, place: int) -> str:
    """A run without a point has no hypervolume, rather than one of 0."""
    return EMPTY if overlay is None or not overlay.fronts[place] else f"{overlay.volumes[place]:.{_PLACES}f}"


def _scored(found: Statistic | None) -> str:
    if found is None:
        return EMPTY
    places = decimals(found.mean)
    return f"{number(found.mean, places)} ± {number(found.std, places)} ({found.n})"
