"""What tasks share whose samples are files with labels: where they are found, and how they are divided."""

from __future__ import annotations

import hashlib
import tempfile
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qanas.tasks.base import Task
from qanas.tasks.labels import Sample, Wanted, digests_of, find_samples, fingerprint_of
from qanas.tasks.likeness import Likeness, likeness, near_remarks
from qanas.tasks.samples import FloatArray, Split
from qanas.tasks.splits import SPLITS, completed, shares_held_out, together

SYNTHETIC = "synthetic"
_LIKENESS: dict[tuple[str, str, int], Likeness] = {}
"""Of every set of files that this process has divided."""

Fraction = Annotated[float, Field(gt=0, lt=0.5)]


@dataclass(frozen=True)
class Divided:
    """Files by split, in the order of their names.

    Attributes:
        classes: their names, ascending.
        samples: by split.
        groups: the number of each sample's group, by split.
        digest: of names, labels and contents.
        remarks: what a person should know of them.
    """

    classes: tuple[str, ...]
    samples: Mapping[str, Sequence[Sample]]
    groups: Mapping[str, NDArray[np.int64]]
    digest: str
    remarks: tuple[str, ...]

    def targets(self, split: str) -> NDArray[np.int64]:
        """Return the classes of a split's samples, shape (n,)."""
        return np.array([self.classes.index(sample.label) for sample in self.samples[split]], np.int64)

    def extras(self, split: str) -> dict[str, NDArray[Any]]:
        """Return names and groups of a split's samples, each of shape (n,)."""
        return {"file": np.array([sample.name for sample in self.samples[split]]), "group": self.groups[split]}


