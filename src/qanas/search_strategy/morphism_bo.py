"""Bayesian optimization over morphisms (Jin et al. 2019, Auto-Keras): a Gaussian process on the distance of edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qanas.core.candidate import Candidate
from qanas.core.measures import Measure
from qanas.core.trials import TrialRecord
from qanas.regression.gaussian_process import ColumnGroup, GaussianProcess
from qanas.search_space.encoding import Encoding
from qanas.search_space.growth import Grown, Growth, growth_of, neighbour
from qanas.search_space.space import SearchSpace
from qanas.search_space.start import Proposal
from qanas.search_strategy.base import History
from qanas.search_strategy.growing import GrowingSampler, measured_of, on_log_scale
from qanas.search_strategy.ranking import losses_of

Array = NDArray[np.float64]

DIMENSIONS = 8
"""Of the space that networks are put into by their distances."""

MOST_LEARNT = 120
"""Trials that the process learns from, the latest ones: each is held against every candidate, edit by edit."""

DOUBT = 1.0
"""Standard deviations that a prediction is given the benefit of; Auto-Keras has 2.576, which hardly ever exploits."""


@dataclass(frozen=True)
class MorphismBO(GrowingSampler):
    """Of the neighbours of all trained networks the most promising one is next, as far as is known of networks like it.

    Networks are points whose distances are those of edits, as nearly as eight dimensions can have them (classical
    scaling of trained and new ones together, so that what is learnt and what is asked are distances of one kind). With
    several objectives each proposal weighs them anew (ParEGO, Knowles 2006); costs are exact, and not modelled.

    Attributes:
        morphisms: between a network and its child at most.
        startup_trials: neighbours of the reference before the process is used.
        pool: neighbours of trained networks of which one is chosen.
    """

    morphisms: Annotated[int, Field(ge=1, le=50)] = 3
    startup_trials: Annotated[int, Field(ge=2)] = 6
    pool: Annotated[int, Field(ge=1, le=1000)] = 48

    def ask(self, space: SearchSpace, history: History, seed: int) -> Proposal:
        """Return the most promising neighbour of a trained network."""
        generator = np.random.default_rng(seed)
        measured = measured_of(history)[-MOST_LEARNT:]
        if len(measured) < self.startup_trials:
            parent = measured[0] if measured else None
            start = space.reference if parent is None else parent.candidate
            return self.child(space, parent, neighbour(space, start, generator, self.morphisms))
        tried = {record.candidate.key for record in history.records}
        children = self._children(space, history, measured, generator)
        new = [each for each in children if each[1].candidate.key not in tried] or children
        candidates = [grown.candidate for _, grown in new]
        gains = self._promise(space, history.axes, measured, candidates, generator)
        return self.child(space, *new[int(np.argmin(gains))])

    def _children(
        self, space: SearchSpace, history: History, measured: Sequence[TrialRecord], generator: np.random.Generator
    ) -> list[tuple[TrialRecord, Grown]]:
        """Return neighbours of trained networks within the limits; at least one, whatever it costs."""
        found: list[tuple[TrialRecord, Grown]] = []
        for place in generator.integers(len(measured), size=self.pool).tolist():
            parent = measured[place]
            steps = int(generator.integers(1, self.morphisms + 1))
            found.append((parent, neighbour(space, parent.candidate, generator, steps)))
        within = [each for each in found if self._is_within(each[1].candidate, history)]
        return within or found[:1]

    def _is_within(self, candidate: Candidate, history: History) -> bool:
        if self._costs_of is None:
            return True
        costs = self._costs_of(candidate)
        limits = [limit for limit in history.limits if limit.cost.column in costs]
        return bool(costs) and all(limit.excess(costs) <= 0 for limit in limits)

    def _promise(
        self,
        space: SearchSpace,
        axes: Sequence[Measure],
        measured: Sequence[TrialRecord],
        candidates: Sequence[Candidate],
        generator: np.random.Generator,
    ) -> Array:
        """Return what is to be least of candidates, shape (candidates,): their worst weighted objective."""
        losses = losses_of(measured, axes)
        trained = [record.candidate for record in measured]
        groups, rows = points(space, [*trained, *candidates])
        first, second = rows[: len(trained)], rows[len(trained) :]
        known = {} if self._costs_of is None else {c.key: self._costs_of(c) for c in candidates}
        weights = generator.dirichlet(np.ones(len(axes)))
        found = np.zeros((len(candidates), len(axes)))
        for number, axis in enumerate(axes):
            own = losses[:, number]
            if known and all(axis.column in known[candidate.key] for candidate in candidates):
                own = on_log_scale(own)
                values = on_log_scale(np.array([axis.loss(known[c.key][axis.column]) for c in candidates]))
            else:
                mean, sd = GaussianProcess(groups, first, own, int(generator.integers(2**31))).predict(second)
                values = mean - DOUBT * sd
            found[:, number] = (values - own.min()) / (own.max() - own.min() + 1e-9)
        worst: Array = (weights * found).max(1) + 0.05 * (weights * found).sum(1)
        return worst


def points(space: SearchSpace, candidates: Sequence[Candidate]) -> tuple[list[ColumnGroup], Array]:
    """Return candidates as rows of numbers, shape (n, columns), and what of the columns is scaled alike.

    Where networks grow, the first columns are where the distances of edits put them; other settings follow.
    """
    growth = growth_of(space)
    free = [s for s in space.settings if s.group in space.free and (growth is None or s.group != "architecture")]
    encoding = Encoding({s.name: s.distribution for s in free}, {s.name: s.group for s in free})
    places = np.zeros((len(candidates), 0)) if growth is None else scaled(distances(growth, candidates))
    width = places.shape[1]
    groups = [ColumnGroup(range(width), 1)] if width else []
    groups += [replace(group, columns=[width + column for column in group.columns]) for group in encoding.groups]
    rows = encoding.rows_of(candidates) if free else np.zeros((len(candidates), 0))
    return groups, np.hstack([places, rows])


def distances(growth: Growth, candidates: Sequence[Candidate]) -> Array:
    """Return how far candidates are apart, shape (n, n)."""
    found = np.zeros((len(candidates), len(candidates)))
    for one in range(len(candidates)):
        for other in range(one):
            found[one, other] = found[other, one] = growth.distance(candidates[one], candidates[other])
    return found


def scaled(apart: Array) -> Array:
    """Return points whose distances are nearly those given, shape (n, n): classical multidimensional scaling.

    Returns:
        Shape (n, `DIMENSIONS` at most), the largest distance being 1.
    """
    squares = (apart / max(float(apart.max()), 1e-9)) ** 2
    centred = -0.5 * (squares - squares.mean(0) - squares.mean(1)[:, None] + squares.mean())
    sizes, directions = np.linalg.eigh(centred)
    kept = np.argsort(sizes)[::-1][:DIMENSIONS]
    found: Array = directions[:, kept] * np.sqrt(np.maximum(sizes[kept], 0.0))
    return found
