"""How networks grow: neighbours of a candidate that no range of settings holds, and the weights that they inherit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qanas.core.candidate import Candidate, Value
from qanas.search_space.mutation import mutated
from qanas.search_space.settings import Choice, Setting
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
    def grown(
        self, candidate: Candidate, generator: np.random.Generator, steps: int, inputs: Sequence[Setting] = ()
    ) -> Grown:
        """Return a candidate whose architecture is some steps away; all else is as it was, but for a finer input.

        Args:
            candidate: any of the space.
            generator: of all that is random.
            steps: how many, at most.
            inputs: settings of the group ``input`` that may be made finer along, see `finer_input`.
        """

    @abstractmethod
    def keeps(self, steps: tuple[Any, ...]) -> bool:
        """Tell whether a network with the weights that it inherits over some steps computes what its parent did."""

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


def finer_input(values: Mapping[str, Value], inputs: Sequence[Setting]) -> dict[str, Value] | None:
    """Return the next finer input, in which each setting that says what is finer takes a step; None: there is none.

    Args:
        values: a candidate's group ``input``.
        inputs: its settings.
    """
    steps = {each.name: each.next_finer(values[each.name]) for each in inputs if each.name in values}
    taken = {name: value for name, value in steps.items() if value is not None}
    return {**values, **taken} if taken else None


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

    Where networks grow, the architecture takes so many steps, and of what else is searched one setting is another. An
    input that became finer with it is what it became.
    Where they don't, so many settings are others.
    """
    growth = growth_of(space)
    if growth is None:
        return Grown(mutated(space, candidate, generator, steps))
    inputs = [setting for setting in space.settings if setting.group == "input"] if "input" in space.free else []
    grown = growth.grown(candidate, generator, steps, inputs)
    # An input that grew with the architecture is not moved again.
    others = space.free - {"architecture", *(["input"] if grown.candidate.input != candidate.input else [])}
    if not any(setting.group in others for setting in space.settings):
        return grown
    moved = mutated(replace(space, free=others), candidate, generator)
    parts = (moved.training, moved.quantization, moved.input if "input" in others else grown.candidate.input)
    return replace(grown, candidate=Candidate(grown.candidate.architecture, *parts))


def inherited(space: SearchSpace, parent: Candidate, grown: Grown, weights: Path | None) -> Start:
    """Return the weights that a grown candidate starts from: random ones where nothing is inherited."""
    growth = growth_of(space)
    if growth is None or grown.steps is None or weights is None:
        return RANDOM
    return growth.start(parent, grown.steps, weights)
