"""The plot of the Pareto front: score against cost."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from qanas.core.measurement import Objective
from qanas.core.pareto import non_dominated
from qanas.reporting.figures import ACCENT, MUTED, SECOND, SEED, Choice, Figure, Spec, cost_first, hover, value_axis
from qanas.reporting.run_data import Row, RunData, finite
from qanas.reporting.wording import COSTS, count, number, setting, title

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_HOVERS = 1000
_WORST_SHOWN = 0.95
_MARGIN = 0.05
_TWO = 2
_HOVER = "%{text}<extra></extra>"


@dataclass(frozen=True)
class _Points:
    """Rows that have a value on both axes."""

    rows: list[Row]
    x: list[float]
    y: list[float]

    @classmethod
    def of(cls, rows: Sequence[Row], x: str, y: str) -> _Points:
        kept = [(row, finite(row.get(x)), finite(row.get(y))) for row in rows]
        full = [(row, a, b) for row, a, b in kept if a is not None and b is not None]
        return cls([row for row, _, _ in full], [a for _, a, _ in full], [b for _, _, b in full])


@dataclass(frozen=True)
class _Finalists:
    """Retrained finalists: mean and deviation of a score over trainings."""

    x: list[float]
    y: list[float]
    deviations: list[float]
    texts: list[str]


def front_plot(data: RunData) -> Figure | None:
    """Draw trials, front, seed network and retrained finalists; None without measured points."""
    rows = data.measured or data.front
    pairs = _pairs(data, rows)
    if not pairs:
        return None
    views = [_view(data, rows, x, y) for x, y in pairs]
    choices = [
        Choice(f"{title(y.name)} against {title(x.name)}", traces, layout)
        for (x, y), (traces, layout) in zip(pairs, views, strict=True)
    ]
    drawn = [style | changes for style, changes in zip(_styles(data, rows), views[0][0].values(), strict=True)]
    return Figure(
        "front",
        drawn,
        views[0][1] | {"legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}},
        _caption(data, rows, pairs[0][1], views[0][0], views[0][1]["yaxis"]),
        "Axes" if len(pairs) > 1 else "",
        choices if len(pairs) > 1 else (),
        height=520,
    )


def _pairs(data: RunData, rows: Sequence[Row]) -> list[tuple[Objective, Objective]]:
    """Return the axes to offer: score against cost, then all pairs, then costs that were not searched."""
    if not rows or not data.objectives:
        return []
    others = [
        Objective(name)
        for prefix in ("", "float_")
        for name in (prefix + cost for cost in COSTS)
        if name not in {objective.name for objective in data.costs}
        and any(finite(row.get(name)) is not None for row in rows)
    ]
    score = (data.scores or data.objectives)[0]
    costs = [*data.costs, *others]
    pairs = [(cost, score) for cost in costs[:1] if cost != score]
    pairs += [cost_first(a, b) for a, b in combinations(data.objectives, 2)]
    pairs += [(cost, score) for cost in others if cost != score]
    return list(dict.fromkeys(pairs))


def _view(data: RunData, rows: Sequence[Row], x: Objective, y: Objective) -> tuple[dict[int, Spec], Spec]:
    """Return what depends on the pair of axes: the five traces' points, and the axes."""
    dots = _Points.of([row for row in rows if not row.get("seed_network")], x.name, y.name)
    feasible = _Points.of([row for row in rows if row.get("feasible") is not False], x.name, y.name)
    line_x, line_y = _envelope(feasible, x, y)
    front = _Points.of(data.front, x.name, y.name)
    seed = _Points.of([row for row in rows if row.get("seed_network")], x.name, y.name)
    finalists = _finalists(data, x, y)
    error = {"type": "data", "array": finalists.deviations, "thickness": 1.5, "width": 4, "color": SECOND}
    traces: dict[int, Spec] = {
        0: {"x": dots.x, "y": dots.y},
        1: {"x": line_x, "y": line_y},
        2: {"x": front.x, "y": front.y},
        3: {"x": seed.x, "y": seed.y},
        4: {"x": finalists.x, "y": finalists.y, "error_y": error, "text": finalists.texts},
    }
    for place, points in ((0, dots), (2, front), (3, seed)):
        names = [objective.name for objective in data.objectives]
        traces[place]["text"] = _texts(data, points.rows, list(dict.fromkeys([*names, x.name])))
    shown = [*front.y, *seed.y, *finalists.y, *line_y]
    layout = {"xaxis": value_axis(x.name, dots.x + front.x + seed.x), "yaxis": _score_axis(y, dots.y, shown)}
    return traces, layout


