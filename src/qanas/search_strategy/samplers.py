"""Samplers: random search, TPE, NSGA-II and Gaussian processes, Optuna's own, unchanged."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from typing import Annotated, ClassVar

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from pydantic import Field

from qanas.core.errors import InputError
from qanas.search_space.space import Encoding
from qanas.search_strategy.base import SamplingStrategy


@dataclass(frozen=True)
class RandomSearch(SamplingStrategy):
    """Draws every setting independently from its range."""

    def sampler(self, seed: int) -> BaseSampler:
        """Return Optuna's random sampler."""
        return RandomSampler(seed=seed)


@dataclass(frozen=True)
class TPE(SamplingStrategy):
    """Multivariate TPE: draws settings jointly from where good trials lie dense and others don't.

    Settings that exist together are modelled together (``group``): without it, conditional ones would be drawn
    independently. Trials over a limit count as the worst.

    Attributes:
        startup_trials: random ones before the model is trusted.
    """

    startup_trials: Annotated[int, Field(ge=1)] = 10

    def sampler(self, seed: int) -> BaseSampler:
        """Return Optuna's TPE sampler."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                seed=seed,
                n_startup_trials=self.startup_trials,
                multivariate=True,
                group=True,
            )


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


@dataclass(frozen=True)
class GP(SamplingStrategy):
    """One Gaussian process an objective; the candidate with the largest expected gain in hypervolume is next.

    The process needs the same settings in every trial: every setting is chosen, those that a candidate doesn't
    have are ignored.

    Attributes:
        startup_trials: random ones before the model is used.
    """

    encoding: ClassVar[Encoding] = "fixed_length"

    startup_trials: Annotated[int, Field(ge=1)] = 10

    def __post_init__(self) -> None:
        """Refuse to start where SciPy is not there.

        Raises:
            InputError: says how to install it.
        """
        if importlib.util.find_spec("scipy") is None:
            raise InputError("strategy.name: 'gp' needs SciPy; install it with: pip install 'qanas[gp]'")

    def sampler(self, seed: int) -> BaseSampler:
        """Return Optuna's Gaussian-process sampler."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return GPSampler(seed=seed, n_startup_trials=self.startup_trials, deterministic_objective=False)
