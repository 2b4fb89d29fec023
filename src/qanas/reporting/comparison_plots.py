"""The plots of a comparison: fronts as searched, and models as shipped."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from qanas.core.measurement import Objective
from qanas.core.pareto import non_dominated
from qanas.reporting.figures import Choice, Figure, Spec, cost_first, hover, value_axis
from qanas.reporting.model_table import SPLITS
from qanas.reporting.wording import count, number, title, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.core.card import Statistic
    from qanas.reporting.comparison import Comparison, Shipped
    from qanas.reporting.overlay import Overlay

COLOURS = ("@runa", "@runb", "@runc", "@rund", "@rune", "@runf")
"""Names of the page's colours; the next six runs have them again, with other markers."""

_MARKERS = ("circle", "diamond", "square", "triangle-up", "cross", "x")
_LEGEND: Spec = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
_HOVER = "%{text}<extra></extra>"


def run_colour(place: int) -> str:
    """Return the name of a run's colour."""
    return COLOURS[place % len(COLOURS)]


def search_plot(comparison: Comparison) -> Figure:
    """Draw the fronts of all runs, in every pair of objectives."""
    overlay = comparison.search
    only = overlay.objectives[0]
    pairs = [cost_first(a, b) for a, b in combinations(overlay.objectives, 2)] or [(only, only)]
    views = [_view(overlay, x, y) for x, y in pairs]
    traces: list[Spec] = []
    for place, label in enumerate(comparison.labels):
        line: Spec = {"type": "scatter", "legendgroup": label, "mode": "lines", "hoverinfo": "skip"}
        traces.append(line | {"showlegend": False, "line": {"shape": "hv", "width": 2, "color": run_colour(place)}})
        named = f"{label} ({count(len(overlay.fronts[place]), 'front point')})"
        dots: Spec = {"type": "scatter", "legendgroup": label, "mode": "markers", "name": named}
        texts = [hover((f"{label}: {entry.lines[0]}", *entry.lines[1:])) for entry in overlay.fronts[place]]
        traces.append(dots | {"text": texts, "hovertemplate": _HOVER, "marker": _marker(place)})
    choices = [
        Choice(f"{title(y.name)} against {title(x.name)}", *view) for (x, y), view in zip(pairs, views, strict=True)
    ]
    return Figure(
        "search",
        [trace | views[0][0][place] for place, trace in enumerate(traces)],
        views[0][1] | {"legend": _LEGEND},
        _search_caption(comparison),
        "Axes" if len(pairs) > 1 else "",
        choices if len(pairs) > 1 else (),
        height=480,
    )


def _marker(place: int) -> Spec:
    return {"size": 9, "color": run_colour(place), "symbol": _MARKERS[place // len(COLOURS) % len(_MARKERS)]}


def _view(overlay: Overlay, x: Objective, y: Objective) -> tuple[dict[int, Spec], Spec]:
    """Return the places of all points for two objectives, and the axes."""
    columns = [overlay.objectives.index(x), overlay.objectives.index(y)]
    traces: dict[int, Spec] = {}
    places: list[float] = []
    for run, front in enumerate(overlay.fronts):
        points = np.array([[entry.values[column] for column in columns] for entry in front]).reshape(-1, 2)
        best = points[non_dominated(points * [x.loss(1.0), y.loss(1.0)])] if len(points) else points
        traces[2 * run] = {"x": best[:, 0].tolist(), "y": best[:, 1].tolist()}
        traces[2 * run + 1] = {"x": points[:, 0].tolist(), "y": points[:, 1].tolist()}
        places += points[:, 0].tolist()
    return traces, {"xaxis": value_axis(x.name, places), "yaxis": {"title": {"text": title(y.name)}}}


def _search_caption(comparison: Comparison) -> str:
    own = (
        "A run's points are those of its own front, chosen by its own objectives, as they lie on these axes; the "
        "ones that its others dominate here are left out. "
        if comparison.chosen
        else ""
    )
    if comparison.runs[0].blockwise:
        scored = (
            "Scores are sums over blocks that were distilled apart, relative to what each run's own teacher puts out: "
            "they compare across teachers only roughly."
        )
    else:
        scored = "Scores are of the validation data, each point trained once."
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
        traces.append(_scored(values, place, label, metric) | {"name": f"{label}, validation", "legendgroup": label})
        tested = [(model, model.test) for model in models if model.test is not None]
        open_marker = _marker(place) | {"symbol": f"{_marker(place)['symbol']}-open", "size": 8}
        changes = {"name": f"{label}, test", "legendgroup": label, "marker": open_marker, "opacity": 0.75}
        traces.append(_scored(tested, place, label, metric) | changes)
    layout = {
        "xaxis": value_axis(cost, costs),
        "yaxis": {"title": {"text": f"{words(metric)} (deployed)"}},
        "legend": _LEGEND,
    }
    caption = (
        "Each model as it ships, measured in the runtime that will run it: mean and one standard deviation over its "
        "trainings. Filled: validation data, which the hypervolumes are of. Open: test data, shown but not ranked "
        f"by. Seed networks are left out. {comparison.deployed.told()}"
    )
    return Figure("shipped", traces, layout, caption, height=480)


def _scored(values: Sequence[tuple[Shipped, Statistic]], place: int, label: str, metric: str) -> Spec:
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
        "hovertemplate": _HOVER,
        "marker": _marker(place),
    }
