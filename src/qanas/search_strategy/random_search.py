"""Random search (Bergstra & Bengio 2012): the baseline that every other strategy has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from optuna.samplers import BaseSampler, RandomSampler

from qanas.search_strategy.base import SamplingStrategy


@dataclass(frozen=True)
class RandomSearch(SamplingStrategy):
    """Draws every setting independently from its range."""

    def sampler(self, seed: int) -> BaseSampler:
        """Return Optuna's random sampler."""
        return RandomSampler(seed=seed)
