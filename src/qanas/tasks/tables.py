"""Tables as people have them: CSV of any dialect, or Parquet. One line for each mistake, with file, line and column."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qanas.core.errors import InputError, nearest
from qanas.tasks.folders import read_bytes

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz")
NOTE_SUFFIX = ".txt"
PARQUET_SUFFIXES = (".parquet", ".pq")
TABLE_SUFFIXES = TEXT_SUFFIXES + PARQUET_SUFFIXES

MISSING = ("", "nan", "na", "n/a", "null", "none", "-", "?")
"""What stands where there is no value, in small letters."""

NO_CLASS = ("", "nan", "n/a", "?")
"""The same where there is no class: "Null", "NA" and "none" may well be one."""

_SEPARATORS = ",;\t|"
_BLANKS = " "
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_ROWS_LOOKED_AT = 50


def without_notes(tables: Sequence[Path]) -> list[Path]:
    """Return tables without the texts beside them: .txt files are tables where no others are, else notes.

    >>> [path.name for path in without_notes([Path("1.csv"), Path("README.txt")])]
    ['1.csv']
    >>> [path.name for path in without_notes([Path("1.txt"), Path("2.TXT")])]
    ['1.txt', '2.TXT']
    """
    return [path for path in tables if path.suffix.lower() != NOTE_SUFFIX] or list(tables)


def told_notes(count: int) -> str:
    """Return what a person should know of so many texts that `without_notes` left out."""
    return f"{count} texts ({NOTE_SUFFIX}) beside other tables: left out"


@dataclass(frozen=True)
class Table:
    """A table's columns as texts, or as numbers where the file has types.

    Attributes:
        path: of the file.
        frame: its columns.
        lines: of the file, from 1, at which each row stands, shape (rows,).
        separator: between columns; empty in files with types.
        remarks: what was made of it that a person should know.
    """

    path: Path
    frame: pl.DataFrame
    lines: NDArray[np.int64]
    separator: str = ""
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.frame.height

    @property
    def columns(self) -> list[str]:
        """Their names, in the file's order."""
        return self.frame.columns

    def place(self, row: int) -> str:
        """Return where a row is, for messages."""
        return f"{self.path}: line {self.lines[row]}"

    def has(self, names: Iterable[str]) -> str | None:
        """Return the first column that has one of some names, capitals or not; None where there is none."""
        small = {name.lower(): name for name in reversed(self.columns)}
        return next((small[name.lower()] for name in names if name.lower() in small), None)

    def named(self, name: str, key: str) -> str:
        """Return the column of a name, capitals or not.

        Args:
            name: that a recipe gives.
            key: of the recipe.

        Raises:
            InputError: there is none.
        """
        found = self.has([name])
        if found is None:
            close = nearest(name, self.columns)
            hint = f"did you mean '{close}'? " if close else ""
            raise InputError(f"task.{key}: {self.path} has no column '{name}': {hint}It has {_listed(self.columns)}")
        return found

    def texts(self, column: str) -> list[str]:
        """Return a column as texts without blanks around; a missing one is empty, and so is what is no number there."""
        series = self.frame[column]
        known = series.fill_nan(None) if series.dtype.is_float() else series
        return ["" if value is None else value.strip() for value in known.cast(pl.String, strict=False).to_list()]

    def is_numeric(self, column: str) -> bool:
        """Tell whether of the first values of a column that aren't missing more than half are numbers."""
        series = self.frame[column]
        if series.dtype != pl.String:
            return series.dtype.is_numeric() or series.dtype == pl.Boolean
        texts = [(text or "").strip() for text in series.head(_ROWS_LOOKED_AT).to_list()]
        found = [text for text in texts if text.lower() not in MISSING]
        return 2 * sum(_NUMBER.fullmatch(text) is not None for text in found) > len(found)

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Return a column as numbers, NaN where they are missing, shape (rows,).

        Raises:
            InputError: something else stands there.
        """
        series = self.frame[column]
        if series.dtype != pl.String and not (series.dtype.is_numeric() or series.dtype == pl.Boolean):
            raise InputError(f"{self.path}: column '{column}' is of type {series.dtype}, no numbers: leave it out")
        cast = series.cast(pl.Float64, strict=False)
        same = series.dtype != pl.String or cast.null_count() == series.null_count()
        values = cast.to_numpy().astype(np.float64) if same else self._parsed(series.to_list(), column)
        infinite = np.flatnonzero(np.isinf(values))
        if len(infinite):
            raise InputError(f"{self.place(infinite[0])}, column '{column}': infinite: mend it, or leave it empty")
        return values

    def _parsed(self, texts: Sequence[str | None], column: str) -> NDArray[np.float64]:
        """Return numbers as people write them, shape (rows,)."""
        commas = self.separator != ","
        values = np.full(len(texts), np.nan)
        for row, text in enumerate(texts):
            given = (text or "").strip()
            if given.lower() in MISSING:
                continue
            try:
                values[row] = float(given.replace(",", ".") if commas and _DECIMAL_COMMA.fullmatch(given) else given)
            except ValueError as error:
                comma = _DECIMAL_COMMA.fullmatch(given) is not None
                mend = "write it without a comma, decimals with a point" if comma else "mend it, or leave it empty"
                raise InputError(
                    f"{self.place(row)}, column '{column}': '{_short(given)}' is no number: {mend}"
                ) from error
        return values


def read_table(path: Path) -> Table:
    """Read a CSV file (commas, semicolons, tabs, bars; UTF-8, UTF-16 or Windows' code page) or a Parquet file.

    A first line of numbers alone is no header: columns are then called 1, 2, ... Blanks separate columns, one or more
    of them, where nothing else does and all lines then have as many.

    Raises:
        InputError: it is damaged; names the line and the mend.
    """
    if path.suffix.lower() in PARQUET_SUFFIXES:
        return _read_parquet(path)
    text, remarks = _text_of(path)
    numbered = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if numbered and numbered[0][1].lower().startswith("sep="):  # Excel's own
        numbered = numbered[1:]
    while numbered and numbered[0][1].startswith("#"):
        numbered = numbered[1:]
    if not numbered:
        raise InputError(f"{path}: empty: fetch the file again, or take it away")
    lines = [line for _, line in numbered]
    separator = _separator(path, lines)
    if all(line.endswith(separator) for line in lines):
        lines = [line[:-1] for line in lines]
    rows, ends = _cells(path, lines, separator)
    places = np.array([numbered[end - 1][0] for end in ends], np.int64)
    names = [name.strip() for name in rows[0]]
    if all(_NUMBER.fullmatch(name) for name in names):
        names = [str(place) for place in range(1, len(names) + 1)]
        remarks = (*remarks, f"{path}: its first line is numbers: columns are called 1 to {len(names)}")
    else:
        rows, places = rows[1:], places[1:]
    names = _sound_names(path, names)
    if not rows:
        raise InputError(f"{path}: a header, and no rows: add some, or take the file away")
    # Loggers end all lines so but the header.
    if all(len(row) == len(names) + 1 and not row[-1].strip() for row in rows):
        rows = [row[:-1] for row in rows]
    _require_even(path, rows, places, separator, len(names))
    if _are_units(rows):
        remarks = (*remarks, f"{path}: line {places[0]} has units, {_listed(rows[0])}: left out")
        rows, places = rows[1:], places[1:]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    # What spreadsheets and data frames put in front without a name, a row's number.
    kept = {
        name: pl.Series(values, dtype=pl.String) for name, values in columns.items() if not name.startswith(_UNNAMED)
    }
    return Table(path, pl.DataFrame(kept), places, separator, remarks)


def _are_units(rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether the first row has units: short words in columns that have numbers below, nothing in all others."""
    first, others = [cell.strip() for cell in rows[0]], rows[1:]
    words = [place for place, cell in enumerate(first) if cell.lower() not in MISSING]
    if not words or len(others) < _FEWEST_ROWS or any(len(cell) > _LONGEST_UNIT for cell in first):
        return False
    below = (row[place].strip() for place in words for row in others)
    return not any(_NUMBER.fullmatch(first[place]) for place in words) and all(
        _NUMBER.fullmatch(cell) or cell.lower() in MISSING for cell in below
    )


_LONGEST_UNIT, _FEWEST_ROWS = 12, 3
_UNNAMED = "\0"


def _text_of(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return a file's text, and what had to be done for it."""
    content = read_bytes(path)
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: damaged gzip file: fetch it again") from error
    if content[:4] == b"PK\x03\x04":
        raise InputError(f"{path}: an archive or a spreadsheet, no text: save it as CSV")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace"), ()
    if b"\0" in content:
        raise InputError(f"{path}: not plain text: save it as CSV in UTF-8")
    try:
        return content.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace"), (f"{path}: no UTF-8: read in Windows' western code page",)


def _separator(path: Path, lines: Sequence[str]) -> str:
    """Return what separates the columns of a text's lines, see `read_table`.

    Of several that stand in the header, as in ``time, s;current, A``, it is that which leaves lines of as many columns,
    and then that which leaves numbers whole.
    """
    there = [separator for separator in _SEPARATORS if separator in lines[0]]
    if there:
        return (
            there[0]
            if len(there) == 1
            else max(there, key=lambda own: (*_sense(path, lines, own), lines[0].count(own)))
        )
    try:
        rows, _ = _cells(path, lines, _BLANKS)
    except InputError:
        return _SEPARATORS[0]
    columns = {len(row) for row in rows}
    return _BLANKS if len(columns) == 1 and columns != {1} else _SEPARATORS[0]


def _sense(path: Path, lines: Sequence[str], separator: str) -> tuple[bool, float]:
    """Return whether the first lines have as many columns with a separator, and which share of cells are numbers."""
    rows: list[list[str]] = []
    for count in (_ROWS_LOOKED_AT + 1, _ROWS_LOOKED_AT // 2, 2):  # fewer, where a quote goes on behind them
        with contextlib.suppress(InputError):
            rows, _ = _cells(path, lines[:count], separator)
            break
    columns = len(rows[0]) if rows else 0
    # Loggers end lines with a separator, but for the header.
    cut = [row[:-1] if len(row) == columns + 1 and not row[-1].strip() else row for row in rows[1:]]
    cells = [cell.strip() for row in cut for cell in row]
    even = bool(rows) and all(len(row) == columns for row in cut)
    return even, sum(map(bool, map(_NUMBER.fullmatch, cells))) / max(1, len(cells))


def _cells(path: Path, lines: Sequence[str], separator: str) -> tuple[list[list[str]], list[int]]:
    """Return rows of cells, and at which of the lines, from 1, each ends."""
    blanks = separator == _BLANKS  # one or more of them
    given = map(str.strip, lines) if blanks else lines
    reader = csv.reader(given, delimiter=separator, skipinitialspace=blanks, strict=True)
    rows, ends = [], []
    try:
        for row in reader:
            rows.append(row)
            ends.append(reader.line_num)
    except csv.Error as error:
        raise InputError(
            f"{path}: line {reader.line_num}: {error}: mend its quotes, or save the table again"
        ) from error
    return rows, ends


def _sound_names(path: Path, names: list[str]) -> list[str]:
    small = [name.lower() for name in names]
    for place, name in enumerate(names):
        if name and small.index(name.lower()) != place:
            raise InputError(f"{path}: line 1: the column '{name}' is there twice: give every column a name of its own")
    unnamed = [place for place, name in enumerate(names) if not name]
    if any(place > 0 for place in unnamed):
        place = next(place for place in unnamed if place > 0)
        raise InputError(f"{path}: line 1: column {place + 1} has no name: give it one, or take it away")
    return [name or f"{_UNNAMED}{place}" for place, name in enumerate(names)]


def _require_even(
    path: Path, rows: Sequence[Sequence[str]], places: NDArray[np.int64], separator: str, columns: int
) -> None:
    """Refuse rows with more or fewer columns."""
    for number, row in zip(places, rows, strict=True):
        if len(row) != columns:
            mend = "mend the line"
            if separator == "," and len(row) == 2 * columns and _is_cut(row):
                mend = "are these decimal commas? Separate columns by ;"
            elif columns == 1:
                mend = "is the first line a title? Put # in front, or take it away"
            raise InputError(f"{path}: line {number}: {len(row)} columns, the header has {columns}: {mend}")


def _is_cut(row: Sequence[str]) -> bool:
    """Tell whether all of a row's cells are digits, as those of numbers are that were cut at their decimal commas."""
    return len(row) % 2 == 0 and all(cell.strip().lstrip("+-").isdecimal() for cell in row)


def _read_parquet(path: Path) -> Table:
    try:
        frame = pl.read_parquet(io.BytesIO(read_bytes(path)))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: not a Parquet file: fetch it again, or write it anew") from error
    if not frame.height:
        raise InputError(f"{path}: no rows: add some, or take the file away")
    return Table(path, frame, np.arange(1, frame.height + 1))


_FEW = 12


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_FEW]) + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."  # noqa: PLR2004 - a line has to stay one
