"""Solvers of block tables: the exact front, and for comparison the traversal that DNA publishes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qanas.core.errors import InputError
from qanas.core.measures import Limit, Measure
from qanas.core.pareto import Points, non_dominated
from qanas.search_space.additive import AdditiveScores
from qanas.search_strategy.base import BlockFront, FrontSolver, Solution, check_tables, decisive_costs


class ExactSearch(FrontSolver):
    """Minkowski sums of the blocks' fronts, pruned after each block.

    1. Of every block's rows keep the non-dominated ones: a dominated row can be swapped for its dominator.
    2. Add every kept row of the next block to every partial sum; keep the non-dominated sums. The same argument
       makes this lossless: whatever rows follow, a dominated beginning ends dominated.

    The work is the product of the partial front and one block's front, block by block, where brute force takes the
    product of all blocks.

    What is exact: sums are of float64, added in the order of the blocks. Columns of whole numbers (bytes, bits,
    MACs) add without rounding below 2^53. Scores round as ``((a + b) + c) + ...`` does; as float addition never
    turns an order around (x <= y implies x + z <= y + z), steps 1 and 2 lose nothing to it: the losses are bit for
    bit the front of all combinations added in this order. So they don't depend on the order of a block's rows.

    Ties: of choices with equal sums, the one with the smallest row numbers stays, compared from the first block
    on (where sums round: of the choices in which no row and no partial sum is dominated).

    Time and memory grow with the largest product of a partial front and a block's front; with three columns the
    fronts are tens of times larger than with two.

    >>> first, second = np.array([[0.1, 8.0], [0.3, 5.0]]), np.array([[0.2, 4.0], [0.1, 7.0], [0.5, 6.0]])
    >>> ExactSearch().solve([first, second]).rows.tolist()
    [[0, 1], [0, 0], [1, 0]]
    """

    def solve(self, tables: Sequence[Points]) -> BlockFront:
        """Return every non-dominated sum of one row a block, in lexicographic order.

        Args:
            tables: one of shape (rows, k) a block, everything to be minimised. Quick for k = 2 and 3.

        Raises:
            InputError: there is no table, or one is empty, not finite or has other columns than the first.
        """
        check_tables(tables)
        losses = np.zeros((1, tables[0].shape[1]))
        rows = np.zeros((1, 0), dtype=np.intp)
        for table in tables:
            losses, rows = _add_block(losses, rows, table)
        order = non_dominated(losses)
        return BlockFront(losses[order], rows[order])


def _add_block(losses: Points, rows: NDArray[np.intp], table: Points) -> tuple[Points, NDArray[np.intp]]:
    """Put the rows of one more block behind every choice so far; return the non-dominated sums and their choices.

    Sums have the shape (choices, k), choices of rows the shape (choices, blocks).

    Choices are kept in the order of their row numbers, not of their sums: of equal sums the first one stays.
    """
    block = np.sort(non_dominated(table))
    sums = (losses[:, None] + table[block]).reshape(-1, table.shape[1])
    kept = np.sort(non_dominated(sums))
    choices, last = np.divmod(kept, len(block))
    return sums[kept], np.column_stack([rows[choices], block[last]])


@dataclass(frozen=True)
class DNATraversal(FrontSolver):
    """One traversal a budget; the front is of what they found.

    Use ``ExactSearch`` to search; this is what its results are compared with.

    Attributes:
        budgets: bounds on the total of ``column``, with what is in no block.
        column: the budgeted cost.
    """

    budgets: Annotated[tuple[float, ...], Field(strict=False, min_length=1)]
    column: Annotated[int, Field(ge=1)] = 1

    def check(self, objectives: Sequence[Measure], limits: Sequence[Limit]) -> None:
        """Refuse a column that there is not."""
        super().check(objectives, limits)
        columns = decisive_costs(objectives, limits)
        if self.column > len(columns):
            raise InputError(f"strategy.column = {self.column}: there are {len(columns)} costs, {', '.join(columns)}")

    def front(self, offered: AdditiveScores, objectives: Sequence[Measure], limits: Sequence[Limit]) -> list[Solution]:
        """Return the front within the limits on what adds up, sorted by score."""
        columns = decisive_costs(objectives, [limit for limit in limits if limit.cost.column in offered.outside])
        outside = offered.outside[columns[self.column - 1]]
        left = replace(self, budgets=tuple(budget - outside for budget in self.budgets))
        return super(DNATraversal, left).front(offered, objectives, limits)

    def solve(self, tables: Sequence[Points]) -> BlockFront:
        """Return the non-dominated networks found in tables of shape (rows, k), none where no budget can be kept."""
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
