"""Reader of the raw C-MAPSS text files: every damage is named by file and line.

Format (Saxena et al., "Damage Propagation Modeling for Aircraft Engine Run-to-Failure Simulation", PHM
2008): ``train_FD00x.txt`` and ``test_FD00x.txt`` have a line per engine and cycle with 26 numbers separated
by blanks (engine, cycle, 3 operational settings, 21 sensors); ``RUL_FD00x.txt`` has a line per test engine
with the cycles that it still had to live after its last line in the test file.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qanas.core.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SETTINGS = 3
SENSORS = 21
COLUMNS = 2 + SETTINGS + SENSORS
LARGEST = 1e9
"""No quantity in these files comes near; beyond it, a file is damaged and its squares could overflow."""

_SHORTEST_TRAINING = 2
"""Cycles. An engine of one cycle has failed when it started: it shows no run to failure."""

_BLANKS_AT_LINE_END = 2

_NOT_TEXT = re.compile(rb"[^\t-\r -~]")


@dataclass(frozen=True)
class Trajectories:
    """The rows of one file, grouped by engine; within an engine the cycles are 1, 2, 3, ...

    Attributes:
        engine: the engine of each row, shape (rows,).
        cycle: the cycle of each row, shape (rows,).
        settings: altitude (1000 ft), Mach number, throttle resolver angle (percent), shape (rows, 3).
        sensors: shape (rows, 21), in the file's units.
        first: each row's engine's first row, shape (rows,).
        last: each row's engine's last row, shape (rows,).
    """

    engine: Integers
    cycle: Integers
    settings: Floats
    sensors: Floats
    first: Integers
    last: Integers

    @property
    def engines(self) -> Integers:
        """The engines in the file's order, shape (engines,)."""
        return self.engine[self.last_rows]

    @property
    def last_rows(self) -> Integers:
        """The last row of each engine in the file's order, shape (engines,)."""
        return np.flatnonzero(self.last == np.arange(len(self.last)))


@dataclass(frozen=True)
class Subset:
    """One subset of C-MAPSS, raw.

    Attributes:
        train: engines run to failure.
        test: engines cut off before failure.
        test_rul: cycles from each test engine's last row to its failure, shape (test engines,).
    """

    train: Trajectories
    test: Trajectories
    test_rul: Floats


@dataclass(frozen=True)
class SubsetFiles:
    """Where the three files of one subset are."""

    train: Path
    test: Path
    rul: Path

    @classmethod
    def find(cls, folder: Path, subset: str) -> SubsetFiles:
        """Return the files of ``subset`` in ``folder``.

        Raises:
            InputError: the folder or one of the files is missing.
        """
        if not folder.is_dir():
            reason = "is not a folder" if folder.exists() else "does not exist"
            raise InputError(
                f"task.data: {folder} {reason}: give the folder of train_{subset}.txt, or data = 'synthetic'"
            )
        files = cls(*(folder / f"{part}_{subset}.txt" for part in ("train", "test", "RUL")))
        for path in (files.train, files.test, files.rul):
            if not path.is_file():
                raise InputError(f"{path} is missing: put the C-MAPSS file there, or change task.data or task.subset")
        return files

    def digest(self) -> str:
        """Return the SHA-256 of the three files' contents, each preceded by its length."""
        digest = hashlib.sha256()
        for path in (self.train, self.test, self.rul):
            content = _read_bytes(path)
            digest.update(len(content).to_bytes(8, "big"))
            digest.update(content)
        return digest.hexdigest()

    def read(self) -> Subset:
        """Read and check the three files.

        Raises:
            InputError: a file is damaged; the message names the file and, where there is one, the line.
        """
        train = read_trajectories(self.train)
        _check_run_to_failure(self.train, train)
        test = read_trajectories(self.test)
        return Subset(train, test, read_rul(self.rul, len(test.engines), self.test.name))


def read_trajectories(path: Path) -> Trajectories:
    """Read a training or a test file.

    Raises:
        InputError: the file is damaged.
    """
    table = read_table(path, COLUMNS)
    engine = _whole_numbers(path, table, 0, "engine")
    cycle = _whole_numbers(path, table, 1, "cycle")
    starts = np.flatnonzero(np.r_[True, engine[1:] != engine[:-1]])
    _check_order(path, engine, cycle, starts)
    lengths = np.diff(np.r_[starts, len(engine)])
    return Trajectories(
        engine=engine,
        cycle=cycle,
        settings=table[:, 2 : 2 + SETTINGS],
        sensors=table[:, 2 + SETTINGS :],
        first=np.repeat(starts, lengths),
        last=np.repeat(starts + lengths - 1, lengths),
    )


def read_rul(path: Path, engines: int, test_name: str) -> Floats:
    """Read the remaining useful lives of the test engines.

    Args:
        path: the RUL file.
        engines: how many engines the test file has.
        test_name: the test file's name, for the message.

    Returns:
        Cycles to failure, in the order of the test file's engines, shape (engines,).

    Raises:
        InputError: the file is damaged or of the wrong length.
    """
    rul = read_table(path, 1)[:, 0]
    if len(rul) != engines:
        raise InputError(
            f"{path}: found {len(rul)} lines, expected {engines}: {test_name} has {engines} engines, give each a line"
        )
    if (rul < 0).any():
        row = int(np.argmax(rul < 0))
        raise InputError(
            f"{path}, line {row + 1}: a remaining useful life of {rul[row]:g} cycles: it must be 0 or more"
        )
    return rul


