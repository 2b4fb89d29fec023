"""Times of rows, as loggers and people write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import product

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qanas.core.errors import InputError
from qanas.tasks.tables import MISSING, Table

Floats = NDArray[np.float64]

_DATES = ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d")
_CLOCKS = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%H:%M:%S,%f", "%I:%M:%S %p", "%I:%M %p")
_DIGITS = "%Y%m%d%H%M%S"
_FORMS = (*_DATES, *_CLOCKS, *(" ".join(both) for both in product(_DATES, _CLOCKS)), _DIGITS)
"""Forms beside those of ISO 8601, as `datetime.strptime` has them."""

_ALL_DIGITS = re.compile(r"(19|20)\d{12}")
_UNIT = re.compile(r"\s*(\[[^]]*\]|\([^)]*\))$|[_ ](s|sec|secs|seconds|ms|us|ns|utc)$")
_NAMES = ("time", "timestamp", "date", "datetime", "t")


def time_column(table: Table) -> str | None:
    """Return the column that is called as times are, with a unit or without; None where there is none.

    >>> from pathlib import Path
    >>> frame = pl.DataFrame({"x": [1.0], "Time (s)": [0.5]})
    >>> time_column(Table(Path(), frame, np.array([2])))
    'Time (s)'
    """
    plain = {name: _UNIT.sub("", name.strip().lower()) for name in table.columns}
    return next((name for wanted in _NAMES for name, own in plain.items() if own == wanted), None)


def seconds_of(table: Table, column: str) -> Floats:
    """Return times in seconds, of numbers, dates or hours of a day, NaN where there is none, shape (rows,).

    Numbers are taken as seconds, whatever their unit: nothing but their steps beside each other counts.

    Raises:
        InputError: something else stands there; names the line.
    """
    series = table.frame[column]
    if isinstance(series.dtype, pl.Duration):
        return np.asarray(series.dt.total_microseconds().cast(pl.Float64).to_numpy() / 1e6)
    if series.dtype == pl.Time:
        return np.asarray(series.cast(pl.Int64).cast(pl.Float64).to_numpy() / 1e9)
    if series.dtype.is_temporal():
        return np.asarray(series.cast(pl.Datetime("us")).cast(pl.Int64).cast(pl.Float64).to_numpy() / 1e6)
    texts = table.texts(column)
    there = [row for row, text in enumerate(texts) if text.lower() not in MISSING]
    if table.is_numeric(column) and not (there and _ALL_DIGITS.fullmatch(texts[there[0]])):
        return table.numbers(column)
    found = np.full(len(table), np.nan)
    found[there] = _seconds([texts[row] for row in there], table, column, there)
    return found


def _seconds(texts: Sequence[str], table: Table, column: str, rows: Sequence[int]) -> list[float]:
    """Return the times of texts in seconds, all of one form; of several that fit that by which they are nearest.

    ``11/01/2024`` and ``12/01/2024`` may be a day apart or a month: rows of a log are rather near each other.
    """
    forms: list[str | None] = [None, *_FORMS]
    for text, row in zip(texts, rows, strict=True):
        fitting = [form for form in forms if _second(text, form) is not None]
        if not fitting:
            other = " of the form of those before" if row != rows[0] else ""
            raise InputError(
                f"{table.place(row)}, column '{column}': '{text}' is no time{other}: write seconds, or 2026-11-29 "
                "12:00:00, or leave task.time out"
            )
        forms = fitting
    ways = [[float(_second(text, form) or 0.0) for text in texts] for form in forms]
    return min(ways, key=lambda way: max(way) - min(way)) if texts else []


def _second(text: str, form: str | None) -> float | None:
    """Return a time in seconds; None where it hasn't the form: None itself is that of ISO 8601."""
    try:
        moment = datetime.fromisoformat(text) if form is None else datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
