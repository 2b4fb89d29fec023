"""Bayesian optimisation with Gaussian processes and expected hypervolume improvement (Daulton et al. 2020)."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from typing import Annotated, ClassVar

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler
from pydantic import Field

from qanas.core.errors import InputError
from qanas.search_space.space import Encoding
from qanas.search_strategy.base import SamplingStrategy


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
