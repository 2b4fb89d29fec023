"""Strategies that grow networks from one another, each with the weights of the one that it was made of."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
from qanas.core.measures import Cost, Measure
from qanas.core.trials import TrialRecord, front_of
from qanas.search_space.growth import Grown, inherited, neighbour, weights_of_trial
from qanas.search_space.space import SearchSpace
from qanas.search_space.start import Proposal
from qanas.search_strategy.base import CostsOf, History, Sampler
from qanas.search_strategy.ranking import losses_of


@dataclass(frozen=True)
class GrowingSampler(Sampler):
    """What growing strategies have in common. In spaces that don't grow, a morphism is another value of a setting.

    Attributes:
        morphisms: between a network and its child.
        inherit: whether a child starts from the weights of its parent; where not, or where the estimator keeps none,
            from random ones.
    """

    morphisms: Annotated[int, Field(ge=1, le=50)] = 5
    inherit: bool = True
    _folder: Path | None = field(default=None, init=False, repr=False, compare=False)
    _costs_of: CostsOf | None = field(default=None, init=False, repr=False, compare=False)

    def inheriting(self, folder: Path) -> Sampler:
        """Take where weights are kept."""
        return self._with("_folder", folder) if self.inherit else self

    def costed(self, costs_of: CostsOf) -> Sampler:
        """Take what costs are had by."""
        return self._with("_costs_of", costs_of)

    def _with(self, name: str, value: object) -> Self:
        taken = copy.copy(self)
        object.__setattr__(taken, name, value)
        return taken

    def child(self, space: SearchSpace, parent: TrialRecord | None, grown: Grown) -> Proposal:
        """Return the proposal of what was grown.

        Args:
            space: of both.
            parent: the trial that it was grown of; None: the reference, which wasn't measured.
            grown: what came out.

        Raises:
            InputError: the parent's weights are gone.
        """
        if parent is None:
            return Proposal(grown.candidate)
        named = f"{parent.candidate.key}/{parent.index}"
        if self._folder is None:
            return Proposal(grown.candidate, parent=named)
        path = weights_of_trial(self._folder, parent.index, parent.candidate)
        if not path.is_file():
            raise InputError(
                f"{path}: the weights of trial {parent.index} are gone, which its children inherit; put them back, or "
                "choose another --out"
            )
        return Proposal(grown.candidate, inherited(space, parent.candidate, grown, path), named)


def measured_of(history: History) -> list[TrialRecord]:
    """Return the measured trials by their index, whichever ended first."""
    return sorted((r for r in history.records if r.outcome == "measured"), key=lambda record: record.index)


def decisive(axes: Sequence[Measure]) -> Measure:
    """Return the first axis of a front that is no cost, the first one where all are."""
    return next((axis for axis in axes if not isinstance(axis, Cost)), axes[0])


@dataclass(frozen=True)
class HillClimbing(GrowingSampler):
    """NASH (Elsken et al. 2017): the best child of a generation is the parent of the next.

    By the first objective that is no cost; limits bound how far networks grow. The first child of a generation is the
    parent itself, trained on, so that a generation without a better child loses nothing. Where no weights are
    inherited it is not trained again: parents are the best of all generations then.

    Attributes:
        neighbours: children of a generation.
    """

    neighbours: Annotated[int, Field(ge=1)] = 8

    def ask(self, space: SearchSpace, history: History, seed: int) -> Proposal:
        """Return the next child of the generation that is under way."""
        generator = np.random.default_rng(seed)
        children = sorted({r.index for r in history.records if r.outcome != "rejected" and r.index > 0})
        generation, number = divmod(len(children), self.neighbours)
        ended = children[: generation * self.neighbours]
        parent = self._parent(history, ended)
        candidate = space.reference if parent is None else parent.candidate
        if number == 0 and self._folder is not None and parent is not None and parent.feasible:
            trained_on = self.child(space, parent, Grown(candidate, ()))
            if not _was_begun(history, trained_on):
                return trained_on
        return self.child(space, parent, neighbour(space, candidate, generator, self.morphisms))

    def _parent(self, history: History, ended: Sequence[int]) -> TrialRecord | None:
        """Return the best of the last generation, given the indices of all that ended; None: nothing was measured."""
        before = [record for record in measured_of(history) if record.index == 0 or record.index in ended]
        last = set(ended[-self.neighbours :])
        own = [record for record in before if record.index in last] if self._folder is not None else []
        axis = decisive(history.axes)
        return min(
            own or before,
            key=lambda record: (not record.feasible, axis.loss(record.measurement.value(axis)), record.index),
            default=None,
        )


def _was_begun(history: History, proposal: Proposal) -> bool:
    """Tell whether a candidate is, or was, trained from the weights of the same trial."""
    training = proposal.candidate.key, proposal.parent
    before = ((r.candidate.key, r.origin.get("parent")) for r in history.records if r.outcome != "rejected")
    return training in history.under_way.values() or training in before


@dataclass(frozen=True)
class Lemonade(GrowingSampler):
    """Grows the whole front, and most where it is sparse (Elsken et al. 2019, LEMONADE).

    Parents are networks of the front, drawn the more often the fewer others have costs like theirs; of some children
    one is trained, drawn likewise by its own costs, which are known before. Networks have to be able to shrink, too:
    leave ``narrower`` and ``separable`` among the space's morphisms.

    Attributes:
        morphisms: between a network and its child at most.
        drawn: children of which one is trained.
    """

    morphisms: Annotated[int, Field(ge=1, le=50)] = 3
    drawn: Annotated[int, Field(ge=1, le=1000)] = 10

    def ask(self, space: SearchSpace, history: History, seed: int) -> Proposal:
        """Return a child of a network of the front."""
        generator = np.random.default_rng(seed)
        front = front_of(measured_of(history), history.axes) or measured_of(history)[:1]
        if not front:
            return self.child(space, None, neighbour(space, space.reference, generator, self.morphisms))
        axes = [axis for axis in history.axes if isinstance(axis, Cost)]
        places = on_log_scale(losses_of(front, axes))
        crowded = density(places, places)
        children: list[tuple[TrialRecord, Grown]] = []
        for chosen in _drawn_sparsely(crowded, self.drawn, generator):
            steps = int(generator.integers(1, self.morphisms + 1))
            children.append((front[chosen], neighbour(space, front[chosen].candidate, generator, steps)))
        found = [self._losses(grown.candidate, axes, history) for _, grown in children]
        within = [number for number, losses in enumerate(found) if losses is not None]
        if not within or not axes or self._costs_of is None:
            return self.child(space, *children[0])
        own = on_log_scale(np.array([found[number] for number in within], np.float64))
        chosen = within[_drawn_sparsely(density(places, own), 1, generator)[0]]
        return self.child(space, *children[chosen])

    def _losses(self, candidate: Candidate, axes: Sequence[Measure], history: History) -> list[float] | None:
        """Return a candidate's costs; None where it is over a limit, or can't be built."""
        if self._costs_of is None:
            return []
        costs = self._costs_of(candidate)
        known = all(axis.column in costs for axis in axes)
        limits = [limit for limit in history.limits if limit.cost.column in costs]
        if not costs or not known or any(limit.excess(costs) > 0 for limit in limits):
            return None
        return [axis.loss(costs[axis.column]) for axis in axes]


def on_log_scale(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return costs, shape (n, axes), on a logarithmic scale: sizes span decades."""
    scaled: NDArray[np.float64] = np.log(np.maximum(losses, 1e-9))
    return scaled


def density(places: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how dense points, shape (n, axes), lie at others, shape (m, axes): normal kernels of Scott's width.

    Returns:
        Shape (m,), above 0; alike everywhere where there is no axis.
    """
    count, axes = places.shape
    spread = places.std(0) + 1e-3
    width = spread * count ** (-1 / (axes + 4))
    squares = (((at[:, None] - places[None]) / width) ** 2).sum(2)
    found: NDArray[np.float64] = np.exp(-squares / 2).mean(1) + 1e-6
    return found


def _drawn_sparsely(crowded: NDArray[np.float64], count: int, generator: np.random.Generator) -> list[int]:
    """Return numbers drawn the more often the less dense it is there, given densities of shape (n,)."""
    chances = 1 / crowded
    return [int(number) for number in generator.choice(len(chances), count, p=chances / chances.sum())]
