"""The tables of a run folder as polars data frames."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import polars as pl

from qanas.core.errors import InputError
from qanas.core.run_folder import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

PARQUET = ".parquet"

TEXT_COLUMNS = ("candidate", "key", "outcome", "reason", "status")
"""Columns of text in any table: in CSV, names made of digits alone must stay as they were written."""


def read_table(path: Path) -> pl.DataFrame:
    """Read a table, CSV or Parquet by its name; a missing or empty file is a table without rows or columns.

    Args:
        path: of the file.

    Returns:
        One row a trial, front point or finalist.

    Raises:
        InputError: the file is no table.
    """
    if not path.is_file() or not path.read_bytes().strip():
        return pl.DataFrame()
    try:
        return pl.read_parquet(path) if path.suffix == PARQUET else _read_csv(path)
    except pl.exceptions.PolarsError as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{path}: {first}; the table was damaged, run again to write it anew") from error


def _read_csv(path: Path) -> pl.DataFrame:
    table = pl.read_csv(path, infer_schema_length=None)
    text = {name: pl.String for name in TEXT_COLUMNS if name in table.columns}
    return pl.read_csv(path, infer_schema_length=None, schema_overrides=text)


def write_parquet(path: Path, table: pl.DataFrame) -> None:
    """Write a table with its types; equal tables give equal bytes."""
    content = io.BytesIO()
    table.write_parquet(content)
    write_atomically(path, content.getvalue())
