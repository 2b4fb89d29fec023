"""The plots of shipped networks: how they turned out, and what quantization costs them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qanas.core.measures import PRECISIONS, Cost, Metric, Precision, measure_of
from qanas.core.run_folder import SEED_ID
from qanas.reporting.figures import ACCENT, HOVER, LEGEND, SECOND, Choice, Figure, Spec, hover, value_axis
from qanas.reporting.models import main_cost, main_metric, statistic
from qanas.reporting.run_data import Row, RunData, finite, name_of
from qanas.reporting.wording import SPLITS, count, number, signed, title, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qanas.core.card import Card, Latency, LayerNoise, SplitName

_COLOURS: dict[SplitName, str] = {"val": ACCENT, "test": SECOND}
_BASE: Spec = {"type": "scatter", "mode": "markers", "hovertemplate": HOVER}
_COUNTED = ("latency_ms", "cycles", "instructions")
"""What a device takes for an inference."""

_MEAN = "_val_mean"  # of a metric, in finalists.csv


@dataclass(frozen=True)
class _Network:
    """A network with its cost, and the precision that it is scored in."""

    name: str
    cost: float
    card: Card
    precision: Precision


def shipped_plot(data: RunData) -> Figure | None:
    """Draw deployed scores of what shipped against what was searched for and the latency on each device of the cards.

    Returns:
        None without a score, or where the front's own plot shows the finalists' scores and no card has a latency.
    """
    metric = main_metric(data)
    if metric is None:
        return None
    views = [(cost, _shipped(data, metric, cost)) for cost in _shipped_costs(data)]
    views = [(cost, traces) for cost, traces in views if any(trace["x"] for trace in traces)]
    if not views:
        return None
    choices = []
    for cost, traces in views:
        places = [at for trace in traces for at in trace["x"]]
        changes = {at: {name: trace[name] for name in ("x", "y", "text", "error_y")} for at, trace in enumerate(traces)}
        label = f"{words(metric)} against {title(cost)}"
        choices.append(Choice(label, changes, {"xaxis": value_axis(cost, places)}, _shipped_caption(data, cost)))
    layout = {**choices[0].layout, "yaxis": {"title": {"text": words(metric)}}, "legend": LEGEND}
    several = len(choices) > 1
    return Figure(
        "shipped", views[0][1], layout, choices[0].caption, "Axes" if several else "", choices if several else ()
    )


def _shipped_costs(data: RunData) -> list[str]:
    """Return the axes that what shipped is drawn against: by a score, the main cost; then each device's latency."""
    devices = dict.fromkeys(
        Cost(name, device=device).column
        for card in data.cards.values()
        for device, entry in card.latency_ms.items()
        for name in entry.figures()
        if name in _COUNTED
    )
    first = [main_cost(data).column] if data.scored_for else []
    return [*first, *(cost for cost in devices if cost not in first)]


def _shipped(data: RunData, metric: str, cost: str) -> list[Spec]:
    """Return the marks of baselines, networks and the reference, of validation and of test data."""
    traces = []
    for split, colour in _COLOURS.items():
        kinds: list[tuple[str, list[_Network], Spec]] = [
            ("baselines", _deployed(data.baselines, cost), {"size": 9, "symbol": "square-open"}),
            ("networks", _deployed(data.shipped, cost), {"size": 10}),
            ("reference", _reference(data, cost), {"size": 15, "symbol": ["star", "star-open"]}),
        ]
        traces += [
            _scored(name, networks, metric, split, marker | {"color": colour})
            for name, networks, marker in kinds
            if name == "networks" or (data.baselines if name == "baselines" else SEED_ID in data.cards)
        ]
    return traces


def _shipped_caption(data: RunData, cost: str) -> str:
    full = ", the open one before quantization, in FP32" if len(_reference(data, cost)) > 1 else ""
    entries = (_latency_of(card, cost) for card in data.cards.values())
    told = next((entry.kernels for entry in entries if entry is not None), "")
    return (
        "Each network as it ships, scored in the runtime that will run it: mean and one standard deviation over its "
        f"trainings. The star is the reference, quantized likewise{full}. Nothing was chosen by test data."
        f"{f' Latency: {told}.' if told else ''}"
    )


def _deployed(cards: Mapping[str, Card], cost: str) -> list[_Network]:
    """Return the networks whose cost is known."""
    found = [(name, card.costs_everywhere().get(cost), card) for name, card in cards.items()]
    return [_Network(name, value, card, "deployed") for name, value, card in found if value is not None]


def _latency_of(card: Card, cost: str) -> Latency | None:
    """Return what a network takes on the device that a cost names."""
    return card.latency_ms.get(cost.partition("@")[2])


def _whole(data: RunData, cost: str) -> float | None:
    """Return what the reference costs in FP32; None where it was not recorded."""
    return finite(data.reference_costs.get(Cost(cost, float_=True).column))


def _reference(data: RunData, cost: str) -> list[_Network]:
    """Return the reference as deployed and, where its cost is known, in FP32."""
    deployed = _deployed({name: card for name, card in data.cards.items() if name == SEED_ID}, cost)
    whole = _whole(data, cost)
    found = [replace(network, name="reference, deployed") for network in deployed]
    return found + [_Network("reference, FP32", whole, n.card, "float") for n in deployed if whole is not None]


