"""Search that uses exactly known costs: a random slice of sizes, and in it what may score best."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from pydantic import Field

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
from qanas.core.measures import Cost, Limit, Measure
from qanas.core.pareto import non_dominated
from qanas.core.trials import TrialRecord
from qanas.search_space.encoding import Encoding
from qanas.search_space.mutation import mutated
from qanas.search_space.space import SearchSpace
from qanas.search_space.start import Proposal
from qanas.search_strategy.base import CostsOf, History, Sampler
from qanas.search_strategy.ranking import losses_of
from qanas.search_strategy.slices import Pool, most_promising

RANDOM_ONES, NEIGHBOURS = 60, 80
"""Candidates that a proposal is chosen from: drawn from the whole space, and changed from networks of the front."""

MOST_CHANGES = 3
"""Settings in which a neighbour is another."""

MOST_LEARNT = 400
"""Trials that the process learns from: the front and the latest ones. Its time grows with their number's cube."""


@dataclass(frozen=True)
class SizeAware(Sampler):
    """Models the metric alone; costs, which are exact before any training, are used as they are.

    Each proposal is for a random slice of sizes, and in it the candidate whose predicted score is best, given the
    benefit of the doubt, or for what the front would win most by (`qanas.search_strategy.slices`). Candidates over a
    limit are never proposed where another one is within it.

    Attributes:
        startup_trials: random ones before the model is used.
    """

    startup_trials: Annotated[int, Field(ge=2)] = 10
    _costs_of: CostsOf | None = field(default=None, init=False, repr=False, compare=False)

    def check(self, objectives: Sequence[Measure], limits: Sequence[Limit]) -> None:
        """Refuse objectives without a cost, or without anything else."""
        del limits
        costs = [measure for measure in objectives if isinstance(measure, Cost)]
        if not costs or len(costs) == len(objectives):
            raise InputError(
                "objectives: strategy.name = 'size_aware' weighs a metric against costs; add a cost, such as "
                'weight_bytes = "minimize", or take tpe'
            )

    def costed(self, costs_of: CostsOf) -> SizeAware:
        """Take what costs are had by."""
        taken = copy.copy(self)
        object.__setattr__(taken, "_costs_of", costs_of)
        return taken

    def ask(self, space: SearchSpace, history: History, seed: int) -> Proposal:
        """Return the most promising of many candidates; a random one at first."""
        generator = np.random.default_rng(seed)
        if self._costs_of is None:
            return Proposal(space.random(generator))
        measured = [record for record in history.records if record.outcome == "measured"]
        if len(measured) < self.startup_trials:
            return Proposal(_random_within(space, self._costs_of, history.limits, generator))
        return Proposal(_chosen(space, self._costs_of, history, generator))


def _is_within(costs: Mapping[str, float], limits: Sequence[Limit]) -> bool:
    """Tell whether a candidate can be built and keeps the limits that can be told before it is estimated."""
    sound = bool(costs) and all(math.isfinite(value) for value in costs.values())
    return sound and all(limit.excess(costs) <= 0 for limit in limits if limit.cost.column in costs)


def _random_within(
    space: SearchSpace, costs_of: CostsOf, limits: Sequence[Limit], generator: np.random.Generator
) -> Candidate:
    """Return the first of some random candidates that is within the limits; the last one where none is."""
    for _ in range(RANDOM_ONES):
        candidate = space.random(generator)
        if not limits or _is_within(costs_of(candidate), limits):
            break
    return candidate


def _learnt_from(measured: Sequence[TrialRecord], axes: Sequence[Measure]) -> list[TrialRecord]:
    """Return the trials that the process learns from: all, or the front and the latest ones."""
    if len(measured) <= MOST_LEARNT:
        return list(measured)
    front = non_dominated(losses_of(measured, axes))[:MOST_LEARNT]
    return [measured[place] for place in sorted({*front.tolist(), *range(len(measured) - MOST_LEARNT, len(measured))})]


def _chosen(space: SearchSpace, costs_of: CostsOf, history: History, generator: np.random.Generator) -> Candidate:
    """Return the most promising candidate of a pool; a random one where there is none that wasn't tried."""
    axes = history.axes
    measured = [record for record in history.records if record.outcome == "measured"]
    learnt = _learnt_from(measured, axes)
    values = losses_of(learnt, axes)
    front = [learnt[place].candidate for place in non_dominated(values).tolist()]
    drawn = _drawn(space, front, generator)
    tried = {record.candidate.key for record in measured}
    costed = [(candidate, costs_of(candidate)) for key, candidate in drawn.items() if key not in tried]
    pool = [(candidate, costs) for candidate, costs in costed if _is_within(costs, history.limits)]
    if not pool:
        return _random_within(space, costs_of, history.limits, generator)
    exact = [number for number, axis in enumerate(axes) if axis.column in pool[0][1]]
    unknown = [number for number in range(len(axes)) if number not in exact]
    encoding = Encoding.of(space)
    seen = Pool(encoding.rows_of([record.candidate for record in learnt]), values[:, exact])
    costs = [[axes[number].loss(found[axes[number].column]) for number in exact] for _, found in pool]
    rows = encoding.rows_of([candidate for candidate, _ in pool])
    choices = Pool(rows, np.array(costs, np.float64).reshape(len(pool), -1))
    place = most_promising(encoding.groups, seen, values[:, unknown], choices, int(generator.integers(2**31)))
    return pool[place][0]


def _drawn(space: SearchSpace, front: Sequence[Candidate], generator: np.random.Generator) -> dict[str, Candidate]:
    """Return candidates to choose from, by key: some of the whole space, and neighbours of the front."""
    found = [space.random(generator) for _ in range(RANDOM_ONES)]
    for _ in range(NEIGHBOURS):
        parent = front[int(generator.integers(len(front)))]
        found.append(mutated(space, parent, generator, int(generator.integers(1, MOST_CHANGES + 1))))
    return {candidate.key: candidate for candidate in found}
