"""What a pilot says about how to search: noise, what ranks well for how much, whether training settings matter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from qanas.regression.ranking import best_by_chance, bootstrap_interval, kendall_tau
from qanas.search_space.space import SearchSpace

Array = NDArray[np.float64]

ENOUGH = 0.8
"""The share of the tau of two trainings of the same candidates that an estimator has to reach to be recommended."""

MATTERS = 2.0
"""How many times the noise a difference has to be to matter."""

SMALL_SPACE = 2.0
"""How many times the trials a space may have candidates that random search is enough for."""

NOISE_DRAWS = 200


@dataclass(frozen=True)
class Pilot:
    """What was measured.

    Attributes:
        losses: of full training, a candidate each, shape (n,); less is better.
        repeated: losses of the same candidate from several seeds, at least two each.
        own_and_reference: losses of candidates as they are and with the reference's training settings, pairs.
        estimates: losses that cheaper ways say, by estimator, shape (n,) each.
        cost_shares: what each takes, relative to full training.
        seconds: CPU seconds of a full training, on the mean.
    """

    losses: Array
    repeated: Sequence[Sequence[float]]
    own_and_reference: Sequence[tuple[float, float]]
    estimates: Mapping[str, Array]
    cost_shares: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Advice:
    """What to do, and the figures that led there.

    Attributes:
        strategy: name for ``[strategy]``.
        estimator: name for ``[estimation]``, and what is set.
        search_training: whether to search training settings; None where that wasn't tried.
        reasons: a line each.
        figures: for machines.
    """

    strategy: str
    estimator: str
    search_training: bool | None
    reasons: list[str]
    figures: dict[str, Any] = field(default_factory=dict)


def candidates_of(space: SearchSpace) -> float:
    """Return about how many candidates a space has; infinity where a setting is a real number."""
    total = 1.0
    for setting in space.settings:
        if setting.group in space.free:
            match setting.distribution:
                case CategoricalDistribution(choices=choices):
                    total *= len(choices)
                case IntDistribution(low=low, high=high):
                    total *= high - low + 1
                case FloatDistribution() as found if not found.single():
                    return math.inf
    return total


def noise_of(repeated: Sequence[Sequence[float]]) -> float:
    """Return the pooled standard deviation between repetitions; NaN where nothing was repeated."""
    squares = sum(float(((np.array(values) - np.mean(values)) ** 2).sum()) for values in repeated)
    freedom = sum(len(values) - 1 for values in repeated)
    return math.sqrt(squares / freedom) if freedom else math.nan


def ceiling_of(losses: Array, noise: float) -> float:
    """Return Kendall's tau that two trainings of the same candidates, losses of shape (n,), may be expected to have."""
    generator = np.random.default_rng(0)
    found = [
        kendall_tau(losses, losses + generator.normal(0, math.sqrt(2) * noise, len(losses))) for _ in range(NOISE_DRAWS)
    ]
    return float(np.mean(found))


def advise(pilot: Pilot, space: SearchSpace, trials: int, *, has_cost: bool) -> Advice:
    """Return what to do.

    Args:
        pilot: what was measured.
        space: that is searched.
        trials: that the recipe wants.
        has_cost: whether a cost is among the objectives.
    """
    noise, spread = noise_of(pilot.repeated), float(np.std(pilot.losses))
    ceiling = ceiling_of(pilot.losses, noise) if math.isfinite(noise) else 1.0
    first = (
        f"noise between repetitions {noise:.3g}, spread of {len(pilot.losses)} random candidates {spread:.3g}; two "
        f"trainings of the same candidates may be expected to agree at tau {ceiling:.2f}"
    )
    figures: dict[str, Any] = {"noise": noise, "spread": spread, "ceiling": ceiling, "seconds": pilot.seconds}
    strategy, told = _strategy(space, trials, noise, spread, has_cost=has_cost)
    search_training, trained = _search_training(pilot, noise)
    estimator, ranked = _estimator(pilot, ceiling, figures)
    return Advice(strategy, estimator, search_training, [first, told, trained, *ranked], figures)


def _strategy(space: SearchSpace, trials: int, noise: float, spread: float, *, has_cost: bool) -> tuple[str, str]:
    size = candidates_of(space)
    if size <= SMALL_SPACE * trials:
        return "random", f"the space has about {size:.0f} candidates for {trials} trials: random search is enough"
    if spread < MATTERS * noise:
        return "random", f"candidates differ by less than {MATTERS:g} times the noise: nothing is there to be learnt"
    if has_cost:
        return "size_aware", "costs are known before any training, which size_aware uses"
    return "tpe", "no cost is among the objectives, which size_aware would need"


def _search_training(pilot: Pilot, noise: float) -> tuple[bool | None, str]:
    pairs = np.array(pilot.own_and_reference, np.float64).reshape(-1, 2)
    if not len(pairs):
        return None, "training settings are not searched, or were not tried: nothing to say about them"
    if not math.isfinite(noise):
        return (
            None,
            "no training was repeated, so that noise isn't known: nothing to say about training settings",
        )
    differences = pairs[:, 1] - pairs[:, 0]
    typical = float(np.sqrt(np.mean(differences**2)))
    # Two trainings of the very same settings differ by noise * sqrt(2).
    matters = typical > MATTERS * math.sqrt(2) * noise
    won = int((differences > 0).sum())
    # Repetitions of a coarse metric may all be equal.
    times = typical / (math.sqrt(2) * noise) if noise else math.inf if typical else 0.0
    told = (
        f"the same architecture with random and with the reference's training settings differs by {typical:.3g}, "
        f"{times:.1f} times what repetitions do; random ones won {won} of {len(pairs)}"
    )
    if not matters:
        return False, f"{told}: leave 'training' out of space.search"
    if not won:
        return False, f"{told}: they matter, but the reference's are hard to beat: leave 'training' out of space.search"
    return True, f"{told}: search them"


def _estimator(pilot: Pilot, ceiling: float, figures: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the cheapest estimator that ranks well enough, and better than the best of all would by luck."""
    lines, good = [], []
    figures["tau"] = {}
    luck = best_by_chance(list(pilot.estimates.values()), pilot.losses) if pilot.estimates else 0.0
    figures["best_by_chance"] = luck
    for name, losses in pilot.estimates.items():
        tau, (low, high) = kendall_tau(losses, pilot.losses), bootstrap_interval(losses, pilot.losses)
        share = pilot.cost_shares[name]
        figures["tau"][name] = {"tau": tau, "interval": [low, high], "cost_share": share}
        lines.append(f"{name}: tau {tau:.2f} ({low:.2f} to {high:.2f}) for {share:.2%} of full training")
        if tau >= ENOUGH * ceiling and tau > luck:
            good.append((share, name))
    bar = (
        f"{ENOUGH:g} times the tau of two trainings, and more than the {luck:.2f} that the best of {len(lines)} "
        "that know nothing exceeds in one of twenty pilots"
    )
    if not good:
        return "training", [*lines, f"none reaches {bar}: train in full"]
    share, name = min(good)
    return name, [*lines, f"{name} is the cheapest that reaches {bar}"]