def _scored(named: str, networks: Sequence[_Network], metric: str, split: SplitName, marker: Spec) -> Spec:
    """Return marks with error bars."""
    found = [
        (network, score)
        for network in networks
        if (score := statistic(network.card, network.precision, split, metric)) is not None
    ]
    texts = [
        hover(
            [
                f"{network.name}, {SPLITS[split]}",
                f"{words(metric)} {number(score.mean)} ± {number(score.std)} ({count(score.n, 'training')})",
                number(network.cost),
            ]
        )
        for network, score in found
    ]
    error = {"type": "data", "array": [score.std for _, score in found], "thickness": 1.4, "width": 4}
    return _BASE | {
        "name": f"{named}, {SPLITS[split]}",
        "marker": marker,
        "error_y": error | {"color": marker["color"]},
        "x": [network.cost for network, _ in found],
        "y": [score.mean for _, score in found],
        "text": texts,
    }


def quantization_plot(data: RunData) -> Figure | None:
    """Draw deployed minus float for each finalist, a choice for each metric; None without finalists."""
    rows = sorted(data.finalists, key=lambda row: (finite(row.get("weight_bytes")) or 0.0, str(row.get("key"))))
    metrics = [metric for metric in _metrics(data) if any(_cost(row, metric, "val") is not None for row in rows)]
    if not metrics:
        return None
    views = [({place: _bars(rows, metric, split) for place, split in enumerate(SPLITS)}, metric) for metric in metrics]
    base: Spec = {"type": "bar", "orientation": "h", "textposition": "none"}
    traces = [
        base | {"name": SPLITS[split], "marker": {"color": colour}, "hovertemplate": HOVER} | views[0][0][place]
        for place, (split, colour) in enumerate(_COLOURS.items())
    ]
    layouts = [{"xaxis": {"title": {"text": f"{words(metric)}, deployed minus float"}}} for metric in metrics]
    shared: Spec = {
        "barmode": "group",
        "bargap": 0.3,
        "yaxis": {"type": "category", "autorange": "reversed", "ticks": ""},
    }
    shared |= {"legend": LEGEND | {"traceorder": "normal"}}
    choices = [
        Choice(words(metric), view, layout, _caption(data, metric))
        for (view, metric), layout in zip(views, layouts, strict=True)
    ]
    return Figure(
        "quantization",
        traces,
        shared | layouts[0] | {"shapes": [_zero()]},
        _caption(data, metrics[0]),
        "Metric" if len(metrics) > 1 else "",
        choices if len(metrics) > 1 else (),
        height=130 + 44 * len(rows),
        least=440,
    )


_MOST_LAYERS = 20


def noise_plot(data: RunData) -> Figure | None:
    """Draw which layers' integers make a shipped model's noise, a choice for each model; None where no card says."""
    known = {name: card for name, card in data.cards.items() if card.layer_noise}
    if not known:
        return None
    views = {name: _noise(card.layer_noise[:_MOST_LAYERS]) for name, card in known.items()}
    names = list(known)
    layout: Spec = {
        "xaxis": {"title": {"text": "share of the outputs' noise"}, "tickformat": ".0%"},
        "yaxis": {"type": "category", "autorange": "reversed", "ticks": "", "automargin": True},
        "shapes": [_zero()],
    }
    caption = (
        "By how much the noise of the outputs falls when one layer alone is computed in float, everything else in "
        f"exact integers; at most {_MOST_LAYERS} layers. Shares need not add up: errors of one layer feed another's, "
        "and what is rounded between layers belongs to none."
    )
    base: Spec = {"type": "bar", "orientation": "h", "hovertemplate": HOVER, "textposition": "none"}
    choices = [Choice(name, {0: views[name]}) for name in names]
    most = max(min(len(card.layer_noise), _MOST_LAYERS) for card in known.values())
    return Figure(
        "noise", [base | {"marker": {"color": ACCENT}} | views[names[0]]], layout, caption, "Model",
        choices if len(names) > 1 else (), height=120 + 22 * most,
    )  # fmt: skip


def _noise(layers: Sequence[LayerNoise]) -> Spec:
    texts = [
        hover([f"{layer.layer} ({layer.operator})", f"{layer.share:.1%} of the noise",
               f"its own output: {layer.own_sqnr_db:.1f} dB"])
        for layer in layers
    ]  # fmt: skip
    return {"y": [layer.layer for layer in layers], "x": [round(layer.share, 4) for layer in layers], "text": texts}


def _metrics(data: RunData) -> list[str]:
    """Return the metrics of the finalists, those of the objectives first."""
    columns = [name.removesuffix(_MEAN) for row in data.finalists[:1] for name in row if name.endswith(_MEAN)]
    held = [found.name for column in columns if isinstance(found := measure_of(column), Metric)]
    return list(dict.fromkeys([*(metric.name for metric in data.scores), *held]))


def _mean(row: Row, metric: str, precision: Precision, split: SplitName) -> float | None:
    return finite(row.get(f"{Metric(metric, precision).column}_{split}_mean"))


def _cost(row: Row, metric: str, split: SplitName) -> float | None:
    deployed, exact = _mean(row, metric, "deployed", split), _mean(row, metric, "float", split)
    return None if deployed is None or exact is None else deployed - exact


def _bars(rows: Sequence[Row], metric: str, split: SplitName) -> Spec:
    names, values, texts = [], [], []
    for row in rows:
        cost = _cost(row, metric, split)
        if cost is None:
            continue
        name = name_of(row)
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
    searched = next((objective for objective in data.scores if objective.name == metric), Metric(metric))
    worse = "Right" if searched.direction == "minimize" else "Left"
    return (
        f"Mean score of the file as it ships minus that of the same trainings in float, for each finalist, the "
        f"smallest on top. {worse} of 0, quantization made {words(metric)} worse. Test data is shown, nothing was "
        f"chosen by it."
    )
