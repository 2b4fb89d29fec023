"""Settings of the group ``training`` that each layer has of its own: how weights start, and how they are penalised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qanas.core.candidate import Value
from qanas.search_space.settings import Choice, Condition, Float, OneOf, Setting

REGULARIZERS = ("none", "l1", "l2")


@dataclass(frozen=True)
class Penalty:
    """A penalty on a tensor of weights as in Keras: ``l1 * sum(|w|) + l2 * sum(w^2)`` is added to the loss.

    Attributes:
        l1: coefficient of the magnitudes.
        l2: coefficient of the squares.
    """

    l1: float = 0.0
    l2: float = 0.0


def regularizer_settings(weights: str, layer: int, exists: Condition | None) -> list[Setting]:
    """Return which penalty some weights of a layer have, and its strength if they have one.

    Strengths reach up to 0.01, Keras's default; the reference has none.

    Args:
        weights: such as "kernel".
        layer: its number, from 1.
        exists: the condition under which the layer does.
    """
    name = f"{weights}_regularizer_{layer}"
    penalised = OneOf(name, ("l1", "l2"))
    return [
        Choice(name, "training", "none", options=REGULARIZERS, condition=exists),
        Float(f"{weights}_penalty_{layer}", "training", 1e-5, low=1e-7, high=1e-2, log=True, condition=penalised),
    ]


def initializer_setting(
    weights: str, layer: int, exists: Condition | None, options: Sequence[str], reference: str
) -> Setting:
    """Return how some weights of a layer are drawn.

    Args:
        weights: such as "kernel".
        layer: its number, from 1.
        exists: the condition under which the layer does.
        options: names of initializers.
        reference: the reference network's.
    """
    return Choice(f"{weights}_initializer_{layer}", "training", reference, options=tuple(options), condition=exists)


def penalty_of(training: Mapping[str, Value], weights: str, layer: int) -> Penalty | None:
    """Return the penalty that a candidate's group ``training`` puts on some weights, or None."""
    regularizer = training.get(f"{weights}_regularizer_{layer}", "none")
    if regularizer == "none":
        return None
    return Penalty(**{str(regularizer): float(training[f"{weights}_penalty_{layer}"])})
