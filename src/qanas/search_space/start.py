"""What a sampler proposes: a candidate, and where its weights come from before training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from qanas.core.candidate import Candidate
from qanas.search_space.network_space import TaskShape


class Start(ABC):
    """Weights that a candidate's network has before it is trained; picklable."""

    trained: ClassVar[bool] = False
    """Whether the weights are final, such as those of the user's own file: the candidate is not trained then."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Changes with the weights and names what was made from them; empty for random ones."""

    @abstractmethod
    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        """Give a candidate's network these weights.

        Args:
            candidate: what the network was built from.
            network: as `NetworkSpace.build` returned it, with random weights; changed in place.
            shape: what the network fits.

        Raises:
            InputError: the weights are another network's, or can't be read.
        """


@dataclass(frozen=True)
class RandomStart(Start):
    """The weights that `NetworkSpace.build` drew."""

    @property
    def digest(self) -> str:
        """Empty: nothing but the seed of the drawing decides."""
        return ""

    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        """Leave the network as it was built."""
        del candidate, network, shape


RANDOM = RandomStart()


@dataclass(frozen=True)
class Proposal:
    """A candidate to be estimated.

    Attributes:
        candidate: its settings.
        start: the weights that it starts from.
        parent: the trial that it was made from, the candidate's key and the index; empty where there is none.
        number: under which the study of trials knows it; None where the sampler is no study's.
        keep: where its trained weights are kept for its children; None: nowhere.
    """

    candidate: Candidate
    start: Start = RANDOM
    parent: str = ""
    number: int | None = None
    keep: Path | None = None
