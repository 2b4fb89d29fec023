"""A comparison on the terminal, as compare.html and as compare.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from qanas.core.json_values import json_value
from qanas.core.measures import Cost, Goal, Measure, Metric, Score
from qanas.core.pareto import non_dominated
from qanas.core.run_folder import write_atomically
from qanas.reporting.blocks import FINALISTS, stages
from qanas.reporting.figures import HOVER, LEGEND, Choice, Figure, Spec, cost_first, hover, render_page, value_axis
from qanas.reporting.run_data import RunData, networks_of
from qanas.reporting.wording import EMPTY, SPLITS, count, decimals, duration, magnitude, number, title, words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from qanas.core.card import Statistic
    from qanas.reporting.comparison import Comparison, Overlay, Shipped

SCHEMA_VERSION = 1

COLOURS = ("@runa", "@runb", "@runc", "@rund", "@rune", "@runf")
"""Names of the page's colours; the next six runs have them again, with other markers."""

_MARKERS = ("circle", "diamond", "square", "triangle-up", "cross", "x")
_TEMPLATE = "comparison.html.jinja"
_SUFFIX = ".html"
_PLACES = 4  # of a hypervolume

_TRIALS, _TRAINED, _NETWORKS, _STAGES = _SEARCHED = (
    "trials measured",
    "CPU in training",
    "networks in the tables",
    "CPU up to the front",
)
"""How much was looked at, and what that took."""


def write_comparison(comparison: Comparison, out: Path) -> tuple[Path, Path]:
    """Write the page, and its numbers beside it as JSON.

    Args:
        comparison: what is told.
        out: the page if its name ends in ``.html``, else the folder for ``compare.html``.

    Returns:
        The paths of both files.
    """
    page = out if out.suffix == _SUFFIX else out / "compare.html"
    numbers = page.with_suffix(".json")
    write_atomically(page, render_comparison(comparison).encode("utf-8", "replace"))
    write_atomically(numbers, (json.dumps(comparison_json(comparison), indent=2, allow_nan=False) + "\n").encode())
    return page, numbers


def render_comparison(comparison: Comparison) -> str:
    """Return the page."""
    search, shipped = search_plot(comparison), shipped_plot(comparison)
    return render_page(
        _TEMPLATE,
        [search, shipped],
        heading=" · ".join(comparison.labels),
        axes=" and ".join(title(axis.column) for axis in comparison.search.measures),
        labels=comparison.labels,
        colours=[run_colour(place)[1:] for place in range(len(comparison.labels))],
        paths=[str(data.folder.path) for data in comparison.runs],
        unfair=comparison.unfair,
        runs=run_rows(comparison),
        search=search,
        shipped=shipped,
        models=model_rows(comparison),
        differences=comparison.differences,
    )


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return all that the page tells as plain values, null where none is; ``docs/analysis.md`` lists the keys."""
    runs = []
    for place, (label, data) in enumerate(zip(comparison.labels, comparison.runs, strict=True)):
        runs.append(
            {
                "label": label,
                "folder": str(data.folder.path),
                "objectives": {objective.column: objective.direction for objective in data.objectives},
                "search": _front(comparison.search, place),
                "deployed": _front(comparison.deployed, place),
                "models": [_model(model) for model in comparison.shipped(place)],
            }
        )
    told = {
        "schema_version": SCHEMA_VERSION,
        "fair": not comparison.unfair,
        "unfair": comparison.unfair,
        "search": _axes(comparison.search),
        "deployed": None if comparison.deployed is None else _axes(comparison.deployed),
        "runs": runs,
        "differences": {
            difference.key: dict(zip(comparison.labels, difference.values, strict=True))
            for difference in comparison.differences
        },
    }
    plain: dict[str, Any] = json_value(told)
    return plain


def _axes(overlay: Overlay) -> list[dict[str, Any]]:
    """Return the normalisation and the reference point."""
    return [
        {
            "objective": axis.measure.column,
            "direction": axis.measure.direction,
            "best": axis.best,
            "worst": axis.worst,
            "scale": "log10" if axis.log else "linear",
            "reference": reference,
        }
        for axis, reference in zip(overlay.axes, overlay.reference, strict=True)
    ]


def _front(overlay: Overlay | None, place: int) -> dict[str, Any] | None:
    """Return a run's front; None where it has no point."""
    if overlay is None or not overlay.fronts[place]:
        return None
    names = [measure.column for measure in overlay.measures]
    points = [{"name": entry.name, **dict(zip(names, entry.values, strict=True))} for entry in overlay.fronts[place]]
    return {
        "hypervolume": overlay.volumes[place],
        "on_joint_front": [entry.name for entry in overlay.joint[place]],
        "front": points,
    }


def _model(model: Shipped) -> dict[str, Any]:
    return {
        "name": model.name,
        "cost": model.cost,
        "val": _statistic(model.val),
        "test": None if model.test is None else _statistic(model.test),
        "on_joint_front": model.joint,
    }


