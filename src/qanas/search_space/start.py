"""What a sampler proposes: a candidate, and where its weights come from before training."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from safetensors.torch import load
from torch import nn

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
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
class KeptStart(Start):
    """The weights that a trial of the same architecture ended with; they are trained on.

    Attributes:
        path: a state dict as safetensors.
    """

    path: Path

    def content(self) -> bytes:
        """Return the file.

        Raises:
            InputError: it is gone.
        """
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise InputError(f"{self.path}: the weights of a trial can't be read: {error.strerror}") from error

    @property
    def digest(self) -> str:
        """Of the weights."""
        return hashlib.sha256(self.content()).hexdigest()[:12]

    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        """Give a network the weights."""
        del candidate, shape
        network.load_state_dict(load(self.content()))


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
