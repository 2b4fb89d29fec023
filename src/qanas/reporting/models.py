"""The shipped models as a table: what they cost, and how they score in the runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qanas.core.card import common_cost
from qanas.core.measures import COST_UNITS, DEVICE_COSTS, Cost, Precision
from qanas.core.run_folder import SEED_ID
from qanas.reporting.wording import COST_WORDS, EMPTY, SPLITS, count, decimals, number, signed, words

if TYPE_CHECKING:
    from qanas.core.card import Card, SplitName, Statistic
    from qanas.reporting.run_data import RunData


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: with the digits that a reader can use.
        exact: every digit; empty where the text has them.
        note: what qualifies the number.
    """

    text: str
    exact: str = ""
    note: str = ""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: what it holds.
        unit: or what qualifies all its cells.
        cells: one a model.
        brief: also on the terminal.
    """

    title: str
    unit: str
    cells: list[Cell]
    brief: bool = True


@dataclass(frozen=True)
class ModelTable:
    """All shipped models.

    Attributes:
        names: of the models' folders.
        columns: what is known of them.
    """

    names: list[str]
    columns: list[Column]


def statistic(card: Card, precision: Precision, split: SplitName, metric: str) -> Statistic | None:
    """Return one metric of a card; None where it was not measured."""
    return card.metrics.get(precision, {}).get(split, {}).get(metric)


def main_metric(data: RunData) -> str | None:
    """Return the metric of the first objective that is one, or else the first that the cards hold."""
    held = [
        name
        for card in data.cards.values()
        for splits in card.metrics.values()
        for metrics in splits.values()
        for name in metrics
    ]
    wanted = [objective.name for objective in data.scores]
    return next((name for name in [*wanted, *held] if name in held), None)


def main_cost(data: RunData) -> Cost:
    """Return the cost by which one model is smaller than another."""
    return common_cost(data.costs, data.cards.values())


def sized(cost: Cost, card: Card) -> str:
    """Write what a model costs, in words."""
    value, kind = number(card.paid(cost)), COST_WORDS[cost.name]
    told = f"{value} {kind}" if kind == cost.unit else f"{value} {cost.unit} of {kind}"
    return f"{told} on {cost.device}" if cost.device else told


def model_table(data: RunData) -> ModelTable:
    """Return the table of shipped models, the reference first."""
    cards = list(data.cards.values())
    named = [name for name in COST_WORDS if name not in DEVICE_COSTS and any(name in c.costs() for c in cards)]
    first = main_cost(data)
    columns = [_cost(name, cards, brief=name in _BRIEF or name == first.column) for name in named]
    figures = dict.fromkeys(
        (d, name) for card in cards for d, entry in card.latency_ms.items() for name in entry.figures()
    )
    latencies = [_latency(device, name, cards) for device, name in figures]
    # What was searched for stands first: a narrow terminal has room for few.
    columns = [*latencies, *columns] if first.of_device else [*columns, *latencies]
    metric = main_metric(data)
    if metric is not None:
        columns += [_score(metric, split, cards) for split in SPLITS]
        columns += [_interval(metric, split, cards) for split in SPLITS if _has_intervals(metric, split, cards)]
        columns += _differences(data, metric)
        columns.append(_quantization_cost(metric, cards))
        if any(card.learning is not None for card in cards):
            columns.append(_train_score(metric, cards))
    if data.goals:
        cells = [Cell("reached" if card.reaches(data.goals) else "missed") for card in cards]
        columns.append(Column("goal", " and ".join(goal.told() for goal in data.goals), cells))
    columns.append(_parity(cards))
    return ModelTable(list(data.cards), columns)


def metric_table(data: RunData) -> tuple[list[str], list[tuple[str, str, list[Cell]]]]:
    """Return every metric of every model: the columns' titles, and a row for each model and precision."""
    cards = data.cards
    metrics = dict.fromkeys(
        (metric, split)
        for card in cards.values()
        for splits in card.metrics.values()
        for split, held in splits.items()
        for metric in held
    )
    order = sorted(metrics, key=lambda pair: list(SPLITS).index(pair[1]))
    rows = []
    for name, card in cards.items():
        for precision in card.metrics:
            found = (statistic(card, precision, split, metric) for metric, split in order)
            rows.append((name, str(precision), [_statistic_cell(entry) for entry in found]))
    return [f"{words(metric)}, {SPLITS[split]}" for metric, split in order], rows


_MOST_COMPARED = 3  # models in the table of classes

_BRIEF = ("file_bytes", "arena_bytes", "peak_ram_bytes", "macs")
"""Costs that the terminal shows in any case: flash and RAM, and what they are made of."""


def _cost(name: str, cards: list[Card], *, brief: bool) -> Column:
    heading, unit = COST_WORDS[name], COST_UNITS[name]
    values = [card.costs().get(name) for card in cards]
    cells = [Cell(EMPTY) if value is None else Cell(number(int(value)), str(int(value))) for value in values]
    return Column(heading, "" if unit == heading else unit, cells, brief=brief)


def costs_note(data: RunData) -> str:
    """Explain what the columns of memory are, and packed weights where they are more than those that are stored."""
    cards = data.cards.values()
    told = ["Flash holds the file, weights and all."]
    if any(card.arena_bytes is not None for card in cards):
        told.append(
            "RAM is the arena: what TFLite Micro has to be given, its own book-keeping included, as firmware declares "
            "it. Planned RAM is its tensors alone."
        )
    if any(card.packed_weight_bytes > card.weight_bytes for card in cards):
        told.append(
            "Packed weights are what papers count: every weight with its bits, and 4 bytes for each scale. Where they "
            "are more than the weights, it is by the scales, which the file has elsewhere."
        )
    return " ".join(told)


