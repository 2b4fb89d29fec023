"""The traversal that DNA publishes (Li et al., CVPR 2020), for comparison: quick, but not exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qanas.core.pareto import Points, non_dominated
from qanas.search_strategy.base import BlockFront, FrontSolver, check_tables


@dataclass(frozen=True)
class DNATraversal(FrontSolver):
    """One traversal a budget; the front is of what they found.

    Use ``ExactSearch`` to search; this is what its results are compared with.

    Attributes:
        budgets: bounds on the total of ``column``.
        column: the budgeted cost.
    """

    budgets: Annotated[tuple[float, ...], Field(strict=False, min_length=1)]
    column: Annotated[int, Field(ge=1)] = 1

    def solve(self, tables: Sequence[Points]) -> BlockFront:
        """Return the non-dominated ones of the networks that were found, none where no budget can be kept."""
        check_tables(tables)
        found = [traverse(tables, budget, self.column) for budget in self.budgets]
        rows = np.array([choice for choice in found if choice is not None], dtype=np.intp).reshape(-1, len(tables))
        losses = np.zeros((len(rows), tables[0].shape[1]))
        for block, table in enumerate(tables):
            losses += table[rows[:, block]]
        kept = non_dominated(losses)
        return BlockFront(losses[kept], rows[kept])


def traverse(tables: Sequence[Points], budget: float, column: int = 1) -> NDArray[np.intp] | None:
    """Return the network that DNA's nested loops end with: a good score within a budget, not always the best.

    1. Rows of a block are sorted by score (column 0).
    2. One loop a block, nested. A row is passed over where even the cheapest rows of the blocks behind it can't keep
       the budget any more.
    3. The innermost loop ends at the first row that keeps the budget, and from then on looks only at rows before
       that one: as the row of the block before gets worse, a better one is needed here. Where that was the first
       row already, the loop of the block before is cut in the same way, and this one is whole again.

    The flaw: the cut of 3 stays when a loop farther out advances, though the loops in between begin anew at their best
    rows, so that a later row would do. (Cuts of the outermost loop have no effect, and a loop that is cut to
    nothing at its only row isn't made whole again: both as published.)

    Source: ``searching/process_potential.py`` at https://github.com/changlin31/DNA, written for five blocks. Other
    than there the total may equal the budget, scores aren't rounded to half precision, and ties are sorted by row.

    Args:
        tables: one of shape (rows, k) a block; column 0 is the score, the others are costs.
        budget: the largest total of the budgeted cost.
        column: the budgeted cost.

    Returns:
        One row a block, shape (blocks,); nothing where no network was found.

    Raises:
        InputError: a table is empty, not finite or has other columns than the first.
    """
    check_tables(tables)
    loops = _NestedLoops(tables, budget, column)
    loops.enter(0, 0.0, 0.0)
    return None if loops.best is None else np.array([o[p] for o, p in zip(loops.orders, loops.best, strict=True)])


class _NestedLoops:
    """The loops' state: a position in its sorted rows and an end for each, the best network so far."""

    def __init__(self, tables: Sequence[Points], budget: float, column: int) -> None:
        self.orders = [np.argsort(table[:, 0], kind="stable") for table in tables]
        rows = list(zip(tables, self.orders, strict=True))
        self.scores = [table[order, 0].tolist() for table, order in rows]
        self.costs = [table[order, column].tolist() for table, order in rows]
        cheapest = [min(costs) for costs in self.costs]
        self.bounds = [budget - sum(cheapest[level + 1 :]) for level in range(len(tables))]
        self.positions = [0] * len(tables)
        self.ends = [len(costs) for costs in self.costs]
        self.best: list[int] | None = None
        self.best_score = np.inf

    def enter(self, level: int, score: float, cost: float) -> None:
        """Run the loop of a block, given the totals of the blocks before."""
        for position in range(self.ends[level]):
            if level and position >= self.ends[level]:
                self._cut_before(level)
                return
            total = cost + self.costs[level][position]
            if total > self.bounds[level]:
                continue
            self.positions[level] = position
            partial = score + self.scores[level][position]
            if level < len(self.ends) - 1:
                self.enter(level + 1, partial, total)
                continue
            if partial < self.best_score:
                self.best, self.best_score = list(self.positions), partial
            self.ends[level] = position
            self._cut_before(level)
            return

    def _cut_before(self, level: int) -> None:
        """Where this loop was cut to nothing, cut that of the block before instead and make this one whole."""
        if self.ends[level] == 0 and level:
            self.ends[level - 1] = self.positions[level - 1]
            self.ends[level] = len(self.costs[level])
