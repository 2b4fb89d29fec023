"""Search by reinforcement learning (Zoph & Le 2017; Zoph et al. 2018): a policy learns which settings pay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import Field

from qanas.core.candidate import Value
from qanas.core.measures import Measure
from qanas.core.trials import TrialRecord
from qanas.search_space.space import SearchSpace, drawn
from qanas.search_space.start import Proposal
from qanas.search_strategy.base import History, Sampler
from qanas.search_strategy.ranking import losses_of

MOST_ACTIONS = 6
"""Of a number: equal parts of its range, on the scale that it is drawn on."""

Logits = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Reinforce(Sampler):
    """REINFORCE with a moving baseline; one softmax a setting, as if each were chosen by itself.

    A trial's reward is the share of the trials before it that don't dominate it, 0 where it was over a limit or failed.
    The policy is never stored: it is learnt anew from the history for every proposal, a step a trial, which takes
    milliseconds. So a resumed search goes on exactly as one that wasn't interrupted.

    Attributes:
        learning_rate: of the policy's logits.
        baseline_decay: of the moving average that rewards are compared with.
        exploration: weight of the policy's entropy: the larger, the longer all is tried.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 0.3
    baseline_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    exploration: Annotated[float, Field(ge=0)] = 0.02

    def ask(self, space: SearchSpace, history: History, seed: int) -> Proposal:
        """Draw a candidate from the policy that the history has taught."""
        generator = np.random.default_rng(seed)
        logits = self.policy(space, history)

        def choose(name: str, distribution: BaseDistribution) -> Value:
            chances = _softmax(logits[name])
            return _value_of(distribution, int(generator.choice(len(chances), p=chances)), generator)

        return Proposal(space.sample(choose))

    def policy(self, space: SearchSpace, history: History) -> Logits:
        """Return the logits of each setting's actions, shape (actions,), after the trials so far."""
        ranges = {setting.name: setting.distribution for setting in space.settings if setting.group in space.free}
        logits: Logits = {name: np.zeros(_actions(found)) for name, found in ranges.items()}
        baseline: float | None = None
        for record, reward in zip(history.records, rewards(history.records, history.axes), strict=True):
            advantage = 0.0 if baseline is None else reward - baseline
            kept = self.baseline_decay
            baseline = reward if baseline is None else kept * baseline + (1 - kept) * reward
            values, found = space.parameters(record.candidate)
            for name, value in values.items():
                chances = _softmax(logits[name])
                taken = np.eye(len(chances))[_action_of(found[name], value)]
                surprise = np.log(chances)
                entropy = chances * ((chances * surprise).sum() - surprise)
                logits[name] += self.learning_rate * (advantage * (taken - chances) + self.exploration * entropy)
        return logits


def rewards(records: Sequence[TrialRecord], axes: Sequence[Measure]) -> list[float]:
    """Return a reward a trial: the share of those before it that don't dominate it; 0 where nothing was scored."""
    measured = [number for number, record in enumerate(records) if record.outcome == "measured"]
    losses = losses_of([records[number] for number in measured], axes)
    found = [0.0] * len(records)
    for place, number in enumerate(measured):
        before, own = losses[:place], losses[place]
        beaten = (before <= own).all(axis=1) & (before < own).any(axis=1)
        found[number] = 1.0 - float(beaten.mean()) if place else 1.0
    return found


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    chances: NDArray[np.float64] = powers / powers.sum()
    return chances


def _actions(distribution: BaseDistribution) -> int:
    """Return how many actions a setting has."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return len(choices)
        case IntDistribution(low=low, high=high):
            return min(MOST_ACTIONS, high - low + 1)
    return 1 if distribution.single() else MOST_ACTIONS


def _bounds(distribution: IntDistribution | FloatDistribution) -> tuple[float, float]:
    """Return a range's ends on its scale; whole numbers take half of the way to their neighbours."""
    half = 0.5 if isinstance(distribution, IntDistribution) else 0.0
    low, high = distribution.low - half, distribution.high + half
    return (float(np.log(low)), float(np.log(high))) if distribution.log else (low, high)


def _action_of(distribution: BaseDistribution, value: Value) -> int:
    """Return the action that leads to a value."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices.index(value)
    assert isinstance(distribution, IntDistribution | FloatDistribution)  # noqa: S101 - there are no others
    first, last = _bounds(distribution)
    at = float(np.log(value)) if distribution.log else float(value)
    count = _actions(distribution)
    return min(count - 1, max(0, int((at - first) / (last - first) * count))) if last > first else 0


def _value_of(distribution: BaseDistribution, action: int, generator: np.random.Generator) -> Value:
    """Draw a value that an action leads to."""
    if isinstance(distribution, CategoricalDistribution):
        return cast("Value", distribution.choices[action])
    if distribution.single():
        return drawn(distribution, generator)
    assert isinstance(distribution, IntDistribution | FloatDistribution)  # noqa: S101 - there are no others
    first, last = _bounds(distribution)
    at = first + (last - first) * (action + generator.random()) / _actions(distribution)
    plain = float(np.clip(np.exp(at) if distribution.log else at, distribution.low, distribution.high))
    whole = isinstance(distribution, IntDistribution)
    return int(np.clip(round(plain), distribution.low, distribution.high)) if whole else plain
