"""What a strategy is: the contracts of samplers, which propose candidates, and of solvers, which are given a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import BaseSampler

from qanas.core.errors import InputError
from qanas.core.pareto import Points
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


class FrontSolver(ABC):
    """Given a table a block, finds the networks worth having; the scores and costs of a network add up over its blocks.

    No measurement is asked for on the way: a solver sees everything from the start.
    """

    @abstractmethod
    def solve(self, tables: Sequence[Points]) -> BlockFront:
        """Return a front of networks, one row a block.

        Args:
            tables: one of shape (rows, k) a block, everything to be minimised; column 0 is the score.

        Raises:
            InputError: there is no table, or one is empty, not finite or has other columns than the first.
        """


def check_tables(tables: Sequence[Points]) -> None:
    """Refuse tables that can't be added up.

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
