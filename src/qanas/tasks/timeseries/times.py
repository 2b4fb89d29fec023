"""Times of rows, as loggers and people write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qanas.core.errors import InputError
from qanas.tasks.tables import MISSING, Table

Floats = NDArray[np.float64]

_DATES = ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d")
"""Forms of dates beside that of ISO 8601, as `datetime.strptime` has them."""

_NO_DATE = ""
_FORMS = (None, *_DATES, _NO_DATE)
"""None: that of ISO 8601."""

_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d(?:[.,]\d+)?))?\s*([ap]m)?", re.IGNORECASE)
_DIGITS = re.compile(r"(19|20)\d{12}")
_HALF_A_DAY = 43200.0

_NAMES = ("time", "timestamp", "date", "datetime", "t")
_UNIT = re.compile(r"\s*(?:\[([^]]*)\]|\(([^)]*)\)|/\s*(\w+)|[_ ](s|secs?|seconds|ms|us|ns|utc))$")
_OF_TIME = ("s", "sec", "secs", "seconds", "ms", "us", "µs", "ns", "min", "h")


def time_column(table: Table) -> str | None:
    """Return the column that is called as times are, with a unit or without; None where there is none.

    >>> from pathlib import Path
    >>> frame = pl.DataFrame({"T (degC)": [20.0], "Date Time": ["1.1.2026"], "t [s]": [1.0]})
    >>> [time_column(Table(Path(), frame.select(name), np.array([2]))) for name in frame.columns]
    [None, 'Date Time', 't [s]']
    """
    plain = {}
    for name in table.columns:
        small = name.strip().lower()
        found = _UNIT.search(small)
        unit = "" if found is None else next(filter(None, found.groups()), "").strip()
        own = re.sub(r"[_ ]+", "", small if found is None else small[: found.start()])
        if own != "t" or unit in {"", *_OF_TIME}:  # a temperature, most likely
            plain[name] = own
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
    if series.dtype != pl.String:
        return table.numbers(column)
    texts = table.texts(column)
    there = [row for row, text in enumerate(texts) if text.lower() not in MISSING]
    known = [texts[row] for row in there]
    seconds = _of_digits(known) if table.is_numeric(column) else _of_texts(known, table, column, there)
    if seconds is None:
        return table.numbers(column)
    found = np.full(len(table), np.nan)
    found[there] = seconds
    return found


def _of_digits(texts: Sequence[str]) -> list[float] | None:
    """Return the times of ``20261129120000`` and the like; None where one isn't that."""
    if not texts or not all(map(_DIGITS.fullmatch, texts)):
        return None
    try:
        return [datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp() for text in texts]
    except ValueError:
        return None


def _of_texts(texts: Sequence[str], table: Table, column: str, rows: Sequence[int]) -> list[float]:
    """Return the times of texts, whose dates are all of one form; of several that fit that by which they are nearest.

    ``11/01/2024`` and ``12/01/2024`` may be a day apart or a month: rows of a log are rather near each other.
    """
    ways: dict[str | None, list[float]] = {form: [] for form in _FORMS}
    for text, row in zip(texts, rows, strict=True):
        for form in tuple(ways):
            second = _second(text, form)
            if second is not None:
                ways[form].append(second)
            elif len(ways) > 1:
                del ways[form]
            else:
                other = " of the form of those before" if row != rows[0] else ""
                raise InputError(
                    f"{table.place(row)}, column '{column}': '{text}' is no time{other}: write seconds, or 2026-11-29 "
                    "12:00:00, or leave task.time out"
                )
    if _NO_DATE in ways:
        days = np.cumsum(np.diff(ways[_NO_DATE], prepend=ways[_NO_DATE][:1]) < -_HALF_A_DAY)
        return [float(second) for second in ways[_NO_DATE] + days * 2 * _HALF_A_DAY]
    return min(ways.values(), key=lambda way: max(way) - min(way)) if texts else []


def _second(text: str, form: str | None) -> float | None:
    """Return a time in seconds; None where its date hasn't the form."""
    if form is None:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    if form == _NO_DATE:
        return _of_clock(text)
    date, _, clock = text.partition(" ")
    midnight = _midnight(date, form)
    since = _of_clock(clock.strip()) if clock.strip() else 0.0
    return None if midnight is None or since is None else midnight + since


@lru_cache(maxsize=1024)
def _midnight(date: str, form: str) -> float | None:
    try:
        return datetime.strptime(date, form).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _of_clock(text: str) -> float | None:
    """Return the seconds since midnight; None where it is no time of a day.

    >>> _of_clock("11:30:00.5"), _of_clock("12:30 am"), _of_clock("25:00")
    (41400.5, 1800.0, None)
    """
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    hour, minute, second = int(found[1]), int(found[2]), float((found[3] or "0").replace(",", "."))
    if found[4]:
        if not 1 <= hour <= 12:  # noqa: PLR2004 - of a clock's face
            return None
        hour = hour % 12 + 12 * (found[4].lower() == "pm")
    return hour * 3600.0 + minute * 60.0 + second if hour < 24 and minute < 60 and second < 61 else None  # noqa: PLR2004
