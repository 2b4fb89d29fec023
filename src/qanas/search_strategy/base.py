"""What a strategy is: samplers propose candidates one at a time, solvers are given everything at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import BaseSampler

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
from qanas.core.measures import Cost, Limit, Measure, columns_of
from qanas.core.pareto import Points, non_dominated
from qanas.core.trials import TrialRecord
from qanas.hardware.costs import CostModel
from qanas.search_space.additive import AdditiveScores
from qanas.search_space.space import Encoding, SearchSpace
from qanas.search_space.start import Proposal


class History(Protocol):
    """The trials so far, as a sampler sees them."""

    @property
    def axes(self) -> Sequence[Measure]:
        """The axes of the front."""

    @property
    def limits(self) -> Sequence[Limit]:
        """Bounds on costs."""

    @property
    def records(self) -> Sequence[TrialRecord]:
        """Every finished trial, in the order in which they ended."""

    @property
    def under_way(self) -> Mapping[int, tuple[str, str]]:
        """What is trained now, by the trial's index: the candidate's key, and the trial that it was made from."""

    def suggest(self, space: SearchSpace, sampler: BaseSampler) -> Proposal:
        """Return a new trial of the study, proposed by one of Optuna's samplers."""


CostsOf = Callable[[Candidate], Mapping[str, float]]
"""Says what any candidate costs before it is estimated, by column: all that follows from its shapes; nothing where it
can't be built."""


class Search(Protocol):
    """A search, as a strategy conducts it."""

    def ask_and_tell(self, sampler: Sampler) -> None:
        """Estimate what a sampler proposes, until the budget is spent."""

    def solve(self, solver: Solver) -> None:
        """Give a solver what it needs of the estimator, and take its front."""


class Strategy(ABC):
    """Explores a space. Its constructor's arguments are further keys of a recipe's ``[strategy]``."""

    encoding: ClassVar[Encoding] = "conditional"
    """How it sees settings that not every candidate has."""

    needs: ClassVar[type[object] | None] = None
    """What an estimator has to offer it; None: estimates of single candidates."""

    @abstractmethod
    def conduct(self, search: Search) -> None:
        """Search in the one way that it can."""

    @abstractmethod
    def estimates(self, trials: int) -> int:
        """Return how many estimates it asks for where the budget is ``trials``."""

    def asks_for(self) -> Sequence[object]:
        """Return what it will have done by what an estimator offers, one entry each, for a forecast of the time."""
        return ()

    def check(self, objectives: Sequence[Measure], limits: Sequence[Limit]) -> None:
        """Refuse, before anything is trained, objectives and limits that it can't search by.

        Raises:
            InputError: names the key and the mend.
        """
        del objectives, limits

    def check_costs(self, objectives: Sequence[Measure], models: Sequence[CostModel]) -> None:
        """Refuse, before anything is trained, costs that are not had as it needs them.

        Args:
            objectives: of the search.
            models: how candidates' costs are had.

        Raises:
            InputError: names the key and the mend.
        """
        del objectives, models


class Sampler(Strategy):
    """Proposes candidates one at a time. Passes `qanas.testing.check_sampler`.

    It has no memory: the same space, history and seed give the same proposal. That is what makes a resumed search
    equal an uninterrupted one.
    """

    def conduct(self, search: Search) -> None:
        """Propose until the budget is spent."""
        search.ask_and_tell(self)

    def estimates(self, trials: int) -> int:
        """Return one a trial."""
        return trials

    def costed(self, costs_of: CostsOf) -> Sampler:
        """Return the sampler that a search is to ask; itself where it needs no costs of what wasn't proposed yet."""
        del costs_of
        return self

    def inheriting(self, folder: Path) -> Sampler:
        """Return the sampler that a search is to ask; itself where no candidate inherits weights of an earlier one.

        Args:
            folder: where the trained weights of trials are kept, see `qanas.search_space.growth.weights_of_trial`.
        """
        del folder
        return self

    @abstractmethod
    def ask(self, space: SearchSpace, history: History, seed: int) -> Proposal:
        """Return the next candidate.

        Args:
            space: the candidates.
            history: what was learnt so far; trials over a limit are in it, as rejected.
            seed: of the proposal, which follows from its index.
        """


class SamplingStrategy(Sampler):
    """One of Optuna's samplers, unchanged: a new one for every proposal, which learns of the past from the study."""

    @abstractmethod
    def sampler(self, seed: int) -> BaseSampler:
        """Return an Optuna sampler that draws from a generator with this seed.

        Trials that broke a limit carry constraint values above 0; a sampler may learn from them.
        """

    def ask(self, space: SearchSpace, history: History, seed: int) -> Proposal:
        """Let the sampler choose every setting, in their order."""
        return history.suggest(space, self.sampler(seed))


@dataclass(frozen=True)
class Solution:
    """A network of a solver's front.

    Attributes:
        candidate: its settings.
        scores: what the estimator says of it, by column.
        costs: by column.
        origin: what it was put together from, by column.
    """

    candidate: Candidate
    scores: dict[str, float]
    costs: dict[str, float]
    origin: dict[str, Any]


class Solver(Strategy):
    """Finds a front from what an estimator offers as a whole. Passes `qanas.testing.check_solver`."""

    def conduct(self, search: Search) -> None:
        """Solve once."""
        search.solve(self)

    def estimates(self, trials: int) -> int:
        """Return none: it asks for no estimate."""
        del trials
        return 0

    @abstractmethod
    def front(self, offered: Any, objectives: Sequence[Measure], limits: Sequence[Limit]) -> list[Solution]:  # noqa: ANN401 - of the type that it needs
        """Return networks none of which dominates another, sorted by the objectives.

        Args:
            offered: by the estimator, of the type `needs`.
            objectives: the axes of the front.
            limits: bounds on costs; those on costs that don't add up are the caller's.

        Raises:
            InputError: no network is within the limits.
        """


