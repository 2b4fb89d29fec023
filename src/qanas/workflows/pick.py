"""One answer from a run: the best shipped model within some limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from qanas.core.card import Card
from qanas.core.errors import InputError, unknown
from qanas.core.measures import COST_UNITS, Cost, Limit, Metric, measure_of
from qanas.core.run_folder import RunFolder


@dataclass(frozen=True)
class Pick:
    """The answer.

    Attributes:
        identity: of the model's folder.
        reason: why this one.
    """

    identity: str
    reason: str


def parse_limit(text: str) -> Limit:
    """Read ``cost=bound``.

    Raises:
        InputError: it is something else.
    """
    name, _, bound = text.partition("=")
    try:
        value = float(bound)
    except ValueError:
        value = math.nan
    if not name.strip() or math.isnan(value):
        raise InputError(f"--limit {text}: give a cost and a number, such as --limit weight_bytes=20000")
    cost = Cost.parse(name.strip())
    if cost is None:
        raise InputError(f"--limit {name.strip()}: {unknown('cost', name.strip(), COST_UNITS)}")
    return Limit(cost, value)


def pick_model(folder: RunFolder, limits: list[Limit]) -> Pick:
    """Return the best shipped model within the limits, from the run's files alone.

    The best one has the best deployed validation score, in the metric of the first objective that is about one;
    of equal ones the smaller. Where all objectives are costs, the smallest model is the best.

    Args:
        folder: of the run.
        limits: bounds on costs of the cards.

    Raises:
        InputError: no model was shipped, an unknown cost, or no model within the limits.
    """
    cards = folder.cards()
    if not cards:
        raise InputError(f"{folder.models}: no model was shipped; run the recipe first")
    for limit in limits:
        known = next(iter(cards.values())).costs()
        if limit.cost.column not in known:
            raise InputError(f"--limit {limit.cost.column}: {unknown('cost', limit.cost.column, known)}")
    within = {name: card for name, card in cards.items() if all(limit.excess(card.costs()) <= 0 for limit in limits)}
    if not within:
        closest = min(cards, key=lambda name: max(limit.excess(cards[name].costs()) for limit in limits))
        costs = ", ".join(f"{limit.cost.column} {cards[closest].costs()[limit.cost.column]:g}" for limit in limits)
        raise InputError(f"no shipped model is within the limits; the closest is {closest} with {costs}")
    score = _score(folder, cards)

    def rank(name: str) -> tuple[float, int]:
        loss = score.loss(cards[name].metric("deployed", "val", score.name).shipped) if score is not None else 0.0
        return loss, cards[name].weight_bytes

    best = min(within, key=rank)
    return Pick(best, _reason(cards[best], score, limits, len(within), len(cards)))


def _score(folder: RunFolder, cards: Mapping[str, Card]) -> Metric | None:
    """Return the metric of the first objective that is about one."""
    known = next(iter(cards.values())).metrics["deployed"]["val"]
    for column, direction in folder.read_recipe()["objectives"].items():
        measure = measure_of(column)
        if isinstance(measure, Metric) and measure.name in known:
            return Metric(measure.name, "deployed", direction)
    return None


def _reason(card: Card, score: Metric | None, limits: list[Limit], within: int, total: int) -> str:
    bounds = " and ".join(f"{limit.cost.column} <= {limit.bound:g}" for limit in limits) or "no limit"
    best = "smallest"
    if score is not None:
        found = card.metric("deployed", "val", score.name)
        best = (
            f"best deployed validation {score.name} ({found.shipped:.4g}; mean {found.mean:.4g} +- {found.std:.2g} "
            f"over {found.n} trainings)"
        )
    return (
        f"{best} of the {within} of {total} shipped models with {bounds}; "
        f"{card.weight_bytes} weight bytes, {card.file_bytes} file bytes, {card.peak_ram_bytes} bytes of RAM"
    )
