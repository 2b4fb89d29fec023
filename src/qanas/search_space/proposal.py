"""What a sampler proposes."""

from __future__ import annotations

from dataclasses import dataclass

from qanas.core.candidate import Candidate
from qanas.search_space.start import RandomStart, Start

RANDOM = RandomStart()


@dataclass(frozen=True)
class Proposal:
    """A candidate to be estimated.

    Attributes:
        candidate: its settings.
        start: the weights that it starts from.
        parent: the key of the candidate that it was made from; empty where there is none.
        number: under which the study of trials knows it; None where the sampler is no study's.
    """

    candidate: Candidate
    start: Start = RANDOM
    parent: str = ""
    number: int | None = None