@dataclass(frozen=True)
class BlockFront:
    """Networks put together from one row of every block's table; none dominates another.

    Attributes:
        losses: shape (n, k), in lexicographic order; column 0 is the score, the others are costs.
        rows: shape (n, blocks), the rows that add up to ``losses``.
    """

    losses: Points
    rows: NDArray[np.intp]

    def best_within(self, column: int, bound: float) -> int:
        """Return the index of the network with the best score among those with a cost of at most ``bound``.

        On an exact front that is the best of all networks within the budget.

        Raises:
            InputError: no network is that small.
        """
        within = np.flatnonzero(self.losses[:, column] <= bound)
        if not len(within):
            least = f"the least is {self.losses[:, column].min():.15g}" if len(self.losses) else "the front is empty"
            raise InputError(f"no network keeps column {column} within {bound:.15g}: {least}")
        return int(within[0])


class FrontSolver(Solver):
    """Given a table a block, finds the networks worth having; scores and costs of a network add up over its blocks."""

    needs = AdditiveScores
    most_costs: ClassVar[int] = 2
    """Costs that a front can be over, limits included: with more it has too many points to be found."""

    @abstractmethod
    def solve(self, tables: Sequence[Points]) -> BlockFront:
        """Return a front of networks, one row a block.

        Args:
            tables: one of shape (rows, k) a block, everything to be minimised; column 0 is the score.

        Raises:
            InputError: there is no table, or one is empty, not finite or has other columns than the first.
        """

    def check(self, objectives: Sequence[Measure], limits: Sequence[Limit]) -> None:
        """Refuse other objectives than a score and costs, and more costs than can be solved for.

        Args:
            objectives: of the front; costs are sums over blocks.
            limits: on such costs.
        """
        costs = [measure for measure in objectives if isinstance(measure, Cost)]
        if len(objectives) - len(costs) != 1 or not costs:
            raise InputError("objectives: a block-wise search has one metric, such as miou_quantized, and a cost")
        columns = decisive_costs(objectives, limits)
        if len(columns) > self.most_costs:
            named = ", ".join(columns)
            raise InputError(f"objectives, limits: {named} are more than {self.most_costs} costs; leave one out")

    def check_costs(self, objectives: Sequence[Measure], models: Sequence[CostModel]) -> None:
        """Refuse costs that are no sum over blocks."""
        additive = [model.measure.column for model in models if model.additive]
        for name in decisive_costs(objectives, ()):
            if name not in additive:
                raise InputError(
                    f"objectives.{name}: not a sum over the blocks; a block-wise search knows {', '.join(additive)}, "
                    "and latency by a table or a formula"
                )

    def front(self, offered: AdditiveScores, objectives: Sequence[Measure], limits: Sequence[Limit]) -> list[Solution]:
        """Return the front within the limits on what adds up, sorted by score."""
        limits = [limit for limit in limits if limit.cost.column in offered.outside]
        columns = decisive_costs(objectives, limits)
        found = self.solve([table.losses(columns) for table in offered.tables])
        if not len(found.rows):
            raise InputError("strategy: no network was found within its budgets; raise them")
        # Shape (networks, 1 + columns): sums over the blocks, and what is in none.
        losses = found.losses + np.array([0.0, *(offered.outside[name] for name in columns)])
        within = np.ones(len(losses), np.bool_)
        for limit in limits:
            column = 1 + columns.index(limit.cost.column)
            within &= losses[:, column] <= limit.bound
            if not within.any():
                raise InputError(
                    f"limits.{limit.cost.column} = {limit.bound:g}: no network is within it; the smallest has "
                    f"{losses[:, column].min():g}"
                )
        axes = [0, *(1 + columns.index(cost.column) for cost in objectives if isinstance(cost, Cost))]
        kept = np.flatnonzero(within)
        kept = kept[non_dominated(losses[kept][:, axes])]
        return [_solution(offered, found.rows[position].tolist()) for position in kept]


def decisive_costs(objectives: Sequence[Measure], limits: Sequence[Limit]) -> list[str]:
    """Return the columns of the costs that a front is over or bounded by: objectives first, then further limits."""
    costs = [measure for measure in objectives if isinstance(measure, Cost)]
    return list(dict.fromkeys(columns_of([*costs, *(limit.cost for limit in limits)])))


def _solution(offered: AdditiveScores, rows: Sequence[int]) -> Solution:
    numbers = (int(table.numbers[row]) for table, row in zip(offered.tables, rows, strict=True))
    origin = {f"row_{place}": number for place, number in enumerate(numbers, 1)}
    return Solution(offered.candidate(rows), offered.scores(rows), offered.costs(rows), origin)


def check_tables(tables: Sequence[Points]) -> None:
    """Refuse tables, shape (rows, k) each, that can't be added up.

    Raises:
        InputError: there is no table, or one is empty, not finite or has other columns than the first.
    """
    if not tables:
        raise InputError("block tables: there are none; give one a block")
    columns = tables[0].shape[1]
    for block, table in enumerate(tables):
        if len(table) == 0:
            raise InputError(f"block tables: block {block} has no row; give every block a candidate")
        if table.shape[1] != columns:
            raise InputError(f"block tables: block {block} has {table.shape[1]} columns, block 0 has {columns}")
        bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
        if len(bad):
            raise InputError(f"block tables: row {bad[0]} of block {block} isn't finite; leave it out")