def _latency(device: str, figure: str, cards: list[Card]) -> Column:
    """Return what one inference takes on a device; how that was had, each cell tells when it is pointed at."""
    cells = []
    for card in cards:
        entry = card.latency_ms.get(device)
        value = None if entry is None else entry.figures().get(figure)
        told = EMPTY if entry is None or value is None else number(value)
        cells.append(Cell(told) if entry is None else Cell(told, f"{value!r}, {entry.kernels}"))
    return Column(f"{COST_WORDS[figure]}, {device}", COST_UNITS[figure], cells)


def _score(metric: str, split: SplitName, cards: list[Card]) -> Column:
    cells = [_statistic_cell(statistic(card, "deployed", split, metric)) for card in cards]
    return Column(f"{words(metric)}, {SPLITS[split]}", "deployed", cells)


def _statistic_cell(found: Statistic | None) -> Cell:
    if found is None:
        return Cell(EMPTY)
    places = decimals(found.mean)
    spread = f" ± {number(found.std, places)} ({found.n})" if found.n > 1 else " (1)"
    return Cell(
        f"{number(found.mean, places)}{spread}", f"mean {found.mean!r}, sd {found.std!r}, shipped {found.shipped!r}"
    )


def _has_intervals(metric: str, split: SplitName, cards: list[Card]) -> bool:
    return any(card.intervals and metric in card.intervals.deployed.get(split, {}) for card in cards)


def _interval(metric: str, split: SplitName, cards: list[Card]) -> Column:
    """Return where the shipped training's score would lie on other units of the same kind."""
    cells, told = [], ""
    for card in cards:
        bounds = card.intervals.deployed.get(split, {}).get(metric) if card.intervals is not None else None
        if bounds is None or card.intervals is None:
            cells.append(Cell(EMPTY))
        else:
            told = f"{card.intervals.level:.0%} over {count(card.intervals.units[split], card.intervals.unit)}"
            cells.append(Cell(_span(bounds.low, bounds.high), f"{bounds.low!r} to {bounds.high!r}"))
    return Column(f"{words(metric)}, {SPLITS[split]}: interval", told, cells, brief=False)


def _span(low: float, high: float) -> str:
    places = decimals(max(abs(low), abs(high)))
    return f"{number(low, places)} to {number(high, places)}"


def _differences(data: RunData, metric: str) -> list[Column]:
    """Return the intervals of each network's difference from the best one, pair by pair over the same units."""
    verdict = data.summary.get("verdict", {})
    found = verdict.get("difference_from_best", {})
    if verdict.get("metric") != metric or not found:
        return []
    columns = []
    for split, word in SPLITS.items():
        cells = []
        for name in data.cards:
            bounds = found.get(name, {}).get(split)
            if name == verdict.get("best"):
                cells.append(Cell("best"))
            elif bounds is None:
                cells.append(Cell(EMPTY))
            else:
                low, high = (float(bound) for bound in bounds)
                places = max(decimals(max(abs(low), abs(high))), 2)
                text = f"{signed(low, places)} to {signed(high, places)}"
                cells.append(Cell(text, f"{low!r} to {high!r}", "" if low <= 0 <= high else "apart"))
        columns.append(Column(f"from the best, {word}", f"{words(metric)}, paired", cells, brief=False))
    return columns


def _quantization_cost(metric: str, cards: list[Card]) -> Column:
    cells = []
    for card in cards:
        quantized, exact = (statistic(card, precision, "val", metric) for precision in ("quantized", "float"))
        if quantized is None or exact is None:
            cells.append(Cell(EMPTY))
        else:
            difference = quantized.mean - exact.mean
            cells.append(Cell(signed(difference, max(decimals(exact.mean), 2)), repr(difference)))
    return Column("quantization cost", f"{words(metric)}, validation", cells, brief=False)


def _train_score(metric: str, cards: list[Card]) -> Column:
    """Return what the FP32 networks score on data that they were trained on."""
    cells = []
    for card in cards:
        value = card.learning.train.get(metric) if card.learning is not None else None
        cells.append(Cell(EMPTY) if value is None else Cell(number(value), repr(value)))
    return Column(f"{words(metric)}, train", "float, shipped", cells, brief=False)


def class_table(data: RunData) -> tuple[list[str], list[tuple[str, list[Cell]]]] | None:
    """Return how good models are at each class on validation data: titles, and a row a class; None without classes.

    Of the model to take, the best and the reference, as far as they have classes.
    """
    verdict = data.summary.get("verdict", {})
    shown = dict.fromkeys([verdict.get("recommended"), verdict.get("best"), SEED_ID, *data.shipped])
    cards = [data.cards[name] for name in shown if name in data.cards and data.cards[name].classes is not None]
    cards = cards[:_MOST_COMPARED]
    scores = [card.classes.scores["val"] for card in cards if card.classes is not None and "val" in card.classes.scores]
    if not scores:
        return None
    titles = [f"{card.candidate}: {part}" for card in cards for part in ("recall", "precision", "IoU")]
    rows = []
    for name, first in scores[0].items():
        cells = [Cell(number(first.samples))]
        for held in scores:
            found = held[name]
            values = (found.recall, found.precision, found.iou)
            note = "" if found.predicted or not found.samples else "never predicted"
            cells += [Cell(EMPTY if v is None else number(v), "" if v is None else repr(v), note) for v in values]
        rows.append((name, cells))
    return ["samples", *titles], rows


def _parity(cards: list[Card]) -> Column:
    cells = [
        Cell(
            number(card.parity_steps.max),
            f"mean {card.parity_steps.mean!r} over {card.parity_steps.n_outputs} outputs",
            f"({card.parity_steps.mean:.2g})",
        )
        for card in cards
    ]
    return Column("parity", "steps, max (mean)", cells, brief=False)
