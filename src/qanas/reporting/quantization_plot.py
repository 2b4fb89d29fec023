"""The plot of what quantization costs each finalist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qanas.core.measurement import Objective
from qanas.reporting.figures import ACCENT, SECOND, Choice, Figure, Spec, hover
from qanas.reporting.model_table import SPLITS
from qanas.reporting.run_data import Row, finite
from qanas.reporting.wording import PRECISIONS, metric_parts, number, signed, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.core.card import SplitName
    from qanas.reporting.run_data import RunData

_COLOURS: dict[SplitName, str] = {"val": ACCENT, "test": SECOND}


def quantization_plot(data: RunData) -> Figure | None:
    """Draw deployed minus float for each finalist, a choice for each metric; None without finalists."""
    rows = sorted(data.finalists, key=lambda row: (finite(row.get("weight_bytes")) or 0.0, str(row.get("key"))))
    metrics = [metric for metric in _metrics(data) if any(_cost(row, metric, "val") is not None for row in rows)]
    if not metrics:
        return None
    views = [({place: _bars(rows, metric, split) for place, split in enumerate(SPLITS)}, metric) for metric in metrics]
    base: Spec = {"type": "bar", "orientation": "h", "textposition": "none"}
    traces = [
        base
        | {"name": SPLITS[split], "marker": {"color": colour}, "hovertemplate": "%{text}<extra></extra>"}
        | views[0][0][place]
        for place, (split, colour) in enumerate(_COLOURS.items())
    ]
    layouts = [{"xaxis": {"title": {"text": f"{words(metric)}, deployed minus float"}}} for metric in metrics]
    shared: Spec = {
        "barmode": "group",
        "bargap": 0.3,
        "yaxis": {"type": "category", "autorange": "reversed", "ticks": ""},
    }
    shared |= {"legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}}
    choices = [Choice(words(metric), view, layout) for (view, metric), layout in zip(views, layouts, strict=True)]
    return Figure(
        "quantization",
        traces,
        shared | layouts[0] | {"shapes": [_zero()]},
        _caption(data, metrics[0]),
        "Metric" if len(metrics) > 1 else "",
        choices if len(metrics) > 1 else (),
        height=130 + 44 * len(rows),
    )


def _metrics(data: RunData) -> list[str]:
    """Return the metrics of the finalists, those of the objectives first."""
    searched = [parts[0] for o in data.scores if (parts := metric_parts(o.name))]
    columns = [name for row in data.finalists for name in row if name.endswith("_deployed_val_mean")]
    return list(dict.fromkeys([*searched, *(name.removesuffix("_deployed_val_mean") for name in columns)]))


def _mean(row: Row, metric: str, precision: str, split: str) -> float | None:
    return finite(row.get(f"{metric}_{precision}_{split}_mean"))


def _cost(row: Row, metric: str, split: str) -> float | None:
    deployed, exact = (_mean(row, metric, precision, split) for precision in ("deployed", "float"))
    return None if deployed is None or exact is None else deployed - exact


def _bars(rows: Sequence[Row], metric: str, split: SplitName) -> Spec:
    names, values, texts = [], [], []
    for row in rows:
        cost = _cost(row, metric, split)
        if cost is None:
            continue
        name = str(row.get("candidate") or row.get("key"))
        failed = ", not shipped" if row.get("status") == "failed" else ""
        names.append(hover([f"{name}, {number(finite(row.get('weight_bytes')))} bytes{failed}"]))
        values.append(cost)
        scores = [f"{precision} {number(_mean(row, metric, precision, split))}" for precision in PRECISIONS]
        texts.append(hover([f"{name}: {signed(cost)} {words(metric)}, {SPLITS[split]}", *scores]))
    return {"y": names, "x": values, "text": texts}


def _zero() -> Spec:
    line: Spec = {"color": "@ink", "width": 1}
    return {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": line}


def _caption(data: RunData, metric: str) -> str:
    objectives = [o for o in data.scores if (metric_parts(o.name) or ("",))[0] == metric]
    worse = "Right" if (objectives or [Objective(metric)])[0].direction == "minimize" else "Left"
    return (
        f"Mean score of the file as it ships minus that of the same trainings in float, for each finalist, the "
        f"smallest on top. {worse} of 0, quantization made {words(metric)} worse. Test data is shown, nothing was "
        f"chosen by it."
    )
