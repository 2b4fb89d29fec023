"""What a sampling strategy is: the contract of all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from optuna.samplers import BaseSampler

from qanas.search_space.space import Encoding


class SamplingStrategy(ABC):
    """Proposes candidates one at a time. Its constructor's arguments are further keys of a recipe's ``[strategy]``.

    The search makes a new sampler for every proposal, seeded by the proposal's index, and the sampler learns of
    the past from the study alone. That is what makes a resumed search equal an uninterrupted one.
    """

    encoding: ClassVar[Encoding] = "conditional"
    """How the sampler sees settings that not every candidate has."""

    @abstractmethod
    def sampler(self, seed: int) -> BaseSampler:
        """Return an Optuna sampler that draws from a generator with this seed.

        Trials that broke a limit carry constraint values above 0; a sampler may learn from them.
        """
