"""A block's table: for every path and bit-width its quantized noise-to-signal ratio and its costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qanas.core.tables import write_parquet
from qanas.performance_estimation.block_table.layers import Path, Row


@dataclass(frozen=True)
class BlockTable:
    """The rows of one block.

    Attributes:
        rows: bits and paths.
        scores: the mean quantized noise-to-signal ratio of every row.
        samples: how many held-out samples it is over; a few of an inexact row's may stand for a prediction.
        exact: whether a row has it over all of them and with its own statistics; others were dropped on the way.
        costs: of every row, by their names.
        by_sample: the score of every exact row on every sample, shape (exact rows, samples).
    """

    rows: tuple[Row, ...]
    scores: NDArray[np.float64]
    samples: NDArray[np.int64]
    exact: NDArray[np.bool_]
    costs: Mapping[str, NDArray[np.float64]]
    by_sample: NDArray[np.float64]

    def exact_rows(self) -> NDArray[np.intp]:
        """Return the positions of the exact rows."""
        return np.flatnonzero(self.exact)

    def losses(self, rows: NDArray[np.intp], costs: Sequence[str]) -> NDArray[np.float64]:
        """Return score and costs of some rows, shape (rows, 1 + costs)."""
        return np.column_stack([self.scores[rows], *(self.costs[name][rows] for name in costs)])

    def write(self, path: FilePath, names: Sequence[Sequence[str]]) -> None:
        """Write the table as one Parquet file.

        Args:
            path: of the file; it appears whole or not at all.
            names: of the options of every layer, for people.
        """
        by_sample: list[list[float] | None] = [None] * len(self.rows)
        for position, scores in zip(self.exact_rows(), self.by_sample, strict=True):
            by_sample[position] = scores.tolist()
        frame = {
            "weight_bits": [bits for bits, _ in self.rows],
            "path": [list(row) for _, row in self.rows],
            "options": [
                "-".join(options[position] for options, position in zip(names, row, strict=True))
                for _, row in self.rows
            ],
            "nsr": self.scores,
            "samples": self.samples,
            "exact": self.exact,
            **self.costs,
            "nsr_by_sample": by_sample,
        }
        write_parquet(path, pl.DataFrame(frame, schema_overrides={"nsr_by_sample": pl.List(pl.Float64)}))

    @classmethod
    def read(cls, path: FilePath) -> Self:
        """Return a table that `write` wrote."""
        frame = pl.read_parquet(path)
        known = {"weight_bits", "path", "options", "nsr", "samples", "exact", "nsr_by_sample"}
        paths: list[Path] = [tuple(row) for row in frame["path"]]
        kept = [scores.to_list() for scores in frame["nsr_by_sample"] if scores is not None]
        return cls(
            tuple(zip(frame["weight_bits"].to_list(), paths, strict=True)),
            frame["nsr"].to_numpy(),
            frame["samples"].to_numpy(),
            frame["exact"].to_numpy(),
            {name: frame[name].to_numpy() for name in frame.columns if name not in known},
            np.array(kept),
        )
