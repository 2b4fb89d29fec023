"""From the blocks' tables to the front of whole networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
from qanas.core.measurement import Measurement
from qanas.core.pareto import non_dominated
from qanas.hardware.costs import ADDITIVE_COSTS
from qanas.performance_estimation.block_table.table import BlockTable
from qanas.workflows.blockwise.units import blockwise_space
from qanas.workflows.plan import BlockwisePlan, Setup


@dataclass(frozen=True)
class BlockwisePoint:
    """A network of the front.

    Attributes:
        candidate: its settings.
        scores: the sum of the blocks' scores, and each block's.
        costs: the additive ones, of the whole network.
    """

    candidate: Candidate
    scores: Mapping[str, float]
    costs: Mapping[str, float]

    @property
    def measurement(self) -> Measurement:
        """Scores and costs."""
        return Measurement(self.scores, self.costs)

    def row(self) -> dict[str, Any]:
        """Return the network as a row of front.csv."""
        settings = {name: value for group in self.candidate.config.values() for name, value in group.items()}
        return {"key": self.candidate.key, **self.scores, **self.costs, **settings}


def solve(setup: Setup, plan: BlockwisePlan, tables: Sequence[BlockTable]) -> list[BlockwisePoint]:
    """Return the front within the limits, sorted by score.

    Args:
        setup: plan and data.
        plan: the plan's own part for this kind of search.
        tables: one a block.

    Raises:
        InputError: no network is within the limits.
    """
    columns = setup.plan.decisive_costs
    exact = [table.exact_rows() for table in tables]
    found = plan.solver.solve([table.losses(rows, columns) for table, rows in zip(tables, exact, strict=True)])
    # Tables of the chosen rows' positions in the whole tables.
    chosen = np.stack([rows[column] for rows, column in zip(exact, found.rows.T, strict=True)], axis=1)
    outside = _costs_outside(setup, tables, chosen[0])
    losses = found.losses + np.array([0.0, *(outside[name] for name in columns)])
    within = np.ones(len(losses), np.bool_)
    for limit in setup.plan.limits:
        within &= losses[:, 1 + columns.index(limit.cost)] <= limit.bound
        if not within.any():
            raise InputError(
                f"limits.{limit.cost} = {limit.bound:g}: no network is within it; the smallest has "
                f"{losses[:, 1 + columns.index(limit.cost)].min():g}"
            )
    axes = [0, *(1 + columns.index(o.name) for o in setup.plan.objectives if o.name in columns)]
    kept = np.flatnonzero(within)
    kept = kept[non_dominated(losses[kept][:, axes])]
    return [_point(setup, tables, chosen[position], outside) for position in kept]


def _costs_outside(setup: Setup, tables: Sequence[BlockTable], rows: NDArray[np.intp]) -> dict[str, float]:
    """Return the costs of what is not in a block: those of a whole network less its blocks'."""
    whole = setup.problem.costs(_candidate(setup, tables, rows))
    return {
        name: whole[name] - sum(table.costs[name][row] for table, row in zip(tables, rows, strict=True))
        for name in ADDITIVE_COSTS
    }


def _candidate(setup: Setup, tables: Sequence[BlockTable], rows: NDArray[np.intp]) -> Candidate:
    picked = [table.rows[row] for table, row in zip(tables, rows, strict=True)]
    bits, paths = zip(*picked, strict=True)
    return blockwise_space(setup).candidate(setup.problem.shape, setup.space.reference, paths, bits)


def _point(
    setup: Setup, tables: Sequence[BlockTable], rows: NDArray[np.intp], outside: Mapping[str, float]
) -> BlockwisePoint:
    picked = list(zip(tables, rows, strict=True))
    scores = [float(table.scores[row]) for table, row in picked]
    costs = {name: outside[name] + sum(float(table.costs[name][row]) for table, row in picked) for name in outside}
    by_block = {f"nsr_{number}": score for number, score in enumerate(scores, 1)}
    return BlockwisePoint(_candidate(setup, tables, rows), {"nsr_sum": sum(scores), **by_block}, costs)
