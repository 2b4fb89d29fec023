"""Series from tables: a file a recording, or one file and a column that tells recordings apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qanas.core.errors import InputError
from qanas.tasks.folders import all_files, require_folder
from qanas.tasks.labels import LABEL_TABLE, Sample, Wanted, find_samples, grouped
from qanas.tasks.pictures import readable_name
from qanas.tasks.tables import TABLE_SUFFIXES, Table, read_table, told_notes, without_notes
from qanas.tasks.timeseries.times import seconds_of

Floats = NDArray[np.float64]

SERIES_SUFFIXES = (*(suffix for suffix in TABLE_SUFFIXES if suffix.count(".") == 1), ".gz")

GAP = 3.0
"""Steps longer than so many usual ones are gaps, over which no window reaches."""


@dataclass(frozen=True)
class Columns:
    """Which columns mean what.

    Attributes:
        target: of what is predicted; none: the file's class.
        numbers: whether targets are numbers.
        recording: tells recordings of a file apart.
        time: when a row was read.
        group: tells what recordings belong to.
        channels: what networks are given; none: all columns of numbers without another meaning.
        target_is_given: whether the target's own past is among them.
        life: the largest number of rows that are told to be left of a recording; none: that isn't what is predicted.
    """

    target: str | None = None
    numbers: bool = False
    recording: str | None = None
    time: str | None = None
    group: str | None = None
    channels: tuple[str, ...] = ()
    target_is_given: bool = False
    life: float | None = None

    @property
    def of_files(self) -> bool:
        """Whether the file's class is predicted."""
        return self.target is None and self.life is None


@dataclass(frozen=True)
class Series:
    """Rows of one recording that follow each other without a gap.

    Attributes:
        recording: its name.
        group: what it belongs to; empty where nothing is known.
        split: that is given; empty where none is.
        label: its class, where that is the file's.
        values: of the channels, shape (rows, channels).
        targets: of every row, numbers (NaN: missing) or texts, shape (rows,); none where the file has one.
        lines: of the file, of every row, shape (rows,).
    """

    recording: str
    group: str
    split: str
    label: str
    values: Floats
    targets: NDArray[np.object_] | Floats | None
    lines: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.values)

    def part(self, rows: slice, **changes: str) -> Series:
        """Return some rows that follow each other."""
        own = {name: getattr(self, name) for name in ("recording", "group", "split", "label")} | changes
        targets = None if self.targets is None else self.targets[rows]
        return Series(**own, values=self.values[rows], targets=targets, lines=self.lines[rows])


@dataclass
class Found:
    """What was read.

    Attributes:
        channels: their names.
        series: in the order of files and rows.
        gaps: steps that were gaps.
        missing: values that were missing, by channel.
        remarks: what a person should know of the files.
    """

    channels: tuple[str, ...] = ()
    series: list[Series] = field(default_factory=list)
    gaps: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def find_series(data: Path, columns: Columns, wanted: Wanted) -> Found:
    """Read all series of a file or a folder.

    Args:
        data: a file, or a folder: with a folder a class or a table of labels where the target is the file's class, else
            with files.
        columns: which mean what.
        wanted: files and labels that are looked for.

    Raises:
        InputError: something is missing or damaged; names file, line, column and mend.
    """
    found = Found()
    if data.is_file():
        if columns.of_files:
            raise InputError(f"task.target: {data} is one file: name the column of what is to be predicted")
        files = [Sample(data, readable_name(data.name), "")]
    elif columns.of_files:
        files, said = find_samples(data, wanted)
        found.remarks += said
    else:
        plain, said = _plain_files(data, wanted)
        files = grouped(plain, wanted)
        found.remarks += said
    told: list[tuple[Path, str]] = []
    for sample in files:
        table = read_table(sample.path)
        told += [(sample.path, remark.removeprefix(f"{sample.path}: ")) for remark in table.remarks]
        if not found.channels:
            found.channels = _channels(table, columns)
            found.remarks += _left_out(table, columns, found.channels)
        _require_channels(table, found.channels, files[0].path)
        for part in _recordings(table, sample, columns):
            _add(found, table, part, columns)
    found.remarks += _once(told)
    if not columns.channels:
        found.remarks += _clocks(found)
    return found


