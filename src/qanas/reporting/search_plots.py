"""The plots of sampled trials: how the front grew, which settings mattered, and every trial across all axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from qanas.core.pareto import hypervolume, non_dominated
from qanas.reporting.figures import (
    ACCENT,
    HOVER,
    INK,
    MUTED,
    SECOND,
    THIRD,
    Figure,
    ScaledAxis,
    Spec,
    hover,
    spans_a_decade,
)
from qanas.reporting.run_data import Row, RunData, finite
from qanas.reporting.wording import EMPTY, count, duration, number, setting, title, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNITS = ((2 * 3600.0, 3600.0, "hours"), (2 * 60.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
FRONT = "front"
_PANEL, _AXIS = 260, 84  # pixels of width at least, of a panel and of a vertical axis
_GAP = 0.05  # between panels, of the figure's width
_MOST_SHARES = 20
_MOST_SETTINGS = 12
_MOST_TRIALS = 1000
_MOST_LABELS = 6  # values of a setting that are all labelled
_LABEL_HEIGHT = 0.05
_ABSENT = -0.13  # where a trial lies that doesn't have the setting
_BEST = 10  # a tenth of the trials
_TWO = 2


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
    if not feasible or not data.front_axes:
        return None
    axes = [ScaledAxis.over(measure, [float(row[measure.column]) for row in feasible]) for measure in data.front_axes]
    points = {_index(row): [axis.scaled(float(row[axis.measure.column])) for axis in axes] for row in feasible}
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
    return Progress([_index(row) for row in counted], volumes, seconds, _progress_caption(axes, seconds[-1]))


def _index(row: Row) -> int:
    return int(str(row["index"]))


def _progress_caption(axes: Sequence[ScaledAxis], seconds: float) -> str:
    corner = ", ".join(f"{title(axis.measure.column)} {number(axis.worst)}" for axis in axes)
    scaled = "; ".join(axis.told() for axis in axes)
    return (
        f"Hypervolume: the share of the box between best and worst feasible trial that the front dominates. "
        f"Reference point: {corner}. Normalisation: {scaled}. It compares trials of this run, not runs. "
        f"Training took {duration(seconds)} of CPU time in all."
    )


def progress_plot(data: RunData) -> Figure | None:
    """Draw hypervolume over the counted trials and over the CPU time of training; None before the first trial."""
    progress = search_progress(data)
    if progress is None:
        return None
    unit, name = next((unit, name) for least, unit, name in _UNITS if progress.train_seconds[-1] >= least)
    volumes = [round(volume, 5) for volume in progress.volumes]
    base: Spec = {"type": "scatter", "mode": "lines", "y": volumes, "customdata": progress.indices}
    base |= {"line": {"shape": "hv", "width": 2, "color": ACCENT}}
    told = "trial %{customdata}: hypervolume %{y:.4f}"
    traces = [
        base | {"x": progress.indices, "hovertemplate": f"{told}<extra></extra>"},
        base
        | {"x": [round(seconds / unit, 4) for seconds in progress.train_seconds], "xaxis": "x2", "yaxis": "y2"}
        | {"hovertemplate": f"{told}, after %{{x:.1f}} {name}<extra></extra>"},
    ]
    layout = {
        "showlegend": False,
        "xaxis": {"title": {"text": "counted trial"}, "domain": [0.0, 0.48]},
        "yaxis": {"title": {"text": "hypervolume"}},
        "xaxis2": {"title": {"text": f"training, CPU {name}"}, "domain": [0.52, 1.0], "rangemode": "tozero"}
        | {"anchor": "y2"},
        "yaxis2": {"anchor": "x2", "matches": "y", "showticklabels": False},
    }
    return Figure("progress", traces, layout, progress.caption, height=360, least=2 * _PANEL)


# What mattered


def importance_plot(data: RunData) -> Figure | None:
    """Draw a panel for each target, settings in the order of the first; None where nothing was computed."""
    targets: Mapping[str, Mapping[str, Any]] = data.importance.get("targets", {})
    drawn = {name: shares for name, shares in targets.items() if shares}
    if not drawn:
        return None
    names = list(dict.fromkeys(name for shares in drawn.values() for name in shares))[:_MOST_SHARES][::-1]
    traces: list[Spec] = []
    layout: Spec = {
        "showlegend": False,
        "annotations": [],
        "bargap": 0.35,
        "margin": {"l": 110, "r": 12, "t": 40, "b": 36},
    }
    most = max(finite(share) or 0.0 for shares in drawn.values() for share in shares.values())
    most = max(
        [most, *(float(high) for by in data.importance.get("intervals", {}).values() for _, high in by.values())]
    )
    width = (1 + _GAP) / len(drawn) - _GAP
    for place, (target, shares) in enumerate(drawn.items()):
        axis = "" if place == 0 else str(place + 1)
        values = [finite(shares.get(name)) or 0.0 for name in names]
        spans = [_span(data, target, name, value) for name, value in zip(names, values, strict=True)]
        told = [
            hover([f"{words(name)}: {value:.0%}{_told_span(span)}" if name in shares else f"{words(name)}: can't act"])
            for name, value, span in zip(names, values, spans, strict=True)
        ]
        traces.append(
            {"type": "bar", "orientation": "h", "x": values, "y": [words(name) for name in names]}
            | {"error_x": _span_bars(values, spans)}
            | {"xaxis": f"x{axis}", "yaxis": f"y{axis}", "marker": {"color": ACCENT}}
            | {"text": told, "textposition": "none", "hovertemplate": HOVER}
        )
        left = place * (width + _GAP)
        layout[f"xaxis{axis}"] = {"domain": [left, left + width], "anchor": f"y{axis}", "range": [0, 1.05 * most]} | {
            "tickformat": ".0%",
            "nticks": 4,
        }
        layout[f"yaxis{axis}"] = {"anchor": f"x{axis}", "showticklabels": place == 0, "ticks": ""}
        heading: Spec = {"xref": "paper", "yref": "paper", "x": left, "y": 1, "showarrow": False}
        named = "reaching the front" if target == FRONT else title(target)
        layout["annotations"].append(heading | {"xanchor": "left", "yanchor": "bottom", "text": hover([named])})
    return Figure("importance", traces, layout, _importance_caption(data), height=90 + 24 * len(names),
                  least=_PANEL * len(drawn))  # fmt: skip


def _span(data: RunData, target: str, name: str, value: float) -> tuple[float, float] | None:
    """Return between which shares a setting's lies; None where a run of before doesn't say."""
    bounds = data.importance.get("intervals", {}).get(target, {}).get(name)
    return None if bounds is None else (min(float(bounds[0]), value), max(float(bounds[1]), value))


def _told_span(span: tuple[float, float] | None) -> str:
    return "" if span is None else f" ({span[0]:.0%} to {span[1]:.0%})"


def _span_bars(values: Sequence[float], spans: Sequence[tuple[float, float] | None]) -> Spec:
    """Return plotly's bars of uncertainty, longer ones to the side on which more is possible."""
    both = [(0.0, 0.0) if span is None else (span[1] - v, v - span[0]) for v, span in zip(values, spans, strict=True)]
    look: Spec = {"type": "data", "symmetric": False, "thickness": 1, "width": 3, "color": INK}
    return look | {"array": [round(more, 4) for more, _ in both], "arrayminus": [round(less, 4) for _, less in both]}