def _statistic(found: Statistic) -> dict[str, float]:
    return {"mean": found.mean, "std": found.std, "n": found.n}


# Plots


def run_colour(place: int) -> str:
    """Return the name of a run's colour."""
    return COLOURS[place % len(COLOURS)]


def search_plot(comparison: Comparison) -> Figure:
    """Draw the fronts of all runs, in every pair of axes."""
    overlay = comparison.search
    only = overlay.measures[0]
    pairs = [cost_first(a, b) for a, b in combinations(overlay.measures, 2)] or [(only, only)]
    views = [_view(overlay, x, y) for x, y in pairs]
    traces: list[Spec] = []
    for place, label in enumerate(comparison.labels):
        line: Spec = {"type": "scatter", "legendgroup": label, "mode": "lines", "hoverinfo": "skip"}
        traces.append(line | {"showlegend": False, "line": {"shape": "hv", "width": 2, "color": run_colour(place)}})
        named = hover([f"{label} ({count(len(overlay.fronts[place]), 'front point')})"])
        dots: Spec = {"type": "scatter", "legendgroup": label, "mode": "markers", "name": named}
        texts = [hover((f"{label}: {entry.lines[0]}", *entry.lines[1:])) for entry in overlay.fronts[place]]
        traces.append(dots | {"text": texts, "hovertemplate": HOVER, "marker": _marker(place)})
    choices = [
        Choice(f"{title(y.column)} against {title(x.column)}", *view) for (x, y), view in zip(pairs, views, strict=True)
    ]
    return Figure(
        "search",
        [trace | views[0][0][place] for place, trace in enumerate(traces)],
        views[0][1] | {"legend": LEGEND},
        _search_caption(comparison),
        "Axes" if len(pairs) > 1 else "",
        choices if len(pairs) > 1 else (),
        height=480,
    )


