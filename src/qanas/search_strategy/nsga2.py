"""NSGA-II (Deb et al. 2002): evolution by non-domination rank and crowding distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from optuna.samplers import BaseSampler, NSGAIISampler
from pydantic import Field

from qanas.search_strategy.base import SamplingStrategy


@dataclass(frozen=True)
class NSGA2(SamplingStrategy):
    """Crosses settings of two parents that both have; others are drawn at random, as are mutated ones.

    Attributes:
        population_size: trials a generation; the first generation is random.
    """

    population_size: Annotated[int, Field(ge=2)] = 20

    def sampler(self, seed: int) -> BaseSampler:
        """Return Optuna's NSGA-II sampler; which generation a trial is of is kept in the study."""
        return NSGAIISampler(population_size=self.population_size, seed=seed)