def importance_note(data: RunData) -> str:
    """Say why there is no plot of importance."""
    if not data.importance:
        return "importance.json is not there: early runs, and runs whose search has not ended, have none."
    told = data.importance
    return f"Too few trials: {told.get('trials', 0)} were measured, at least {told.get('least_trials', 0)} are needed."


def _importance_caption(data: RunData) -> str:
    told = data.importance
    sure = (
        f" Lines are where {told['level']:.0%} of the shares lie over {told['draws']} draws of the trials with "
        "replacement: where they reach far, too few trials tell. Settings that can't act on a target have no bar: how "
        "a network is trained changes none of its bytes."
        if "intervals" in told
        else ""
    )
    return (
        f"The share of each setting in the importance of all, by {told.get('method', 'an unnamed method')}: how far "
        f"its distribution among the {told.get('good_trials')} best trials is from that among all {told.get('trials')} "
        f"measured ones. What the sampler already knew to be good it tried more often, which makes it look less "
        f"important.{sure}"
    )


# All trials


@dataclass(frozen=True)
class _Dimension:
    """One vertical axis.

    Ordinary lines join them: plotly's own trace needs WebGL and compiles code, which the page's policy forbids.

    Attributes:
        column: of the trials.
        named: as written on top.
        places: by value, from 0 to 1.
        ticks: labelled values.
    """

    column: str
    named: str
    places: dict[Any, float]
    ticks: list[Any]
    absent: bool

    @classmethod
    def of(cls, column: str, named: str, rows: Sequence[Row]) -> _Dimension:
        values = [row[column] for row in rows if row.get(column) is not None]
        absent = len(values) < len(rows)
        distinct = sorted(set(values), key=lambda value: (isinstance(value, str), value))
        if all(finite(value) is not None for value in distinct):
            log = spans_a_decade([float(value) for value in distinct])
            scaled = [math.log10(value) if log else float(value) for value in distinct]
        else:
            scaled = [float(place) for place in range(len(distinct))]
        low, width = scaled[0], scaled[-1] - scaled[0]
        places = {value: (at - low) / width if width else 0.5 for value, at in zip(distinct, scaled, strict=True)}
        ticks = distinct if len(distinct) <= _MOST_LABELS else [distinct[0], distinct[-1]]
        return cls(column, named, places, ticks, absent)

    def place(self, row: Row) -> float:
        value = row.get(self.column)
        return _ABSENT if value is None else self.places[value]