def _styles(data: RunData, rows: Sequence[Row]) -> list[Spec]:
    """Return how the five traces look."""
    exact = len(data.objectives) == _TWO
    line = "Pareto front" if exact else "best of these two axes"
    base: Spec = {"type": "scatter", "mode": "markers", "hovertemplate": _HOVER}
    dots = f"trials ({sum(not row.get('seed_network') for row in rows):,})"
    return [
        base | {"name": dots, "marker": {"size": 6, "color": MUTED, "opacity": 0.45}},
        base
        | {
            "name": line,
            "mode": "lines",
            "line": {"shape": "hv", "width": 2, "color": ACCENT},
            "hoverinfo": "skip",
        }
        | {"hovertemplate": None, "showlegend": True},
        base | {"name": f"front points ({len(data.front)})", "marker": {"size": 9, "color": ACCENT}},
        base | {"name": "seed network", "marker": {"size": 16, "symbol": "star", "color": SEED}},
        base
        | {"name": "finalists retrained, mean ± sd"}
        | {"marker": {"size": 10, "symbol": "diamond-open", "color": SECOND, "line": {"width": 2}}},
    ]


def _envelope(points: _Points, x: Objective, y: Objective) -> tuple[list[float], list[float]]:
    """Return the points that are best in these two axes, in the order of the stepped line."""
    if not points.rows:
        return [], []
    losses = np.array([[x.loss(a), y.loss(b)] for a, b in zip(points.x, points.y, strict=True)])
    best = non_dominated(losses)
    return [points.x[i] for i in best], [points.y[i] for i in best]


def _finalists(data: RunData, x: Objective, y: Objective) -> _Finalists:
    """Return the finalists' validation means; costs of the FP32 network come from the front's row."""
    searched = {row.get("key"): row for row in data.front}
    found = _Finalists([], [], [], [])
    for row in data.finalists:
        place = finite(row.get(x.name)) or finite(searched.get(row.get("key"), {}).get(x.name))
        mean = finite(row.get(f"{y.name}_val_mean"))
        if place is None or mean is None:
            continue
        deviation = finite(row.get(f"{y.name}_val_std")) or 0.0
        trainings = row.get(f"{y.name}_val_n") or row.get("n_seeds") or 1
        found.x.append(place)
        found.y.append(mean)
        found.deviations.append(deviation)
        name = str(row.get("candidate") or row.get("key"))
        scored = f"{title(y.name)} {number(mean)} ± {number(deviation)} ({count(int(trainings), 'training')})"
        found.texts.append(hover([f"finalist {name}", scored, f"{title(x.name)} {number(place)}"]))
    return found


def _texts(data: RunData, rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    full = len(rows) <= _MOST_HOVERS
    return [hover(_lines(data, row, names, full)) for row in rows]


def _lines(data: RunData, row: Row, names: Sequence[str], full: bool) -> list[str]:
    kind = "seed network" if row.get("seed_network") else f"trial {row.get('index')}"
    infeasible = ", over a limit" if row.get("feasible") is False else ""
    name = f", {row['candidate']}" if row.get("candidate") else ""
    values = [f"{title(value)} {number(finite(row.get(value)))}" for value in names]
    settings = [f"{key} {setting(value)}" for key, value in data.settings(row).items()] if full else []
    return [f"{kind}{name}{infeasible}", *values, *settings]


def _bound(y: Objective, dots: Sequence[float], shown: Sequence[float]) -> float | None:
    """Return the loss beyond which a few bad trials are left out of view; None if all are in view."""
    losses = [y.loss(value) for value in dots]
    if not losses:
        return None
    bound = max([float(np.quantile(losses, _WORST_SHOWN)), *(y.loss(value) for value in shown)])
    return bound if bound < max(losses) else None


def _score_axis(y: Objective, dots: Sequence[float], shown: Sequence[float]) -> Spec:
    axis: Spec = {"title": {"text": title(y.name)}, "type": "linear", "autorange": True}
    bound = _bound(y, dots, shown)
    if bound is None:
        return axis
    best = min(y.loss(value) for value in (*dots, *shown))
    margin = _MARGIN * (bound - best)
    ends = sorted((y.loss(best - margin), y.loss(bound + margin)))
    return axis | {"autorange": False, "range": ends}


def _caption(data: RunData, rows: Sequence[Row], y: Objective, traces: dict[int, Spec], axis: Spec) -> str:
    better = {"minimize": "lower", "maximize": "higher"}
    low, high = axis.get("range", (-np.inf, np.inf))
    hidden = sum(not low <= value <= high for value in traces[0]["y"])
    over = sum(row.get("feasible") is False for row in rows)
    parts = [f"Scores are of the validation data; {better[y.direction]} is better."]
    if data.measured:
        parts.append("A dot is one trial, trained once.")
    if traces[4]["x"]:
        parts.append("A diamond is a finalist trained again: the mean and one standard deviation over its trainings.")
    if over:
        parts.append(f"{count(over, 'trial')} over a limit can't be on the front.")
    if hidden:
        parts.append(f"Of the first view the worst {count(hidden, 'trial')} are left out: double-click to see all.")
    return " ".join(parts)
