"""How networks grow: neighbours of a candidate that no range of settings holds, and the weights that they inherit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qanas.core.candidate import Candidate
from qanas.search_space.mutation import mutated
from qanas.search_space.settings import Choice
from qanas.search_space.space import SearchSpace
from qanas.search_space.start import RANDOM, Start


@dataclass(frozen=True)
class Grown:
    """A candidate that was made of another one.

    Attributes:
        candidate: what came out.
        steps: what was done, for whoever takes weights along; None: another candidate, which inherits nothing.
    """

    candidate: Candidate
    steps: tuple[Any, ...] | None = None


class Growth(ABC):
    """Changes the architecture of candidates, step by step, beyond what settings say; compares by its fields."""

    @abstractmethod
    def grown(self, candidate: Candidate, generator: np.random.Generator, steps: int) -> Grown:
        """Return a candidate whose architecture is some steps away; all else is as it was."""

    @abstractmethod
    def start(self, parent: Candidate, steps: tuple[Any, ...], weights: Path) -> Start:
        """Return the weights that a candidate inherits.

        Args:
            parent: that it was made of.
            steps: by which; none: of the same architecture.
            weights: the parent's, a state dict as safetensors.
        """

    @abstractmethod
    def distance(self, one: Candidate, other: Candidate) -> float:
        """Return how far two candidates are apart, the same both ways: 0 for the same architecture."""


@dataclass(frozen=True)
class Written(Choice):
    """A setting whose value grows: samplers choose among the options, growing strategies write others.

    Attributes:
        growth: how.
    """

    growth: Growth | None = None


def weights_of_trial(folder: Path, index: int, candidate: Candidate) -> Path:
    """Return the file of a trial's trained weights.

    Args:
        folder: of all.
        index: of the trial; the same candidate may be trained in several.
        candidate: of the trial.
    """
    return folder / f"{index}-{candidate.key}.safetensors"


def last_weights(folder: Path, candidate: Candidate) -> Path | None:
    """Return the file of the last trial of a candidate; None where there is none."""
    found = folder.glob(f"*-{candidate.key}.safetensors")
    return max(found, key=lambda path: int(path.name.partition("-")[0]), default=None)


def growth_of(space: SearchSpace) -> Growth | None:
    """Return how networks of a space grow; None where they don't, or their architecture isn't searched."""
    found = [s.growth for s in space.settings if isinstance(s, Written) and s.group in space.free]
    return found[0] if found else None


def neighbour(space: SearchSpace, candidate: Candidate, generator: np.random.Generator, steps: int) -> Grown:
    """Return a candidate near another one.

    Where networks grow, the architecture takes so many steps, and of what else is searched one setting is another.
    Where they don't, so many settings are others.
    """
    growth = growth_of(space)
    if growth is None:
        return Grown(mutated(space, candidate, generator, steps))
    grown = growth.grown(candidate, generator, steps)
    others = space.free - {"architecture"}
    if not any(setting.group in others for setting in space.settings):
        return grown
    moved = mutated(replace(space, free=others), candidate, generator)
    parts = (moved.training, moved.quantization, moved.input)
    return replace(grown, candidate=Candidate(grown.candidate.architecture, *parts))


def inherited(space: SearchSpace, parent: Candidate, grown: Grown, weights: Path | None) -> Start:
    """Return the weights that a grown candidate starts from: random ones where nothing is inherited."""
    growth = growth_of(space)
    if growth is None or grown.steps is None or weights is None:
        return RANDOM
    return growth.start(parent, grown.steps, weights)