def _require_channels(table: Table, channels: Sequence[str], first: Path) -> None:
    """Refuse a file without the columns of the first one."""
    lacking = [name for name in channels if table.has([name]) is None]
    if lacking:
        raise InputError(
            f"{table.path}: no column '{lacking[0]}', which {first.name} has: give all files the same columns"
        )


def _once(told: Sequence[tuple[Path, str]]) -> list[str]:
    """Return what is told of files, of several alike once."""
    alike: dict[str, list[Path]] = {}
    for path, said in told:
        alike.setdefault(said, []).append(path)
    return [
        f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {said}" for said, paths in alike.items()
    ]


def _clocks(found: Found) -> list[str]:
    """Say which channels rise from row to row in every recording: of a clock a network learns nothing that holds."""
    if sum(len(one) - 1 for one in found.series) < _ROWS_OF_A_CLOCK:
        return []
    rising = np.ones(len(found.channels), bool)
    for one in found.series:
        rising &= (np.diff(one.values, axis=0) > 0).all(axis=0)
    names = [name for name, rises in zip(found.channels, rising, strict=True) if rises]
    told = "name it task.time, or leave it out by task.channels"
    return [f"column '{name}' rises from row to row in every recording, as a clock does: {told}" for name in names]


_ROWS_OF_A_CLOCK = 20
"""Steps from which on that is no chance."""


def _plain_files(data: Path, wanted: Wanted) -> tuple[list[Sample], list[str]]:
    """Return a folder's tables, and remarks."""
    require_folder(data, "tables of readings, or name one file")
    tables = [path for path in all_files(data) if path.suffix.lower() in wanted.suffixes and path.name != LABEL_TABLE]
    files = without_notes(tables)
    if not files:
        raise InputError(f"{data}: no {wanted.what}: put files there that end in {', '.join(wanted.suffixes)}")
    notes = len(tables) - len(files)
    remarks = [told_notes(notes)] if notes else []
    return [Sample(path, readable_name(path.relative_to(data).as_posix()), "") for path in files], remarks


