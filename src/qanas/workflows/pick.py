"""One answer from a run: the best shipped model within some limits."""

from __future__ import annotations

from dataclasses import dataclass

from qanas.core.card import Card
from qanas.core.errors import InputError
from qanas.core.measurement import Direction, Limit
from qanas.core.run_folder import RunFolder
from qanas.core.suggestions import unknown


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
    name, equals, bound = text.partition("=")
    try:
        value = float(bound)
    except ValueError:
        equals = ""
        value = 0.0
    if not equals:
        raise InputError(f"--limit {text}: give a cost and a number, such as --limit weight_bytes=20000")
    return Limit(name.strip(), value)


def pick_model(folder: RunFolder, limits: list[Limit], metric: str, direction: Direction) -> Pick:
    """Return the shipped model with the best deployed validation score within the limits.

    Of models with equal scores the smaller one is taken.

    Args:
        folder: of the run.
        limits: bounds on costs of the cards.
        metric: that decides.
        direction: which way it is better.

    Raises:
        InputError: no model was shipped, an unknown cost, or no model within the limits.
    """
    cards = folder.cards()
    if not cards:
        raise InputError(f"{folder.models}: no model was shipped; run the recipe first")
    for limit in limits:
        known = next(iter(cards.values())).costs()
        if limit.cost not in known:
            raise InputError(f"--limit {limit.cost}: {unknown('cost', limit.cost, known)}")
    within = {name: card for name, card in cards.items() if all(limit.excess(card.costs()) <= 0 for limit in limits)}
    if not within:
        closest = min(cards, key=lambda name: max(limit.excess(cards[name].costs()) for limit in limits))
        costs = ", ".join(f"{limit.cost} {cards[closest].costs()[limit.cost]:g}" for limit in limits)
        raise InputError(f"no shipped model is within the limits; the closest is {closest} with {costs}")
    sign = 1.0 if direction == "minimize" else -1.0

    def rank(name: str) -> tuple[float, int]:
        return sign * _score(cards[name], metric), cards[name].weight_bytes

    best = min(within, key=rank)
    return Pick(best, _reason(cards[best], metric, limits, len(within), len(cards)))


def _score(card: Card, metric: str) -> float:
    return card.metric("deployed", "val", metric).shipped


def _reason(card: Card, metric: str, limits: list[Limit], within: int, total: int) -> str:
    bounds = " and ".join(f"{limit.cost} <= {limit.bound:g}" for limit in limits) or "no limit"
    score = card.metric("deployed", "val", metric)
    return (
        f"best deployed validation {metric} ({score.shipped:.4g}; mean {score.mean:.4g} +- {score.std:.2g} over "
        f"{score.n} trainings) of the {within} of {total} shipped models with {bounds}; "
        f"{card.weight_bytes} weight bytes, {card.file_bytes} file bytes, {card.peak_ram_bytes} bytes of RAM"
    )
