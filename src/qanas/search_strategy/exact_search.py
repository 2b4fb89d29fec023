"""The exact front of networks put together from blocks, where scores and costs add up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qanas.core.pareto import Points, non_dominated
from qanas.search_strategy.base import BlockFront, FrontSolver, check_tables


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

    Choices are kept in the order of their row numbers, not of their sums: of equal sums the first one stays.
    """
    block = np.sort(non_dominated(table))
    sums = (losses[:, None] + table[block]).reshape(-1, table.shape[1])
    kept = np.sort(non_dominated(sums))
    choices, last = np.divmod(kept, len(block))
    return sums[kept], np.column_stack([rows[choices], block[last]])
