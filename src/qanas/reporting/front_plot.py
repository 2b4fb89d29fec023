"""The plot of what a search found: trials, front, reference and finalists."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from qanas.core.measures import Cost, Goal, Measure, Metric, Score, cost_columns, measure_of
from qanas.core.pareto import non_dominated
from qanas.reporting import figures
from qanas.reporting.figures import ACCENT, INK, LEGEND, MUTED, SECOND, THIRD, Choice, Figure, Spec, hover
from qanas.reporting.run_data import BASELINE, Row, RunData, chosen_rows, finite, name_of, networks_of
from qanas.reporting.wording import count, magnitude, number, setting, title

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_MOST_HOVERS = 1000
_AROUND = 0.5  # of the front's own span is shown beyond its worst point
_MARGIN = 0.05
_TWO = 2
_BASE: Spec = {"type": "scatter", "mode": "markers", "hovertemplate": figures.HOVER}


@dataclass(frozen=True)
class _Points:
    """Rows that have a value on both axes."""

    rows: list[Row]
    x: list[float]
    y: list[float]

    @classmethod
    def of(cls, rows: Iterable[Row], x: Measure, y: Measure) -> _Points:
        kept = [(row, finite(row.get(x.column)), finite(row.get(y.column))) for row in rows]
        full = [(row, a, b) for row, a, b in kept if a is not None and b is not None]
        return cls([row for row, _, _ in full], [a for _, a, _ in full], [b for _, _, b in full])


def front_plot(data: RunData) -> Figure | None:
    """Draw trials, front, reference and finalists, as far as there are any; None without a measured point."""
    pairs = _pairs(data)
    if not pairs:
        return None
    views = [_view(data, x, y) for x, y in pairs]
    drawn = [name for name in _styles(data) if any(view[name].get("x") for view, _ in views)]
    changes = [({place: view[name] for place, name in enumerate(drawn)}, axes) for view, axes in views]
    captions = [_caption(data, y, *view) for (_, y), view in zip(pairs, views, strict=True)]
    choices = [
        Choice(f"{title(y.column)} against {title(x.column)}", *change, caption)
        for (x, y), change, caption in zip(pairs, changes, captions, strict=True)
    ]
    return Figure(
        "front",
        [_styles(data)[name] | views[0][0][name] for name in drawn],
        views[0][1] | {"legend": LEGEND},
        captions[0],
        "Axes" if len(pairs) > 1 else "",
        choices if len(pairs) > 1 else (),
        height=520,
    )


def _pairs(data: RunData) -> list[tuple[Measure, Measure]]:
    """Return the axes to offer: score against cost, then all pairs, then costs that were not searched."""
    rows = data.measured or data.front
    if not rows or not data.front_axes:
        return []
    searched = [axis for axis in data.front_axes if isinstance(axis, Cost)]
    known = (Cost.parse(name) for name in dict.fromkeys([*cost_columns(), *rows[0]]))
    others = [
        cost
        for cost in known
        if cost is not None and cost not in searched and any(finite(row.get(cost.column)) is not None for row in rows)
    ]
    score = (data.front_scores or data.front_axes)[0]
    pairs: list[tuple[Measure, Measure]] = [(cost, score) for cost in [*searched, *others][:1] if cost != score]
    pairs += [figures.cost_first(a, b) for a, b in combinations(data.front_axes, 2)]
    pairs += [(cost, score) for cost in others if cost != score]
    pairs += [(cost, metric) for cost in [*searched, *others][:1] for metric in _further_metrics(data, rows)]
    return list(dict.fromkeys(pairs))


def _further_metrics(data: RunData, rows: Sequence[Row]) -> list[Metric]:
    """Return metrics that trials were scored by and that aren't searched, where it is known which way is better."""
    known = data.folder.metric_directions()
    named = (measure_of(column, known) for column in rows[0])
    metrics = [found for found in named if isinstance(found, Metric) and found.name in known]
    return [metric for metric in metrics if metric not in data.front_axes]