def parallel_plot(data: RunData) -> Figure | None:
    """Draw every measured trial as a line; None where fewer than two were measured."""
    rows = data.measured[:_MOST_TRIALS]
    names = _settings(data, rows)
    if len(rows) < _TWO or not names:
        return None
    dimensions = [_Dimension.of(name, words(name), rows) for name in names]
    dimensions += [_Dimension.of(o.column, title(o.column), rows) for o in data.front_axes]
    traces = [_lines(data, group, dimensions) | style for group, style in _groups(data, rows) if group]
    axis: Spec = {"tickvals": list(range(len(dimensions))), "ticktext": [_broken(d.named) for d in dimensions]}
    axis |= {
        "side": "top",
        "showgrid": False,
        "showline": False,
        "ticks": "",
        "range": [-0.3, len(dimensions) - 0.4],
        "tickangle": 0,
    }
    layout = {
        "xaxis": axis,
        "yaxis": {"visible": False, "range": [-0.2, 1.06]},
        "shapes": [_rule(place) for place in range(len(dimensions))],
        "annotations": [label for place, d in enumerate(dimensions) for label in _labels(place, d)],
        "legend": {"orientation": "h", "x": 0, "y": -0.02, "yanchor": "top"},
        "margin": {"l": 16, "r": 40, "t": 56, "b": 40},
    }
    least = _AXIS * len(dimensions)
    return Figure("parallel", traces, layout, _parallel_caption(data, rows, names), height=480, least=least)


def _settings(data: RunData, rows: Sequence[Row]) -> list[str]:
    """Return the settings that differ between trials, at most twelve: the most important ones where that is known."""
    varied = [
        name
        for name in dict.fromkeys(name for row in rows for name in data.settings(row))
        if len({row.get(name) for row in rows}) > 1
    ]
    shares: dict[str, Any] = next(iter(data.importance.get("targets", {}).values()), {})
    chosen = sorted(varied, key=lambda name: -(finite(shares.get(name)) or 0.0))[:_MOST_SETTINGS]
    return [name for name in varied if name in chosen]


