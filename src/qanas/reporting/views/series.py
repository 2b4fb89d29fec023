"""Numbers that shipped models predict, against what was true: over the lives of engines, and altogether."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qanas.core.even_spread import evenly_spread
from qanas.reporting.figures import ACCENT, HOVER, LEGEND, MUTED, Choice, Figure, Spec, hover
from qanas.reporting.wording import count, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.reporting.run_data import Predictions

_ENGINES = 6
_COLUMNS = 3
_PANEL = 240  # pixels of width at least
_MOST_DOTS_AN_ENGINE = 120
_MOST_DOTS = 1000
_BINS, _FEWEST = 12, 5  # of errors over the true value, and samples of each


def series_plots(models: Sequence[Predictions]) -> list[Figure]:
    """Draw engines' lives where predictions tell engine and cycle, and predicted against true values."""
    drawn = []
    lives = [model for model in models if model.has("val", "engine", "cycle")]
    if lives:
        drawn.append(_lives(lives))
    for split, named in (("test", "test"), ("val", "validation")):
        scored = [model for model in models if model.has(split)]
        if scored:
            drawn.append(_scatter(scored, split, named, "cycles" if lives else ""))
            drawn.append(_errors(scored, split, named, "cycles" if lives else ""))
            break
    return drawn


def _lives(models: Sequence[Predictions]) -> Figure:
    first = models[0]
    engines = _spread_engines(first["val_engine"])
    traces: list[Spec] = []
    layout: Spec = {"showlegend": True, "annotations": [], "grid": _grid(len(engines))}
    layout["legend"] = LEGEND | {"y": 1.06}
    for place, engine in enumerate(engines):
        axis = "" if place == 0 else str(place + 1)
        shared: Spec = {"type": "scatter", "xaxis": f"x{axis}", "yaxis": f"y{axis}", "showlegend": place == 0}
        rows = _rows(first, engine)
        line = {"x": _rounded(first["val_cycle"][rows]), "y": _rounded(first["val_targets"][rows])}
        style: Spec = {"mode": "lines", "line": {"width": 1.5, "color": MUTED}, "name": "true, capped"}
        traces.append(shared | line | style | {"hoverinfo": "skip"})
        traces.append(shared | _dots(first, engine))
        layout |= _life_axes(axis, place, len(engines))
        layout["annotations"].append(_heading(f"engine {engine}, {int(first['val_cycle'][rows].max())} cycles", axis))
    choices = [
        Choice(model.label, {2 * place + 1: _dots(model, engine) for place, engine in enumerate(engines)})
        for model in models
    ]
    caption = (
        f"{count(len(engines), 'validation engine')} from the shortest to the longest life, the same for every model. "
        "The line is the true remaining useful life, capped as in training; dots are the shipped model's "
        "predictions."
    )
    height = 250 * -(-len(engines) // _COLUMNS) + 60
    columns = min(len(engines), _COLUMNS)
    return Figure("lives", traces, layout, caption, "Model", choices, height, least=_PANEL * columns)


def _spread_engines(engine: NDArray[np.float64]) -> list[int]:
    """Choose engines from the shortest to the longest life, by every sample's engine, shape (n,)."""
    names, cycles = np.unique(engine.astype(np.int64), return_counts=True)
    order = names[np.argsort(cycles, kind="stable")]
    places = evenly_spread(len(order), _ENGINES)
    return [int(order[place]) for place in places]


def _rows(model: Predictions, engine: int) -> NDArray[np.intp]:
    rows = np.flatnonzero(model["val_engine"] == engine)
    return rows[np.argsort(model["val_cycle"][rows], kind="stable")]


def _dots(model: Predictions, engine: int) -> Spec:
    rows = _rows(model, engine)
    rows = rows[:: max(1, -(-len(rows) // _MOST_DOTS_AN_ENGINE))]
    return {
        "x": _rounded(model["val_cycle"][rows]),
        "y": _rounded(model["val_outputs"][rows]),
        "mode": "markers",
        "marker": {"size": 4, "color": ACCENT, "opacity": 0.8},
        "name": "predicted",
        "hovertemplate": "cycle %{x}: predicted %{y:.1f}<extra></extra>",
    }


def _grid(engines: int) -> Spec:
    columns = min(engines, _COLUMNS)
    rows = -(-engines // columns)
    return {"rows": rows, "columns": columns, "pattern": "independent", "xgap": 0.12, "ygap": 0.32}


def _life_axes(axis: str, place: int, engines: int) -> Spec:
    leftmost, lowest = place % _COLUMNS == 0, place + _COLUMNS >= engines
    shared: Spec = {"matches": "y"} if place else {}
    return {
        f"xaxis{axis}": {"title": {"text": "cycle"} if lowest else {}, "rangemode": "tozero"},
        f"yaxis{axis}": shared | {"title": {"text": "RUL, cycles"} if leftmost else {}, "rangemode": "tozero"},
    }


def _heading(text: str, axis: str) -> Spec:
    where = {"xref": f"x{axis} domain", "yref": f"y{axis} domain", "x": 0, "y": 1.02}
    return {"text": text, "showarrow": False, "xanchor": "left", "yanchor": "bottom", **where}


def _scatter(models: Sequence[Predictions], split: str, named: str, unit: str) -> Figure:
    first = models[0]
    ends = [float(first[f"{split}_targets"].min()), float(first[f"{split}_targets"].max())]
    diagonal: Spec = {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "hoverinfo": "skip"}
    diagonal |= {"line": {"width": 1.5, "color": MUTED}, "name": "predicted = true"}
    choices = [Choice(model.label, {1: _pairs(model, split)}) for model in models]
    suffix = f", {unit}" if unit else ""
    layout = {
        "showlegend": False,
        "xaxis": {"title": {"text": f"true{suffix}"}},
        "yaxis": {"title": {"text": f"predicted{suffix}"}},
    }
    total = len(first[f"{split}_targets"])
    thinned = f" {_MOST_DOTS:,} of them are drawn." if total > _MOST_DOTS else ""
    caption = (
        f"Every prediction of the shipped model on the {named} split ({count(total, 'sample')}) against the "
        f"true value; on the line they agree.{thinned}"
    )
    return Figure("scatter", [diagonal, _pairs(first, split)], layout, caption, "Model", choices, 480, 620)


def _errors(models: Sequence[Predictions], split: str, named: str, unit: str) -> Figure:
    """Draw the error over the true value: in bins of equally many samples its mean and the middle four fifths."""
    choices = [Choice(model.label, dict(enumerate(_binned(model, split)))) for model in models]
    base: Spec = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"width": 0}, "showlegend": False}
    band = base | {"fill": "tonexty", "fillcolor": "rgba(128,128,128,0.25)"}
    mean: Spec = {"type": "scatter", "mode": "lines+markers", "line": {"color": ACCENT}, "hovertemplate": HOVER}
    styles = (base, band, mean)
    traces = [style | choices[0].traces[place] for place, style in enumerate(styles)]
    suffix = f", {unit}" if unit else ""
    line: Spec = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0}
    layout = {
        "showlegend": False,
        "xaxis": {"title": {"text": f"true{suffix}"}},
        "yaxis": {"title": {"text": f"predicted less true{suffix}"}},
        "shapes": [line | {"line": {"color": MUTED, "width": 1}}],
    }
    caption = (
        f"The error of the shipped model over the true value, on the {named} split: the mean of each of up to {_BINS} "
        "bins of equally many samples, and between which errors the middle four fifths of them lie."
    )
    return Figure("errors", traces, layout, caption, "Model", choices, 380, 620)


def _binned(model: Predictions, split: str) -> list[Spec]:
    """Return the lower and upper bound and the mean of errors over the true value."""
    true = model[f"{split}_targets"]
    error = model[f"{split}_outputs"] - true
    finite = np.isfinite(true) & np.isfinite(error)
    order = np.argsort(true[finite], kind="stable")
    bins = [rows for rows in np.array_split(order, min(_BINS, max(1, len(order) // _FEWEST))) if len(rows)]
    x = _rounded(np.array([true[finite][rows].mean() for rows in bins]))
    held = [error[finite][rows] for rows in bins]
    low, high, mean = (
        _rounded(np.array([float(of(values)) for values in held]))
        for of in (lambda v: np.quantile(v, 0.1), lambda v: np.quantile(v, 0.9), np.mean)
    )
    spans = [f"{number(a)} to {number(b)}" for a, b in zip(low, high, strict=True)]
    texts = [
        hover([f"true about {number(at)}: {number(m)} on average, {span} ({count(len(values), 'sample')})"])
        for at, m, span, values in zip(x, mean, spans, held, strict=True)
    ]
    return [{"x": x, "y": low}, {"x": x, "y": high}, {"x": x, "y": mean, "text": texts}]


def _pairs(model: Predictions, split: str) -> Spec:
    total = len(model[f"{split}_targets"])
    rows = evenly_spread(total, _MOST_DOTS)
    engines = model.column(f"{split}_engine")
    true, predicted = model[f"{split}_targets"][rows], model[f"{split}_outputs"][rows]
    where = ["" if engines is None or len(engines) != total else f"engine {int(engines[row])}" for row in rows]
    texts = [
        hover([line for line in (place, f"true {number(float(a))}", f"predicted {number(float(b))}") if line])
        for place, a, b in zip(where, true, predicted, strict=True)
    ]
    return {
        "type": "scatter",
        "x": _rounded(true),
        "y": _rounded(predicted),
        "mode": "markers",
        "marker": {"size": 6, "color": ACCENT, "opacity": 0.6},
        "text": texts,
        "hovertemplate": HOVER,
    }


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    """Keep four digits of the largest value, shape (n,): a plot shows no more, and the page stays small."""
    finite = values[np.isfinite(values)]
    size = float(np.abs(finite).max()) if finite.size else 1.0
    places = 3 - int(np.floor(np.log10(size))) if size > 0 else 0
    return [round(float(value), places) if np.isfinite(value) else None for value in values]
