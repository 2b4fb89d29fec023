"""The plots of a block-wise search's result: the exact front of whole networks, and what shipped beside the teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qanas.core.run_folder import SEED_ID
from qanas.reporting.block_tables import chosen_rows, networks_of
from qanas.reporting.figures import ACCENT, INK, SECOND, Choice, Figure, Spec, hover, value_axis
from qanas.reporting.model_table import SPLITS, main_cost, main_metric, statistic
from qanas.reporting.run_data import Row, RunData, finite
from qanas.reporting.wording import COSTS, FLOAT_PREFIX, count, magnitude, number, title, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.core.card import Card, Precision, SplitName

_LEGEND: Spec = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
_BASE: Spec = {"type": "scatter", "mode": "markers", "hovertemplate": "%{text}<extra></extra>"}
_COLOURS: dict[SplitName, str] = {"val": ACCENT, "test": SECOND}


@dataclass(frozen=True)
class _Point:
    """A network with its cost, and the precision that it is scored in."""

    name: str
    cost: float
    card: Card
    precision: Precision


def block_front_plot(data: RunData) -> Figure | None:
    """Draw the front's scores against each cost, its finalists marked; None without a front."""
    score = data.front_axes[0].name
    rows = [row for row in data.front if finite(row.get(score)) is not None]
    known = [name for prefix in ("", FLOAT_PREFIX) for name in (prefix + cost for cost in COSTS)]
    named = dict.fromkeys([*(axis.name for axis in data.costs), *known])
    costs = [name for name in named if rows and all(finite(row.get(name)) is not None for row in rows)]
    if not costs:
        return None
    views = [_front_view(data, rows, score, cost) for cost in costs]
    labels = [f"front ({count(len(rows), 'network')})", "finalists"]
    markers: list[Spec] = [
        {"size": 6, "color": ACCENT},
        {"size": 13, "symbol": "diamond-open", "color": INK, "line": {"width": 2}},
    ]
    traces = [_BASE | {"name": name, "marker": marker} for name, marker in zip(labels, markers, strict=True)]
    choices = [Choice(f"{title(score)} against {title(cost)}", *view) for cost, view in zip(costs, views, strict=True)]
    return Figure(
        "front",
        [trace | points for trace, points in zip(traces, views[0][0].values(), strict=True)],
        views[0][1] | {"legend": _LEGEND},
        _front_caption(data),
        "Axes" if len(costs) > 1 else "",
        choices if len(costs) > 1 else (),
    )


def _front_view(data: RunData, rows: Sequence[Row], score: str, cost: str) -> tuple[dict[int, Spec], Spec]:
    """Return the points of front and finalists, and the axes."""
    finalists = [row for row in rows if row.get("candidate")]
    traces: dict[int, Spec] = {
        place: {
            "x": [row[cost] for row in shown],
            "y": [row[score] for row in shown],
            "text": [_told(data, row, score, cost) for row in shown],
        }
        for place, shown in enumerate((rows, finalists))
    }
    axes = {"xaxis": value_axis(cost, traces[0]["x"]), "yaxis": {"title": {"text": title(score)}, "type": "linear"}}
    return traces, axes


def _told(data: RunData, row: Row, score: str, cost: str) -> str:
    picked = chosen_rows(data.blocks, row) or []
    blocks = [
        f"{block.name.replace('_', ' ')}: {'-'.join(block.options[place])}, {block.weight_bits[place]} bits, "
        f"NSR {number(float(block.nsr[place]))}"
        for block, place in zip(data.blocks, picked, strict=False)
    ]
    name = str(row.get("candidate") or row.get("key"))
    values = [f"{title(column)} {number(finite(row.get(column)))}" for column in (score, cost)]
    return hover([name, *values, *blocks])


def _front_caption(data: RunData) -> str:
    axes = " and ".join(title(axis.name) for axis in data.front_axes)
    raced = any(not block.exact.all() for block in data.blocks)
    less = " (less those with rows that were raced away)" if raced else ""
    networks = f" of the {magnitude(networks_of(data.blocks))} that the tables stand for{less}" if data.blocks else ""
    limits = ", within the limits," if data.recipe_table("limits") else ""
    distilled = data.recipe_table("finalists").get("start") == "distilled"
    start = "from the teacher's stem and head and their distilled blocks" if distilled else "from scratch"
    return (
        f"Every network{networks}{limits} that no other one beats in {axes} together; lower is better. Scores are sums "
        "over blocks that were distilled apart: none of these networks was trained before. Finalists were trained "
        f"after, {start}."
    )


def shipped_plot(data: RunData) -> Figure | None:
    """Draw deployed scores of shipped networks against a cost, the teacher beside them; None without a score."""
    metric = main_metric(data)
    seed = data.cards.get(SEED_ID)
    if metric is None or not data.blockwise:
        return None
    cost = main_cost(data)
    traces = []
    for split, colour in _COLOURS.items():
        named = f"networks, {SPLITS[split]}"
        points = [_Point(name, card.costs()[cost], card, "deployed") for name, card in data.shipped.items()]
        traces.append(_scored(named, points, metric, split, {"size": 10, "color": colour}))
        if seed is not None:
            whole = finite(data.summary.get("teacher", {}).get(FLOAT_PREFIX + cost))
            teacher = [_Point("teacher, deployed", seed.costs()[cost], seed, "deployed")]
            teacher += [] if whole is None else [_Point("teacher, FP32", whole, seed, "float")]
            style: Spec = {"size": 15, "symbol": ["star", "star-open"][: len(teacher)], "color": colour}
            traces.append(_scored(f"teacher, {SPLITS[split]}", teacher, metric, split, style))
    places = [at for trace in traces for at in trace["x"]]
    if not places:
        return None
    layout = {"xaxis": value_axis(cost, places), "yaxis": {"title": {"text": words(metric)}}, "legend": _LEGEND}
    return Figure("shipped", traces, layout, _shipped_caption(data, cost))


def _scored(named: str, points: Sequence[_Point], metric: str, split: SplitName, marker: Spec) -> Spec:
    """Return marks with error bars."""
    found = [
        (point.name, point.cost, score)
        for point in points
        if (score := statistic(point.card, point.precision, split, metric)) is not None
    ]
    texts = [
        hover(
            [
                f"{name}, {SPLITS[split]}",
                f"{words(metric)} {number(score.mean)} ± {number(score.std)} ({count(score.n, 'training')})",
                number(at),
            ]
        )
        for name, at, score in found
    ]
    error = {"type": "data", "array": [score.std for _, _, score in found], "thickness": 1.4, "width": 4}
    place: Spec = {"x": [at for _, at, _ in found], "y": [score.mean for _, _, score in found], "text": texts}
    return _BASE | {"name": named, "marker": marker, "error_y": error | {"color": marker["color"]}} | place


def _shipped_caption(data: RunData, cost: str) -> str:
    whole = finite(data.summary.get("teacher", {}).get(FLOAT_PREFIX + cost)) is not None
    full = ", the open one before quantization, in FP32" if whole else ""
    return (
        "Each network as it ships, measured in the runtime that will run it: mean and one standard deviation over its "
        f"trainings. The star is the teacher, quantized likewise{full}. Nothing was chosen by test data."
    )