def _view(data: RunData, x: Measure, y: Measure) -> tuple[dict[str, Spec], Spec]:
    """Return what depends on the pair of axes: the points of each of `_styles`, and the axes."""
    trials = data.measured
    points = {
        "trials": _Points.of((row for row in trials if not row.get("seed_network")), x, y),
        "front": _Points.of(data.front, x, y),
        "reference": _Points.of((row for row in trials if row.get("seed_network")), x, y),
        "picked": _Points.of((row for row in data.front if row.get("candidate") and isinstance(y, Score)), x, y),
    }
    names = list(dict.fromkeys([*(axis.column for axis in data.front_axes), x.column]))
    view: dict[str, Spec] = {
        name: {"x": found.x, "y": found.y, "text": _texts(data, found.rows, names)} for name, found in points.items()
    }
    held = data.front if data.summary.get("confirmation") else [r for r in trials if r.get("feasible") is not False]
    view["line"] = _envelope(_Points.of(held, x, y), x, y)
    view["retrained"] = _retrained(data, x, y)
    view["baselines"] = _retrained(data, x, y, baselines=True)
    shown = [at for name in ("front", "reference", "retrained", "line") for at in view[name]["y"]]
    places = [at for name in ("trials", "front", "reference", "baselines") for at in view[name]["x"]]
    goals = [goal for goal in data.goals if goal.metric == y]
    dots = points["trials"]
    looked = [*shown, *(goal.bound for goal in goals)]
    axes = {"xaxis": figures.value_axis(x.column, places), "yaxis": _score_axis(y, dots.y, looked)}
    lines = {"shapes": [_line_at(goal) for goal in goals], "annotations": [_label_at(goal) for goal in goals]}
    return view, axes | lines


def _line_at(goal: Goal) -> Spec:
    line: Spec = {"color": INK, "width": 1, "dash": "dot"}
    place: Spec = {"xref": "paper", "x0": 0, "x1": 1, "y0": goal.bound, "y1": goal.bound}
    return {"type": "line", "layer": "below", "line": line} | place


def _label_at(goal: Goal) -> Spec:
    place: Spec = {"xref": "paper", "x": 1, "xanchor": "right", "y": goal.bound, "yanchor": "bottom"}
    return place | {"showarrow": False, "text": hover([f"goal: {goal.told()}"]), "font": {"size": 11}}


def _styles(data: RunData) -> Mapping[str, Spec]:
    """Return how the traces look, the last one on top."""
    line = "Pareto front" if len(data.front_axes) == _TWO else "best of these two axes"
    trials = f"trials ({sum(not row.get('seed_network') for row in data.measured):,})"
    means = f"mean ± sd{_trainings(data)}"
    open_diamond: Spec = {"symbol": "diamond-open", "line": {"width": 2}}
    return {
        "trials": _BASE | {"name": trials, "marker": {"size": 6, "color": MUTED, "opacity": 0.45}},
        "line": {"type": "scatter", "mode": "lines", "name": line, "hoverinfo": "skip", "showlegend": True}
        | {"line": {"shape": "hv", "width": 2, "color": ACCENT}},
        "front": _BASE | {"name": f"front points ({len(data.front)})", "marker": {"size": 9, "color": ACCENT}},
        "reference": _BASE | {"name": "reference", "marker": {"size": 16, "symbol": "star", "color": THIRD}},
        "retrained": _BASE
        | {
            "name": f"finalists retrained, {means}",
            "marker": {"size": 10, "color": SECOND} | open_diamond,
        },
        "baselines": _BASE
        | {
            "name": f"baselines, {means}",
            "marker": {"size": 9, "color": INK, "symbol": "square-open"},
        },
        "picked": _BASE | {"name": "finalists", "marker": {"size": 13, "color": INK} | open_diamond},
    }


def _trainings(data: RunData) -> str:
    """Tell over how many trainings means are; empty where that differs."""
    numbers = {statistic.n for card in data.cards.values() for statistic in card.metrics["deployed"]["val"].values()}
    return f" (n = {numbers.pop()})" if len(numbers) == 1 else ""


def _envelope(points: _Points, x: Measure, y: Measure) -> Spec:
    """Return the points that are best in these two axes, in the order of the stepped line."""
    if not points.rows:
        return {"x": [], "y": []}
    losses = np.array([[x.loss(a), y.loss(b)] for a, b in zip(points.x, points.y, strict=True)])
    best = non_dominated(losses)
    return {"x": [points.x[i] for i in best], "y": [points.y[i] for i in best]}


def _retrained(data: RunData, x: Measure, y: Measure, *, baselines: bool = False) -> Spec:
    """Return validation means of finalists, or of baselines; costs of the FP32 network come from the front's row."""
    kind, colour = ("baseline", INK) if baselines else ("finalist", SECOND)
    searched = {row.get("key"): row for row in data.front}
    points: Spec = {"x": [], "y": [], "text": []}
    deviations = []
    for row in data.finalists:
        if (row.get("kind") == BASELINE) != baselines:
            continue
        place = finite(row.get(x.column)) or finite(searched.get(row.get("key"), {}).get(x.column))
        mean = finite(row.get(f"{y.column}_val_mean"))
        if place is None or mean is None:
            continue
        deviation = finite(row.get(f"{y.column}_val_std")) or 0.0
        trainings = int(row.get(f"{y.column}_val_n") or row.get("n_seeds") or 1)
        scored = f"{title(y.column)} {number(mean)} ± {number(deviation)} ({count(trainings, 'training')})"
        points["x"].append(place)
        points["y"].append(mean)
        points["text"].append(hover([f"{kind} {name_of(row)}", scored, f"{title(x.column)} {number(place)}"]))
        deviations.append(deviation)
    error = {"type": "data", "array": deviations, "thickness": 1.5, "width": 4, "color": colour}
    return points | {"error_y": error}