def read_table(path: Path, columns: int) -> Floats:
    """Read a text file of finite numbers separated by white space; row i is line i + 1.

    Args:
        path: the file.
        columns: numbers a line.

    Returns:
        Shape (rows, columns), at least one row.

    Raises:
        InputError: the file is empty, not text, or has a line that is not ``columns`` finite numbers.
    """
    content = _read_bytes(path).removeprefix(codecs.BOM_UTF8)
    if not content.strip():
        raise InputError(f"{path}: the file is empty: put the C-MAPSS file there")
    if not content.isascii() or b"\0" in content:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f'{path}: this is UTF-16, as some programs\' "Unicode": save it as plain text or UTF-8')
        found = _NOT_TEXT.search(content)
        line = content.count(b"\n", 0, found.start() if found else 0) + 1
        raise InputError(f"{path}, line {line}: not plain text: expected {columns} numbers a line, unpack the file")
    table = _parse_fast(content, columns)
    if table is None:
        table = _parse_with_checks(path, content, columns)
    _check_finite(path, table)
    return table


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from error


def _parse_fast(content: bytes, columns: int) -> Floats | None:
    """Parse a file as NASA publishes it, ten times as fast as line by line; None where anything is unusual.

    The shape of what is returned is (rows, columns).

    NASA ends its lines with blanks, which are empty columns here.
    """
    found = content.partition(b"\n")[0].count(b" ") + 1
    if found > columns + _BLANKS_AT_LINE_END:
        return None
    names = [str(column) for column in range(found)]
    schema = {name: pl.Float64 if i < columns else pl.String for i, name in enumerate(names)}
    try:
        frame = pl.read_csv(content, separator=" ", has_header=False, quote_char=None, schema=schema)
    except pl.exceptions.PolarsError:
        return None
    values, rest = frame[:, :columns], frame[:, columns:]
    complete = len(values) == content.rstrip().count(b"\n") + 1 and values.width == columns
    nulls = sum(values.null_count().row(0))
    empty = all(count == len(rest) for count in rest.null_count().row(0)) if rest.width else True
    return values.to_numpy(order="c") if complete and empty and not nulls else None


def _parse_with_checks(path: Path, content: bytes, columns: int) -> Floats:
    """Parse line by line to shape (rows, columns), naming the first line that is damaged."""
    rows = []
    for line, text in enumerate(content.rstrip().split(b"\n"), start=1):
        words = text.split()
        if len(words) != columns:
            raise InputError(
                f"{path}, line {line}: found {len(words)} columns, expected {columns}: "
                "mend the line or fetch the file again"
            )
        rows.append([_number(path, line, column, word) for column, word in enumerate(words, start=1)])
    return np.array(rows, dtype=np.float64)


def _number(path: Path, line: int, column: int, word: bytes) -> float:
    try:
        # Python takes 1_000 for a number; in a data file it is damage.
        return float(word if b"_" not in word else b"")
    except ValueError:
        raise InputError(
            f"{path}, line {line}, column {column}: {word[:40].decode()!a} is not a number: "
            "mend the line or fetch the file again"
        ) from None


def _check_finite(path: Path, table: Floats) -> None:
    bad = ~(np.abs(table) <= LARGEST)
    if bad.any():
        row, column = divmod(int(np.argmax(bad)), table.shape[1])
        raise InputError(
            f"{path}, line {row + 1}, column {column + 1}: {table[row, column]} is not a finite number "
            f"of at most {LARGEST:g}: mend the line or leave its engine out"
        )


def _whole_numbers(path: Path, table: Floats, column: int, name: str) -> Integers:
    values = table[:, column]
    whole: Integers = values.astype(np.int64)
    bad = (whole != values) | (whole < 1)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path}, line {row + 1}, column {column + 1}: "
            f"{name} {values[row]:g} is not a whole number from 1: mend the line"
        )
    return whole


def _check_order(path: Path, engine: Integers, cycle: Integers, starts: Integers) -> None:
    """Check that engines are grouped, each one's cycles counting up from 1; report the first line.

    Engines and cycles have the shape (rows,), the rows where engines start the shape (engines,).
    """
    expected = np.r_[1, cycle[:-1] + 1]
    expected[starts] = 1
    wrong = cycle != expected
    _, first_runs = np.unique(engine[starts], return_index=True)
    again = np.ones(len(starts), dtype=bool)
    again[first_runs] = False
    repeated = np.zeros(len(engine), dtype=bool)
    repeated[starts[again]] = True
    bad = wrong | repeated
    if not bad.any():
        return
    row = int(np.argmax(bad))
    if repeated[row]:
        raise InputError(
            f"{path}, line {row + 1}: engine {engine[row]} starts again after another engine: "
            "put the lines of each engine together"
        )
    raise InputError(
        f"{path}, line {row + 1}: engine {engine[row]} has cycle {cycle[row]}, expected {expected[row]}: "
        "each engine's cycles must count 1, 2, 3, ..."
    )


def _check_run_to_failure(path: Path, train: Trajectories) -> None:
    short = train.last_rows[train.cycle[train.last_rows] < _SHORTEST_TRAINING]
    if len(short):
        raise InputError(
            f"{path}, line {short[0] + 1}: engine {train.engine[short[0]]} has a single cycle: "
            "a training engine needs at least 2, leave it out"
        )
