"""The tables of a block-wise run: for every path through a block and every bit-width its score and its costs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.errors import InputError
from qanas.core.tables import read_table
from qanas.reporting.wording import is_cost

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import polars as pl

    from qanas.core.run_folder import RunFolder

_COLUMNS = {"weight_bits", "options", "nsr", "exact"}


@dataclass(frozen=True)
class BlockRows:
    """The table of one block, a row a path and bit-width.

    Attributes:
        name: of the block.
        options: what stands at each layer, from the first to the last, such as ``("k5e3", "k3e6")``.
        weight_bits: of all weights.
        nsr: quantized noise-to-signal ratio, shape (rows,).
        exact: whether it is over all held-out samples, shape (rows,); the others were dropped in the races.
        costs: of the block, each of shape (rows,).
    """

    name: str
    options: tuple[tuple[str, ...], ...]
    weight_bits: tuple[int, ...]
    nsr: NDArray[np.float64]
    exact: NDArray[np.bool_]
    costs: Mapping[str, NDArray[np.float64]]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.options)

    def row_with(self, nsr: float) -> int | None:
        """Return the row with exactly this score: front.csv names no rows, but has each block's score in full."""
        rows = np.flatnonzero(self.exact & (self.nsr == nsr))
        return int(rows[0]) if len(rows) else None


def networks_of(blocks: Sequence[BlockRows]) -> int:
    """Return how many networks the tables stand for: one row of each, in every combination."""
    return math.prod(len(block) for block in blocks)


def chosen_rows(blocks: Sequence[BlockRows], point: Mapping[str, Any]) -> list[int] | None:
    """Return the row of each block that a front point consists of; None where the tables aren't those of the front.

    Args:
        blocks: in the order in which values pass them.
        point: a row of front.csv.
    """
    rows = [block.row_with(float(point.get(f"nsr_{place}") or math.nan)) for place, block in enumerate(blocks, 1)]
    found = [row for row in rows if row is not None]
    return found if len(found) == len(rows) else None


def read_blocks(folder: RunFolder, summary: Mapping[str, Any]) -> tuple[BlockRows, ...]:
    """Read the tables of all blocks; those that are not there yet are left out.

    Args:
        folder: of the run.
        summary: names the blocks in the order in which values pass them, once the search has ended.

    Raises:
        InputError: a table was damaged.
    """
    paths = {path.parent.name: path for path in sorted(folder.blocks.glob("[!.]*/table-*.parquet"))}
    order = list(summary.get("tables", {}).get("blocks", {}))
    names = sorted(paths, key=lambda name: (order.index(name) if name in order else len(order), _natural(name)))
    return tuple(_read(name, paths[name]) for name in names)


def _read(name: str, path: Path) -> BlockRows:
    frame = read_table(path)
    lacking = sorted(_COLUMNS - set(frame.columns))
    if lacking:
        raise InputError(f"{path}: has no column {lacking[0]}; the table was damaged, run again to write it anew")
    return BlockRows(
        name,
        tuple(tuple(str(text).split("-")) for text in frame["options"]),
        tuple(frame["weight_bits"].to_list()),
        _numbers(frame, "nsr"),
        frame["exact"].to_numpy().astype(np.bool_),
        {column: _numbers(frame, column) for column in frame.columns if is_cost(column)},
    )


def _numbers(frame: pl.DataFrame, column: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = frame[column].to_numpy().astype(np.float64)
    return values


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that puts block_10 after block_9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