@dataclass(frozen=True)
class LabelledFiles(Task):
    """Files with labels, in folders or named by a table.

    Attributes:
        data: a folder with a folder a class, or with such in ``train/``, ``val/`` and ``test/``, or with a table of
            labels; "synthetic" for generated ones.
        labels: the table's name in the folder, with the columns ``file`` and ``label``, and, if there are such,
            ``group`` and ``split``; by default labels.csv, if it is there.
        group: the table's column that tells what belongs together, such as a person: it stays in one split.
        group_pattern: where there is no such column, a regular expression whose one group (...) finds it in the file's
            path within the folder.
        val_fraction: share of the files that is validated on, where no split is given; cut by class, groups whole.
        test_fraction: share that is tested on, likewise.
        split_seed: which ones.
    """

    data: str
    labels: str | None = None
    group: str | None = None
    group_pattern: str | None = None
    val_fraction: Fraction = 0.15
    test_fraction: Fraction = 0.15
    split_seed: Annotated[int, Field(ge=0)] = 0

    what: ClassVar[str]
    """The files, in the plural, for people."""

    suffixes: ClassVar[tuple[str, ...]]
    """Of the files, in small letters."""

    @abstractmethod
    def write_synthetic(self, folder: Path) -> None:
        """Write generated files, the same each time, in the layout of people's own."""

    @abstractmethod
    def print_of(self, path: Path) -> FloatArray:
        """Return what of a file is alike in copies of it, shape (values,), see `qanas.tasks.likeness`.

        Raises:
            InputError: it is damaged.
        """

    def found_in(self, folder: Path) -> tuple[Sequence[Sample], list[str]]:
        """Return the labelled files of a folder in the order of their names, and what a person should know of them.

        Raises:
            InputError: there are none, or labels don't fit.
        """
        return find_samples(folder, self._wanted)

    def fingerprint(self) -> str:
        """Return the SHA-256 over names, labels, groups, splits and bytes of all files.

        Raises:
            InputError: a file is missing, or labels don't fit.
        """
        with self.divided() as found:
            return found.digest

    @property
    def unit(self) -> str:  # type: ignore[override]  # of the settings, where others have a constant
        """A group, where there are such, as its column is called; else a file."""
        return self.group or ("group" if self.group_pattern else self.what.removesuffix("s"))

    def units(self, split: Split) -> NDArray[Any]:
        """Return the group of each sample, shape (n,)."""
        groups: NDArray[Any] = split.extras["group"]
        return groups

    @contextmanager
    def divided(self) -> Iterator[Divided]:
        """Yield the files by split; synthetic ones live as long as the context.

        Equal files are in one group: else one would be tested on what was trained on. So are files that are nearly
        equal, unless groups are given.

        Raises:
            InputError: files are missing, or labels or settings don't fit.
        """
        self._held_out()
        if self.data != SYNTHETIC:
            yield self._divide(Path(self.data))
            return
        with tempfile.TemporaryDirectory(prefix=f"{self.what}-") as folder:
            self.write_synthetic(Path(folder))
            yield self._divide(Path(folder))

    def _divide(self, folder: Path) -> Divided:
        samples, remarks = self.found_in(folder)
        digests = digests_of(samples)
        total = fingerprint_of(samples, digests)
        alike = self._likeness(total, samples, digests)
        keys = [[sample.group for sample in samples], digests]
        given = any(keys[0])
        groups = together(*keys) if given else together(*keys, alike.keys)
        splits, said = self._splits(samples, groups, str(folder))
        near = near_remarks(
            "files", [sample.name for sample in samples], [sample.group for sample in samples], splits, alike
        )
        places = {name: [at for at, split in enumerate(splits) if split == name] for name in SPLITS}
        return Divided(
            tuple(sorted({sample.label for sample in samples})),
            {name: [samples[at] for at in kept] for name, kept in places.items()},
            {name: np.array([groups[at] for at in kept], np.int64) for name, kept in places.items()},
            total if given or not alike.pairs else hashlib.sha256(repr((total, alike.keys)).encode()).hexdigest(),
            (*remarks, *_twins(samples, digests), *near, *said),
        )

    def _likeness(self, total: str, samples: Sequence[Sample], digests: Sequence[str]) -> Likeness:
        """Return which files are nearly equal, looked at once in a process.

        Args:
            total: the fingerprint of them.
            samples: in the order of their names.
            digests: of their contents.
        """
        most = int(min(self.val_fraction, self.test_fraction) * len(samples))
        key = (self.what, total, most)
        if key not in _LIKENESS:
            first = dict(zip(digests, range(len(digests)), strict=True))
            prints = {digest: self.print_of(samples[place].path) for digest, place in first.items()}
            _LIKENESS[key] = likeness(np.stack([prints[digest] for digest in digests]), digests, most)
        return _LIKENESS[key]

    @property
    def _wanted(self) -> Wanted:
        return Wanted(self.what, self.suffixes, self.labels, self.group, self.group_pattern)

    def _held_out(self) -> dict[str, float]:
        """Return the shares of files that are validated and tested on."""
        return shares_held_out(self.val_fraction, self.test_fraction)

    def _splits(self, samples: Sequence[Sample], groups: Sequence[int], place: str) -> tuple[list[str], list[str]]:
        """Return the split of each sample, and remarks."""
        labels, given = [sample.label for sample in samples], [sample.split for sample in samples]
        return completed(labels, groups, given, self._held_out(), self.split_seed, place)

    def division_notes(self, found: Divided) -> dict[str, Any]:
        """Return how splits come about, for protocols."""
        given = any(sample.split for samples in found.samples.values() for sample in samples)
        cut = "cut from the training files where it isn't given" if given else "cut"
        return {
            "dataset": f"synthetic {self.what}" if self.data == SYNTHETIC else f"{self.what} of the user's",
            "source": SYNTHETIC if self.data == SYNTHETIC else "real",
            "classes": list(found.classes),
            "samples": {name: len(samples) for name, samples in found.samples.items()},
            "groups": {name: len(set(numbers.tolist())) for name, numbers in found.groups.items()},
            "val": f"{cut}: {self.val_fraction:g} of each class, groups, equal and nearly equal files whole",
            "test": f"{cut}: {self.test_fraction:g} of each class, likewise",
            "split_seed": self.split_seed,
        }


def counted(found: Divided) -> list[str]:
    """Return how many samples of each class the splits have, a line each."""
    lines = []
    for name, samples in found.samples.items():
        counts = Counter(sample.label for sample in samples)
        told = ", ".join(f"{label} {counts[label]}" for label in found.classes[:_TOLD])
        more = f" and {len(found.classes) - _TOLD} more classes" if len(found.classes) > _TOLD else ""
        lines.append(f"{name}: {len(samples)} files: {told}{more}")
    return lines


_TOLD = 12


def _twins(samples: Sequence[Sample], digests: Sequence[str]) -> list[str]:
    """Say which files are equal."""
    first: dict[str, Sample] = {}
    twins = [(first.setdefault(digest, sample), sample) for sample, digest in zip(samples, digests, strict=True)]
    equal = [(one, other) for one, other in twins if one is not other]
    lines = []
    if equal:
        one, other = equal[0]
        lines.append(f"{len(equal)} files equal another one, such as {other.name} and {one.name}: kept in one split")
    torn = [(one, other) for one, other in equal if one.label != other.label]
    if torn:
        one, other = torn[0]
        lines.append(
            f"{len(torn)} equal files have different labels, such as {other.name} ({other.label}) and {one.name} "
            f"({one.label}): one of each is wrong"
        )
    return lines
