"""Which series are trained, validated and tested on: whole recordings, or the last part of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qanas.core.errors import InputError
from qanas.tasks.likeness import likeness, near_remarks
from qanas.tasks.samples import FloatArray
from qanas.tasks.splits import SPLITS, completed, together
from qanas.tasks.timeseries.reader import Floats, Series

Parts = dict[str, list[Series]]
"""The series of each split; each is of a group."""


@dataclass(frozen=True)
class Division:
    """How series are divided.

    Attributes:
        place: the data, for messages.
        by: "recording": recordings, or groups of them, are held out whole; "time": the last part of each recording is.
        shares: of val and test.
        seed: of which recordings.
        horizon: rows behind a window at which there has to be a target.
    """

    place: str
    by: Literal["recording", "time"]
    shares: Mapping[str, float]
    seed: int
    horizon: int

    def of(self, series: Sequence[Series]) -> tuple[Parts, list[str]]:
        """Return the series of every split, and remarks.

        Raises:
            InputError: a split would be empty.
        """
        return self._in_time(series) if self.by == "time" else self._by_recording(series)

    def _by_recording(self, series: Sequence[Series]) -> tuple[Parts, list[str]]:
        owners = {one.recording: one for one in reversed(series)}
        names = sorted(owners)
        digests = _digests(series)
        given_groups = [owners[name].group for name in names]
        most = int(min(self.shares.values()) * len(names))
        alike = likeness(_prints(series, names), [digests[name] for name in names], most)
        keys = [given_groups, names, [digests[name] for name in names]]
        groups = together(*keys) if any(given_groups) else together(*keys, alike.keys)
        # A recording of several classes counts once for each; it is one group all the same.
        classes = _classes(series)
        entries = [(place, label) for place, name in enumerate(names) for label in sorted(classes[name])]
        labels, whole = [label for _, label in entries], [groups[place] for place, _ in entries]
        given = [owners[names[place]].split for place, _ in entries]
        try:
            dealt, said = completed(labels, whole, given, self.shares, self.seed, self.place)
        except InputError as error:
            raise InputError(f"{error}; or take task.split = 'time'") from error
        split_of = {names[place]: split for (place, _), split in zip(entries, dealt, strict=True)}
        splits = [split_of[name] for name in names]
        said = [*near_remarks("recordings", names, given_groups, splits, alike), *said]
        owner_of = {name: names[group] for name, group in zip(names, groups, strict=True)}
        parts: Parts = {name: [] for name in SPLITS}
        for one in series:
            own = one.part(slice(None), group=one.group or owner_of[one.recording])
            parts[split_of[one.recording]].append(own)
        return parts, said

    def _in_time(self, series: Sequence[Series]) -> tuple[Parts, list[str]]:
        parts: Parts = {name: [] for name in SPLITS}
        for recording in _recordings(series):
            rows = sum(map(len, recording))
            last = round(rows * (1 - self.shares["test"]))
            middle = round(rows * (1 - self.shares["test"] - self.shares["val"]))
            borders = {"train": (0, middle), "val": (middle, last), "test": (last, rows)}
            begin = 0
            for one in recording:
                for name, (low, high) in borders.items():
                    kept = slice(max(0, low - begin), max(0, high - begin))
                    piece = one.part(kept, group=one.group or one.recording)
                    if len(piece) > self.horizon:
                        parts[name].append(piece)
                begin += len(one)
        for name, there in parts.items():
            if not there:
                raise InputError(
                    f"{self.place}: {name}: no series is longer than task.horizon: take less than {self.horizon}"
                )
        held = {name: set().union(*_classes(own).values()) for name, own in parts.items()}
        every = set().union(*held.values())
        lacking = {name: sorted(every - own) for name, own in held.items() if every - own}
        return parts, [
            f"{name} has no {', '.join(own[:_TOLD])}: "
            + ("it can't be learnt" if name == "train" else "nothing is known of it there")
            for name, own in lacking.items()
        ]


def _recordings(series: Sequence[Series]) -> Iterator[list[Series]]:
    """Yield the series of each recording of a file, between whose gaps they are, in the order of its rows."""
    found: list[Series] = []
    for one in series:
        if found and not (one.recording == found[-1].recording and one.lines[0] > found[-1].lines[-1]):
            yield found
            found = []
        found.append(one)
    if found:
        yield found


_TOLD = 8
"""Classes that a remark names."""


def _classes(series: Sequence[Series]) -> dict[str, set[str]]:
    """Return the classes of every recording: that of its file, or those of its rows; one without a name of numbers."""
    found: dict[str, set[str]] = {one.recording: set() for one in series}
    for one in series:
        by_row = one.targets is not None and one.targets.dtype == object
        found[one.recording] |= set(one.targets) - {""} if one.targets is not None and by_row else {one.label}
    return {name: own or {""} for name, own in found.items()}


def _digests(series: Sequence[Series]) -> dict[str, str]:
    """Return a digest of every recording's values."""
    found = {one.recording: hashlib.sha256() for one in series}
    for one in series:
        found[one.recording].update(np.ascontiguousarray(one.values).tobytes())
    return {name: total.hexdigest() for name, total in found.items()}


_PRINT_ROWS = 64


def _prints(series: Sequence[Series], names: Sequence[str]) -> FloatArray:
    """Return some rows of every recording, in the channels' deviations, shape (recordings, rows * channels)."""
    rows: dict[str, list[Floats]] = {name: [] for name in names}
    for one in series:
        rows[one.recording].append(one.values)
    whole = [np.concatenate(rows[name]) for name in names]
    some = np.stack([values[np.linspace(0, len(values) - 1, _PRINT_ROWS).round().astype(np.intp)] for values in whole])
    deviations = some.std(axis=(0, 1))
    found: FloatArray = (some / np.where(deviations > 0, deviations, 1.0)).astype(np.float32).reshape(len(names), -1)
    return np.nan_to_num(found)


def numbered_groups(parts: Mapping[str, Sequence[Series]]) -> dict[str, list[int]]:
    """Return the number of each series' group, by split."""
    names = sorted({one.group for own in parts.values() for one in own})
    numbers = {name: place for place, name in enumerate(names)}
    return {split: [numbers[one.group] for one in own] for split, own in parts.items()}
