"""Models and the scores that they have to reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qanas.core.card import Card, SplitName, sound
from qanas.core.measures import Cost, Goal, Limit


def told(goals: Sequence[Goal]) -> str:
    """Return goals in words."""
    return " and ".join(goal.told() for goal in goals)


def scores(card: Card, goals: Sequence[Goal], split: SplitName = "val") -> str:
    """Return what a model scores in what goals are about."""
    return ", ".join(f"{goal.metric.name} {card.scored(goal, split):.4g}" for goal in goals)


def within(card: Card, limits: Sequence[Limit]) -> bool:
    """Tell whether a model is within the limits, as far as its card has the costs that they are on."""
    costs = card.costs_everywhere()
    return all(limit.excess(costs) <= 0 for limit in limits if limit.cost.column in costs)


def size(card: Card, cost: Cost) -> tuple[float, int, int]:
    """Return by what one model is smaller than another: a cost, and of equals the weights, and then the file."""
    return card.paid(cost), card.weight_bytes, card.file_bytes


def smallest(cards: Mapping[str, Card], limits: Sequence[Limit], goals: Sequence[Goal], cost: Cost) -> str | None:
    """Return the smallest model within the limits that is a success and reaches every goal; None where none does.

    Args:
        cards: by name.
        limits: bounds on costs.
        goals: bounds on scores, on validation data.
        cost: by which one is smaller than another.
    """
    found = [name for name, card in sound(cards).items() if within(card, limits) and card.reaches(goals)]
    return min(found, key=lambda name: (*size(cards[name], cost), name), default=None)


def closest(cards: Mapping[str, Card], goals: Sequence[Goal]) -> str:
    """Return the model that is a success and misses the goals by least."""
    usable = sound(cards)

    def lacking(name: str) -> float:
        return max(goal.lacking(usable[name].scored(goal, "val")) for goal in goals)

    return min(usable, key=lambda name: (lacking(name), name))