def _texts(data: RunData, rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Return what is told of each row: its name, its values, and what it is made of unless there are too many."""
    texts = []
    for row in rows:
        values = [f"{title(name)} {number(finite(row.get(name)))}" for name in names]
        made = _made_of(data, row) if len(rows) <= _MOST_HOVERS else []
        texts.append(hover([_kind(row), *values, *made]))
    return texts


def _kind(row: Row) -> str:
    index, name = row.get("index"), row.get("candidate")
    kind = "reference" if row.get("seed_network") else f"trial {index}" if index is not None else ""
    infeasible = "over a limit" if row.get("feasible") is False else ""
    told = ", ".join(part for part in (kind, str(name or ""), str(row.get("described") or ""), infeasible) if part)
    return told or name_of(row)


def _made_of(data: RunData, row: Row) -> list[str]:
    """Return the rows of the blocks' tables that the point consists of, or else its settings."""
    picked = chosen_rows(data.blocks, row)
    if not picked:
        return [f"{key} {setting(value)}" for key, value in data.settings(row).items()]
    return [
        f"{block.name.replace('_', ' ')}: {'-'.join(block.options[place])}, {block.bits_told(place)}, "
        f"NSR {number(float(block.nsr[place]))}"
        for block, place in zip(data.blocks, picked, strict=True)
    ]


def _score_axis(y: Measure, dots: Sequence[float], shown: Sequence[float]) -> Spec:
    """Return the axis: its first view is of what is looked for, not of trials and baselines that are far worse.

    Args:
        y: the score.
        dots: of trials.
        shown: of front, reference and finalists, and goals.
    """
    axis: Spec = {"title": {"text": title(y.column)}, "type": "linear", "autorange": True}
    losses, looked = [y.loss(value) for value in dots], [y.loss(value) for value in shown]
    if not losses or not looked:
        return axis
    best, bound = min([*losses, *looked]), max(looked)
    bound += _AROUND * (bound - best)
    if bound == best or bound >= max(losses):
        return axis
    margin = _MARGIN * (bound - best)
    return axis | {"autorange": False, "range": sorted((y.loss(best - margin), y.loss(bound + margin)))}


def _caption(data: RunData, y: Measure, view: Mapping[str, Spec], axes: Spec) -> str:
    better = {"minimize": "lower", "maximize": "higher"}[y.direction]
    low, high = axes["yaxis"].get("range", (-np.inf, np.inf))
    hidden = sum(not low <= value <= high for value in view["trials"]["y"])
    over = sum(row.get("feasible") is False for row in data.measured)
    stands = data.scored_for and not isinstance(y, Metric)
    parts = _stand_in(data, better) if stands else [f"Scores are of the validation data; {better} is better."]
    if data.measured:
        parts.append("A dot is one trial." if data.scored_for else "A dot is one trial, trained once.")
    if data.summary.get("confirmation"):
        parts.append("Front points are means of further trainings, so that some dots, lucky ones, lie below them.")
    if view["retrained"]["x"]:
        parts.append("A diamond is a finalist trained again: the mean and one standard deviation over its trainings.")
    if view["baselines"]["x"]:
        parts.append("A square is a baseline, trained as often: what would have been there without a search.")
    if over:
        parts.append(f"{count(over, 'trial')} over a limit can't be on the front.")
    if hidden:
        parts.append(f"Of the first view the worst {count(hidden, 'trial')} are left out: double-click to see all.")
    return " ".join(parts)


def _stand_in(data: RunData, better: str) -> list[str]:
    """Return what scores are that stand for a metric, and which networks the front was found among."""
    distilled = data.recipe_table("finalists").get("start") == "distilled"
    start = "from the reference's stem and head and their distilled blocks" if distilled else "from scratch"
    trained = f"Finalists were trained after, {start}."
    if not data.blocks:
        return [f"Scores stand for a metric that no point was trained for; {better} is better.", trained]
    axes = " and ".join(title(axis.column) for axis in data.front_axes)
    raced = any(not block.exact.all() for block in data.blocks)
    less = " (less those with rows that were raced away)" if raced else ""
    limits = ", within the limits," if data.recipe_table("limits") else ""
    found = (
        f"Every network of the {magnitude(networks_of(data.blocks))} that the tables stand for{less}{limits} that no "
        f"other one beats in {axes} together; {better} is better. Scores are sums over blocks that were distilled "
        "apart: none of these networks was trained before."
    )
    return [found, trained]