def _marker(place: int) -> Spec:
    return {"size": 9, "color": run_colour(place), "symbol": _MARKERS[place // len(COLOURS) % len(_MARKERS)]}


def _view(overlay: Overlay, x: Measure, y: Measure) -> tuple[dict[int, Spec], Spec]:
    """Return the places of all points on two axes, and the axes."""
    columns = [overlay.measures.index(x), overlay.measures.index(y)]
    traces: dict[int, Spec] = {}
    places: list[float] = []
    for run, front in enumerate(overlay.fronts):
        points = np.array([[entry.values[column] for column in columns] for entry in front]).reshape(-1, 2)
        best = points[non_dominated(points * [x.loss(1.0), y.loss(1.0)])] if len(points) else points
        traces[2 * run] = {"x": best[:, 0].tolist(), "y": best[:, 1].tolist()}
        traces[2 * run + 1] = {"x": points[:, 0].tolist(), "y": points[:, 1].tolist()}
        places += points[:, 0].tolist()
    return traces, {"xaxis": value_axis(x.column, places), "yaxis": {"title": {"text": title(y.column)}}}


def _search_caption(comparison: Comparison) -> str:
    own = (
        "A run's points are those of its own front, chosen by its own objectives, as they lie on these axes; the "
        "ones that its others dominate here are left out. "
        if comparison.chosen
        else ""
    )
    if not any(isinstance(axis, Score) for axis in comparison.search.measures):
        scored = "Scores are of the validation data, each point trained once."
    elif all(data.blocks for data in comparison.runs):
        scored = (
            "Scores are sums over blocks that were distilled apart, relative to what each run's own reference puts "
            "out: they compare across references only roughly."
        )
    else:
        scored = "Scores stand for a metric that no point was trained for."
    return f"{own}{scored} {comparison.search.told()}"


def shipped_plot(comparison: Comparison) -> Figure | None:
    """Draw the shipped models of all runs: validation means that rank, test means that are shown; None without."""
    if comparison.deployed is None or comparison.shipped_axes is None:
        return None
    metric, cost = comparison.shipped_axes
    traces: list[Spec] = []
    costs: list[float] = []
    for place, label in enumerate(comparison.labels):
        models = comparison.shipped(place)
        costs += [model.cost for model in models]
        values = [(model, model.val) for model in models]
        traces.append(
            _marks(values, place, label, metric) | {"name": hover([f"{label}, validation"]), "legendgroup": label}
        )
        tested = [(model, model.test) for model in models if model.test is not None]
        open_marker = _marker(place) | {"symbol": f"{_marker(place)['symbol']}-open", "size": 8}
        changes = {"name": hover([f"{label}, test"]), "legendgroup": label, "marker": open_marker, "opacity": 0.75}
        traces.append(_marks(tested, place, label, metric) | changes)
    layout = {
        "xaxis": value_axis(cost, costs),
        "yaxis": {"title": {"text": f"{words(metric)} (deployed)"}},
        "legend": LEGEND,
    }
    caption = (
        "Each model as it ships, measured in the runtime that will run it: mean and one standard deviation over its "
        "trainings. Filled: validation data, which the hypervolumes are of. Open: test data, shown but not ranked "
        f"by. References are left out. {comparison.deployed.told()}"
    )
    return Figure("shipped", traces, layout, caption, height=480)


def _marks(values: Sequence[tuple[Shipped, Statistic]], place: int, label: str, metric: str) -> Spec:
    """Return the marks of models with error bars."""
    texts = []
    for model, score in values:
        split = SPLITS["val"] if score is model.val else SPLITS["test"]
        scored = f"{words(metric)}, {split} {number(score.mean)} ± {number(score.std)} ({count(score.n, 'training')})"
        texts.append(hover((f"{label}: {model.name}", scored, f"cost {number(model.cost)}")))
    error = {"type": "data", "array": [score.std for _, score in values], "thickness": 1.2, "width": 3}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [model.cost for model, _ in values],
        "y": [score.mean for _, score in values],
        "error_y": error | {"color": run_colour(place)},
        "text": texts,
        "hovertemplate": HOVER,
        "marker": _marker(place),
    }


# Tables


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
    measures = comparison.search.measures
    best = [("smallest " if isinstance(m, Cost) else "best ") + title(m.column) for m in measures]
    searched = [_searched(data) for data in comparison.runs]
    known = [name for name in _SEARCHED if any(name in found for found in searched)]
    titles = ["strategy", "space", *known, "front points", "on the joint front"]
    goals = _shared_goals(comparison)
    reached = [f"smallest that reaches {' and '.join(goal.told() for goal in goals)}"] if goals else []
    titles += ["hypervolume", *best, "models shipped", *reached, "hypervolume, deployed"]
    rows = []
    for place, data in enumerate(comparison.runs):
        front = comparison.search.fronts[place]
        columns = zip(*(entry.values for entry in front), strict=True)
        extremes = [number(min(c, key=m.loss)) for m, c in zip(measures, columns, strict=True)]
        cells = [data.strategy or EMPTY, data.space or EMPTY, *(searched[place].get(name, EMPTY) for name in known)]
        cells += [str(len(front)), str(len(comparison.search.joint[place])), _volume(comparison.search, place)]
        answer = [_smallest_reaching(data, goals, comparison)] if goals else []
        rows.append([*cells, *extremes, str(len(data.shipped)), *answer, _volume(comparison.deployed, place)])
    return titles, rows


def _shared_goals(comparison: Comparison) -> tuple[Goal, ...]:
    """Return the goals of the first run that has some; those of others are told among the differences."""
    return next((data.goals for data in comparison.runs if data.goals), ())


def _smallest_reaching(data: RunData, goals: Sequence[Goal], comparison: Comparison) -> str:
    """Return the smallest successful model of a run that reaches some goals, with its cost."""
    cost = comparison.shipped_axes[1] if comparison.shipped_axes is not None else "file_bytes"
    reaching = {name: card for name, card in data.cards.items() if not card.degenerate and card.reaches(goals)}
    costs = {name: card.costs_everywhere() for name, card in reaching.items()}
    found = {name: known[cost] for name, known in costs.items() if cost in known}
    name = min(found, key=lambda name: (found[name], name), default=None)
    return "none" if name is None else f"{name}: {number(found[name])}"


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
        metrics = [words(axis.name) for axis in comparison.deployed.measures if isinstance(axis, Metric)]
        ranked = f"mean validation {' and '.join(metrics)} of the shipped models" if metrics else "the shipped models"
        console.print(Text(f"Deployed: {ranked}. {comparison.deployed.told()}"))
    for reason in comparison.unfair:
        console.print(Text(f"not a fair comparison: {reason}", style="bold"), soft_wrap=True)


def _searched(data: RunData) -> dict[str, str]:
    """Return how much was looked at, and what that took, as far as the run tells: of `_SEARCHED`."""
    found: dict[str, str] = {}
    if data.outcomes:
        found[_TRIALS] = number(data.outcomes.get("measured", 0))
    if data.summary.get("train_cpu_seconds"):
        found[_TRAINED] = duration(float(data.summary["train_cpu_seconds"]))
    if data.blocks:
        found[_NETWORKS] = magnitude(networks_of(data.blocks))
    spent = [stage.cpu_seconds for stage in stages(data) if stage.name != FINALISTS and stage.cpu_seconds is not None]
    if spent:
        found[_STAGES] = duration(sum(spent))
    return found


def _volume(overlay: Overlay | None, place: int) -> str:
    """A run without a point has no hypervolume, rather than one of 0."""
    return EMPTY if overlay is None or not overlay.fronts[place] else f"{overlay.volumes[place]:.{_PLACES}f}"


def _scored(found: Statistic | None) -> str:
    if found is None:
        return EMPTY
    places = decimals(found.mean)
    spread = f" ± {number(found.std, places)}" if found.n > 1 else ""
    return f"{number(found.mean, places)}{spread} ({found.n})"
