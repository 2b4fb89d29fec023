"""All measured trials in parallel coordinates: settings on the left, objectives on the right.

Drawn with ordinary lines: plotly's own trace for this needs WebGL and compiles code, which the page's policy forbids.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qanas.reporting.figures import ACCENT, MUTED, SECOND, SEED, Figure, Spec, hover
from qanas.reporting.run_data import Row, finite
from qanas.reporting.scaling import spans_a_decade
from qanas.reporting.wording import EMPTY, count, number, setting, title, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.reporting.run_data import RunData

_MOST_SETTINGS = 12
_MOST_TRIALS = 1000
_MOST_LABELS = 6  # values of a setting that are all labelled
_LABEL_HEIGHT = 0.05
_ABSENT = -0.13  # where a trial lies that doesn't have the setting
_BEST = 10  # a tenth of the trials
_TWO = 2


@dataclass(frozen=True)
class _Dimension:
    """One vertical axis.

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
    dimensions += [_Dimension.of(o.name, title(o.name), rows) for o in data.objectives]
    traces = [_lines(data, group, dimensions) | style for group, style in _groups(data, rows) if group]
    axis: Spec = {"tickvals": list(range(len(dimensions))), "ticktext": [_heading(d.named) for d in dimensions]}
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
    return Figure("parallel", traces, layout, _caption(data, rows, names), height=480)


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
    score = (data.scores or data.objectives)[0]
    good = sorted(others, key=lambda row: score.loss(float(row[score.name])))[: len(rows) // _BEST]
    rest = [row for row in others if row not in good]
    return [
        (rest, _style("other trials", rest, MUTED, 0.35)),
        (good, _style(f"next best by {title(score.name)}", good, SECOND, 0.8)),
        (front, _style("front", front, ACCENT, 0.9)),
        (seed, _style("seed network", seed, SEED, 1.0)),
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
        scores = [f"{title(o.name)} {number(finite(row.get(o.name)))}" for o in data.objectives]
        settings = [f"{name} {setting(value)}" for name, value in data.settings(row).items()]
        text = hover([f"trial {row.get('index')}", *scores, *settings])
        x += [*range(len(dimensions)), None]
        y += [*(round(dimension.place(row), 4) for dimension in dimensions), None]
        texts += [text] * (len(dimensions) + 1)
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "text": texts} | {
        "hovertemplate": "%{text}<extra></extra>",
        "connectgaps": False,
    }


def _heading(named: str) -> str:
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


def _caption(data: RunData, rows: Sequence[Row], names: Sequence[str]) -> str:
    axes = "on an axis the largest value is on top, and axes whose values span more than a decade are logarithmic"
    told = [f"Each line is a measured trial; {axes}. {EMPTY}: the network doesn't have the setting."]
    if len(rows) < len(data.measured):
        told.append(f"The first {count(len(rows), 'trial')} are drawn.")
    if len(names) == _MOST_SETTINGS:
        told.append(f"At most {_MOST_SETTINGS} settings are shown.")
    return " ".join(told)
