"""Neighbours of a candidate: one setting is another, and what hangs on it is drawn anew."""

from __future__ import annotations

from typing import cast

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from qanas.core.candidate import Candidate, Value
from qanas.search_space.space import SearchSpace, drawn

STEP = 0.2
"""Standard deviation of a step of a number, relative to its range, on the scale that it is drawn on."""


def mutated(space: SearchSpace, candidate: Candidate, generator: np.random.Generator, changes: int = 1) -> Candidate:
    """Return a candidate in which some free settings are others.

    Numbers take a step, choices another option. Settings that the changed candidate has and the old one had not, or
    had outside of their range, are drawn.

    Args:
        space: of both.
        candidate: any, such as the reference.
        generator: of all that is random.
        changes: how many settings.
    """
    values, ranges = space.parameters(candidate)
    movable = [name for name, found in ranges.items() if not found.single()]
    if not movable:
        return space.random(generator)
    chosen = generator.choice(len(movable), min(changes, len(movable)), replace=False)
    moved = {movable[place] for place in chosen.tolist()}

    def choose(name: str, distribution: BaseDistribution) -> Value:
        if name not in values:
            return drawn(distribution, generator)
        return stepped(distribution, values[name], generator) if name in moved else values[name]

    return space.sample(choose)


def stepped(distribution: BaseDistribution, value: Value, generator: np.random.Generator) -> Value:
    """Return another value of a range, near the given one where values have an order."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            others = [option for option in choices if option != value]  # the reference may have 6 for an option 6.0
            return cast("Value", others[int(generator.integers(len(others)))]) if others else value
        case IntDistribution(low=low, high=high, log=log) | FloatDistribution(low=low, high=high, log=log):
            first, last = (np.log(low), np.log(high)) if log else (low, high)
            at = np.log(value) if log else float(value)
            step = generator.normal(0, STEP * (last - first))
            moved = float(np.clip(at + step, first, last))
            if moved == at and isinstance(distribution, FloatDistribution):  # beyond the end at which it is
                moved = float(np.clip(at - step, first, last))
            moved = float(np.clip(np.exp(moved) if log else moved, low, high))
            if isinstance(distribution, FloatDistribution):
                return moved
            whole = round(moved)
            if whole == value and high > low:
                whole = int(value) + (1 if value == low or (value != high and generator.random() < 0.5) else -1)  # noqa: PLR2004 - up or down
            return int(np.clip(whole, low, high))
    raise TypeError(f"no setting has a {type(distribution).__name__}")
