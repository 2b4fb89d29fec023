"""Where weights come from before a candidate is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from qanas.core.candidate import Candidate
from qanas.search_space.network_space import TaskShape


class Start(ABC):
    """Weights that a candidate starts from; picklable."""

    trained: ClassVar[bool] = False
    """Whether the weights are final, such as the user's own: the candidate is not trained."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Changes with the weights; empty for random ones."""

    @abstractmethod
    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        """Give a network its weights, in place.

        Args:
            candidate: whose network it is.
            network: as `NetworkSpace.build` returned it.
            shape: of the task.

        Raises:
            InputError: the weights are another network's.
        """


@dataclass(frozen=True)
class RandomStart(Start):
    """The weights that a network was built with."""

    @property
    def digest(self) -> str:
        """Empty: there are no weights but those that the training's seed draws."""
        return ""

    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        """Leave the network as it is."""


RANDOM = RandomStart()
