"""Aging evolution (Real et al. 2019), for several objectives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from qanas.search_space.mutation import mutated
from qanas.search_space.space import SearchSpace
from qanas.search_space.start import Proposal
from qanas.search_strategy.base import History, Sampler
from qanas.search_strategy.ranking import dominating


@dataclass(frozen=True)
class Evolution(Sampler):
    """Changes one setting of the best of a few networks of the population, which the latest ones are.

    Whoever is good dies of age all the same: what stays has been good each time that it was trained anew, in its
    children (regularized evolution). The best of a few is one that the fewest of the population dominate.

    Attributes:
        population_size: the latest trials that are alive; as many are random at first.
        tournament_size: drawn from them, the best of which has a child.
    """

    population_size: Annotated[int, Field(ge=2)] = 25
    tournament_size: Annotated[int, Field(ge=2)] = 8

    def ask(self, space: SearchSpace, history: History, seed: int) -> Proposal:
        """Return a child, or a random candidate at first."""
        generator = np.random.default_rng(seed)
        measured = [record for record in history.records if record.outcome == "measured"]
        if len(measured) < self.population_size:
            return Proposal(space.random(generator))
        alive = measured[-self.population_size :]
        beaten_by = dominating(alive, history.axes)
        places = generator.choice(len(alive), min(self.tournament_size, len(alive)), replace=False)
        best = alive[min(places.tolist(), key=lambda place: int(beaten_by[place]))]  # of equals the first drawn
        return Proposal(mutated(space, best.candidate, generator))
