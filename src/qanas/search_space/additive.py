"""Spaces in which a network is a choice of one row for each of several tables, whose scores and costs add up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qanas.core.candidate import Candidate
from qanas.core.measures import Score

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AdditiveTable:
    """The rows that can stand in one place.

    Attributes:
        numbers: of the rows in the table that they are of, shape (rows,): not every row of it need be here.
        scores: shape (rows,).
        costs: by column, each of shape (rows,).
    """

    numbers: NDArray[np.intp]
    scores: Floats
    costs: Mapping[str, Floats]

    def losses(self, columns: Sequence[str]) -> Floats:
        """Return scores and some costs side by side, shape (rows, 1 + columns)."""
        return np.column_stack([self.scores, *(self.costs[name] for name in columns)])


class AdditiveScores(ABC):
    """What an estimator offers to a solver: tables whose rows' scores and costs add up to a network's.

    Attributes:
        axis: what the sum of the scores stands for.
        place: in front of a place's number: its share of the sum, by column.
        tables: one a place, in order.
        outside: costs of what is in no place, by column; the same for every network.
    """

    offered_by: ClassVar[str] = "block_tables"
    """The estimator that does, for messages."""

    axis: Score
    place: str = "nsr"
    tables: Sequence[AdditiveTable]
    outside: Mapping[str, float]

    @abstractmethod
    def candidate(self, rows: Sequence[int]) -> Candidate:
        """Return the network of one row a place, given by their positions in `tables`."""

    def scores(self, rows: Sequence[int]) -> dict[str, float]:
        """Return the sum of a network's scores, and that of each place."""
        each = [float(table.scores[row]) for table, row in zip(self.tables, rows, strict=True)]
        return {
            self.axis.column: sum(each),
            **{f"{self.place}_{number}": score for number, score in enumerate(each, 1)},
        }

    def costs(self, rows: Sequence[int]) -> dict[str, float]:
        """Return a network's additive costs, by column."""
        picked = list(zip(self.tables, rows, strict=True))
        return {
            name: base + sum(float(table.costs[name][row]) for table, row in picked)
            for name, base in self.outside.items()
        }
