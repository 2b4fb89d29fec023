"""How trainings went: losses and scores over epochs, and what was learnt by heart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qanas.core.measures import CURVE
from qanas.core.run_folder import SEED_ID
from qanas.reporting.figures import ACCENT, HOVER, LEGEND, MUTED, THIRD, Figure, Spec, hover
from qanas.reporting.models import main_metric
from qanas.reporting.run_data import Row, RunData, finite
from qanas.reporting.wording import number, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.core.card import Card

_CURVE = 2  # epochs of which a line is drawn
_MOST_TRIALS = 1000
_COLOURS = ("@accent", "@third", "@second", "@runc", "@rune", "@runf", "@muted")
_SIDES = {"train": ("training", "dot"), "val": ("validation", "solid")}


def learning_plots(data: RunData) -> list[Figure]:
    """Draw how what ships learnt, and all trials' scores on training data against those on validation data."""
    drawn = (_losses(data), _scores(data), _trials(data))
    return [figure for figure in drawn if figure is not None]


def _losses(data: RunData) -> Figure | None:
    """Draw the training loss of each shipped training over its epochs; None where no card has it."""
    metric = main_metric(data)
    traces: list[Spec] = []
    for name, card in data.cards.items():
        if card.learning is None or len(card.learning.losses) < _CURVE:
            continue
        scored = card.metrics["float"]["val"].get(metric or "")
        train = card.learning.train.get(metric or "")
        told = [] if scored is None or train is None else [_fit(str(metric), train, scored.shipped)]
        losses = [loss if math.isfinite(loss) else None for loss in card.learning.losses]
        texts = [hover([name, card.described, f"epoch {place}, loss {number(loss)}", *told])
                 for place, loss in enumerate(losses, 1)]  # fmt: skip
        traces.append(
            {"type": "scatter", "mode": "lines", "name": name, "x": list(range(1, len(losses) + 1)), "y": losses}
            | {"line": {"width": _width(name)}, "text": texts, "hovertemplate": HOVER}
        )
    if not traces:
        return None
    values = [loss for trace in traces for loss in trace["y"] if loss is not None]
    log = bool(values) and min(values) > 0
    layout: Spec = {
        "xaxis": {"title": {"text": "epoch"}},
        "yaxis": {"title": {"text": "training loss"}, "type": "log" if log else "linear"},
        "showlegend": True,
    }
    caption = (
        "The loss on training data, as the network was in each epoch, of the training that ships. Point at a line for "
        "the score on training data beside that on validation data: where they are far apart, samples were learnt by "
        "heart."
    )
    return Figure("learning", traces, layout, caption)


def _width(name: str) -> float:
    return 3 if name == SEED_ID else 1.5


def _fit(metric: str, train: float, val: float) -> str:
    return f"{words(metric)} {number(train)} on training data, {number(val)} on validation (float)"


def _scores(data: RunData) -> Figure | None:
    """Draw the main metric on training and on validation data over epochs; None where no card has two points of it."""
    metric = main_metric(data)
    known = {name: card for name, card in data.cards.items() if metric is not None and _has_curve(card, metric)}
    if metric is None or not known:
        return None
    traces = [
        _line(name, card, metric, side, _COLOURS[place % len(_COLOURS)])
        for place, (name, card) in enumerate(known.items())
        for side in _SIDES
    ]
    layout: Spec = {
        "xaxis": {"title": {"text": "epoch"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": words(metric)}},
        "showlegend": True,
    }
    caption = (
        "The score of the network as it would be if training ended there, in float, on samples spread over the "
        "validation data (lines) and over the training data (dots), of the training that ships. Where the two part, "
        "samples are learnt by heart; where the line still falls or rises at its end, more epochs may be worth it."
    )
    return Figure("curves", traces, layout, caption)


def _has_curve(card: Card, metric: str) -> bool:
    points = card.learning.curve if card.learning is not None else []
    return len(points) >= _CURVE and all(f"{side}_{metric}" in point for point in points for side in _SIDES)


def _line(name: str, card: Card, metric: str, side: str, colour: str) -> Spec:
    points = card.learning.curve if card.learning is not None else []
    named, dash = _SIDES[side]
    held = [point[f"{side}_{metric}"] for point in points]
    values = [None if not math.isfinite(value) else float(f"{value:.6g}") for value in held]
    epochs = [int(point["epoch"]) for point in points]
    texts = [
        hover([name, card.described, f"epoch {epoch}: {words(metric)} {number(value)} on {named} data"])
        for epoch, value in zip(epochs, values, strict=True)
    ]
    line = {"width": _width(name), "dash": dash, "color": colour}
    return {"type": "scatter", "mode": "lines+markers", "x": epochs, "y": values, "line": line} | {
        "name": name,
        "legendgroup": name,
        "showlegend": side == "val",
        "marker": {"size": 5},
        "text": texts,
        "hovertemplate": HOVER,
    }


def _trials(data: RunData) -> Figure | None:
    """Draw each trial's score on training data against that on validation data; None where trials have none."""
    metric = data.scores[0].name if data.scores else main_metric(data)
    found = [dot for row in data.measured if (dot := _dot(row, metric)) is not None][:_MOST_TRIALS]
    if metric is None or len(found) < _CURVE:
        return None
    front = {row.get("index") for row in data.front}
    groups = {
        "trials": ([dot for dot in found if dot.row.get("index") not in front], MUTED, 5),
        "front": ([dot for dot in found if dot.row.get("index") in front], ACCENT, 8),
        "reference": ([dot for dot in found if dot.row.get("seed_network")], THIRD, 11),
    }
    ends = [min(dot.train for dot in found), max(dot.train for dot in found)]
    diagonal: Spec = {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "hoverinfo": "skip"}
    diagonal |= {"line": {"width": 1, "color": MUTED}, "name": "as well on both"}
    traces = [diagonal, *(_dots(name, *group, metric) for name, group in groups.items() if group[0])]
    layout = {
        "xaxis": {"title": {"text": f"{words(metric)}, training data"}},
        "yaxis": {"title": {"text": f"{words(metric)}, validation data"}},
        "legend": LEGEND,
    }
    caption = (
        "Each trial after its training, in float, on samples spread over both splits: on the line it is as good on "
        "data that it was not trained on."
    )
    return Figure("fit", traces, layout, caption, width=700)


@dataclass(frozen=True)
class _Dot:
    """A trial, and what it scores on training and on validation data."""

    row: Row
    train: float
    val: float


def _dot(row: Row, metric: str | None) -> _Dot | None:
    curves = [row.get(f"{CURVE}{side}_{metric}") for side in _SIDES]
    train, val = (finite(curve[-1]) if curve else None for curve in curves)
    return None if train is None or val is None else _Dot(row, float(f"{train:.4g}"), float(f"{val:.4g}"))


def _dots(name: str, dots: Sequence[_Dot], colour: str, size: int, metric: str) -> Spec:
    texts = [hover([f"trial {dot.row.get('index')}", _fit(metric, dot.train, dot.val)]) for dot in dots]
    return {"type": "scatter", "mode": "markers", "name": name, "marker": {"size": size, "color": colour}} | {
        "x": [dot.train for dot in dots],
        "y": [dot.val for dot in dots],
        "text": texts,
        "hovertemplate": HOVER,
    }