def _channels(table: Table, columns: Columns) -> tuple[str, ...]:
    """Return the columns that networks are given."""
    if columns.channels:
        named = tuple(table.named(name, "channels") for name in columns.channels)
        twice = next((name for name in named if named.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"task.channels: '{twice}' is there twice: name each column once")
        return named
    meant = {
        table.named(name, key)
        for key, name in (("recording", columns.recording), ("time", columns.time), ("group", columns.group))
        if name is not None
    }
    if columns.target is not None and not columns.target_is_given:
        meant.add(table.named(columns.target, "target"))
    found = tuple(name for name in table.columns if name not in meant and table.is_numeric(name))
    if not found:
        raise InputError(f"{table.path}: no column of numbers to predict from: it has {', '.join(table.columns)}")
    return found


def _left_out(table: Table, columns: Columns, channels: Sequence[str]) -> list[str]:
    """Say which columns are no numbers, and nothing else either."""
    meant = {
        *channels,
        *(table.has([name]) for name in (columns.target, columns.recording, columns.time, columns.group) if name),
    }
    plain = [] if columns.channels else [name for name in table.columns if name not in meant]
    return [f"columns that are no numbers, left out: {', '.join(plain)}"] if plain else []


def _recordings(table: Table, sample: Sample, columns: Columns) -> Iterator[tuple[Sample, NDArray[np.intp]]]:
    """Yield the recordings of a file and their rows."""
    groups = table.texts(table.named(columns.group, "group")) if columns.group else [sample.group] * len(table)
    if columns.recording is None:
        yield _one_group(table, sample, sample.name, groups, np.arange(len(table)))
        return
    names = table.texts(table.named(columns.recording, "recording"))
    if "" in names:
        place = table.place(names.index(""))
        raise InputError(f"{place}, column '{columns.recording}': empty: name the recording, or take the line away")
    _, first, numbers = np.unique(np.array(names), return_index=True, return_inverse=True)
    for number in np.argsort(first):
        rows = np.flatnonzero(numbers == number)
        yield _one_group(table, sample, names[rows[0]], groups, rows)


def _one_group(
    table: Table, sample: Sample, name: str, groups: Sequence[str], rows: NDArray[np.intp]
) -> tuple[Sample, NDArray[np.intp]]:
    other = next((row for row in rows if groups[row] != groups[rows[0]]), None)
    if other is not None:
        raise InputError(
            f"{table.place(other)}: the recording '{name}' is of '{groups[other]}' here, and of '{groups[rows[0]]}' in "
            f"line {table.lines[rows[0]]}: a recording is of one group; see task.recording"
        )
    return Sample(sample.path, name, sample.label, groups[rows[0]], sample.split), rows


def _add(found: Found, table: Table, part: tuple[Sample, NDArray[np.intp]], columns: Columns) -> None:
    """Add a recording, in pieces where it has gaps."""
    sample, rows = part
    values = np.stack([table.numbers(name)[rows] for name in found.channels], axis=1)
    for place, name in enumerate(found.channels):
        count = int(np.isnan(values[:, place]).sum())
        if count == len(rows):
            raise InputError(
                f"{table.path}, column '{name}': no value in '{sample.name}': leave the column out, see task.channels"
            )
        if count:
            found.missing[name] = found.missing.get(name, 0) + count
    targets = None
    if columns.target is not None:
        name = table.named(columns.target, "target")
        targets = table.numbers(name)[rows] if columns.numbers else np.array(table.texts(name), object)[rows]
    elif columns.life is not None:
        targets = np.minimum(np.arange(len(rows))[::-1], columns.life).astype(np.float64)
    whole = Series(sample.name, sample.group, sample.split, sample.label, held(values), targets, table.lines[rows])
    borders = [0, *_gaps(table, rows, columns.time), len(rows)]
    found.gaps += len(borders) - 2
    found.series += [whole.part(slice(first, last)) for first, last in itertools.pairwise(borders)]


def held(values: Floats) -> Floats:
    """Return values in which a missing one is the last one that was there, at the beginning the first one to come.

    Args:
        values: NaN where missing, shape (rows, channels), at least one of each channel.

    >>> held(np.array([[np.nan], [1.0], [np.nan], [2.0]])).T
    array([[1., 1., 1., 2.]])
    """
    there = ~np.isnan(values)
    rows = np.where(there, np.arange(len(values))[:, None], -1)
    last = np.maximum.accumulate(rows, axis=0)
    last = np.where(last < 0, there.argmax(axis=0), last)
    return np.asarray(np.take_along_axis(values, last, axis=0))


def _gaps(table: Table, rows: NDArray[np.intp], time: str | None) -> list[int]:
    """Return the rows before which there is a gap in time."""
    if time is None or len(rows) < 2:  # noqa: PLR2004 - no step
        return []
    column = table.named(time, "time")
    times = seconds_of(table, column)[rows]
    steps = np.diff(times)
    wrong = np.flatnonzero(~(steps > 0))
    if len(wrong):
        step = steps[wrong[0]]
        told = "back in time: sort the lines, or name the column that tells recordings apart (task.recording)"
        if step == 0:
            told = "the time of the line before: take one of them away, or leave task.time out"
        elif np.isnan(step):
            told = "no time here or before: give it one, or take the line away"
        raise InputError(f"{table.place(int(rows[wrong[0] + 1]))}, column '{column}': {told}")
    return [int(place) + 1 for place in np.flatnonzero(steps > GAP * np.median(steps))]
