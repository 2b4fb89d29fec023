"""Tree-structured Parzen estimator, for several objectives (Bergstra et al. 2011; Ozaki et al. 2022, MOTPE)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
from pydantic import Field

from qanas.search_strategy.base import SamplingStrategy


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