def _groups(data: RunData, rows: Sequence[Row]) -> list[tuple[list[Row], Spec]]:
    """Return trials and how their lines look; what matters most is drawn last."""
    on_front = {row.get("index") for row in data.front}
    seed = [row for row in rows if row.get("seed_network")]
    front = [row for row in rows if row.get("index") in on_front and row not in seed]
    others = [row for row in rows if row not in front and row not in seed]
    score = (data.front_scores or data.front_axes)[0]
    good = sorted(others, key=lambda row: score.loss(float(row[score.column])))[: len(rows) // _BEST]
    rest = [row for row in others if row not in good]
    return [
        (rest, _style("other trials", rest, MUTED, 0.35)),
        (good, _style(f"next best by {title(score.column)}", good, SECOND, 0.8)),
        (front, _style("front", front, ACCENT, 0.9)),
        (seed, _style("reference", seed, THIRD, 1.0)),
    ]


def _style(name: str, rows: Sequence[Row], colour: str, opacity: float) -> Spec:
    width = 1 if colour == MUTED else 2
    return {"name": f"{name} ({len(rows)})", "line": {"color": colour, "width": width}, "opacity": opacity}


def _lines(data: RunData, rows: Sequence[Row], dimensions: Sequence[_Dimension]) -> Spec:
    """Return the lines of some trials as one trace, with gaps between them."""
    x: list[int | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for row in rows:
        scores = [f"{title(o.column)} {number(finite(row.get(o.column)))}" for o in data.front_axes]
        settings = [f"{name} {setting(value)}" for name, value in data.settings(row).items()]
        text = hover([f"trial {row.get('index')}", *scores, *settings])
        x += [*range(len(dimensions)), None]
        y += [*(round(dimension.place(row), 4) for dimension in dimensions), None]
        texts += [text] * (len(dimensions) + 1)
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "text": texts} | {
        "hovertemplate": HOVER,
        "connectgaps": False,
    }


def _broken(named: str) -> str:
    """Break a name so that neighbours don't overlap."""
    return hover(named.replace(", ", " ").split(" "))


def _rule(place: int) -> Spec:
    line: Spec = {"color": "@muted", "width": 1}
    return {"type": "line", "layer": "below", "x0": place, "x1": place, "y0": 0, "y1": 1, "line": line}


def _labels(place: int, dimension: _Dimension) -> list[Spec]:
    """Return the labels of an axis's values, right of it."""
    shown: list[tuple[float, str]] = []
    for value in dimension.ticks:
        at = dimension.places[value]
        if not shown or at - shown[-1][0] >= _LABEL_HEIGHT:
            shown.append((at, _value(value)))
    shown += [(_ABSENT, EMPTY)] if dimension.absent else []
    base: Spec = {"x": place, "xanchor": "left", "xshift": 3, "showarrow": False, "font": {"size": 11}}
    return [base | {"y": at, "text": hover([text]), "bgcolor": "@page"} for at, text in shown]


def _value(value: object) -> str:
    return number(value) if isinstance(value, int) and not isinstance(value, bool) else setting(value)


def _parallel_caption(data: RunData, rows: Sequence[Row], names: Sequence[str]) -> str:
    axes = "on an axis the largest value is on top, and axes whose values span more than a decade are logarithmic"
    told = [f"Each line is a measured trial; {axes}. {EMPTY}: the network doesn't have the setting."]
    if len(rows) < len(data.measured):
        told.append(f"The first {count(len(rows), 'trial')} are drawn.")
    if len(names) == _MOST_SETTINGS:
        told.append(f"At most {_MOST_SETTINGS} settings are shown.")
    return " ".join(told)
