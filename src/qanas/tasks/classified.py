"""What tasks share whose samples are files, each of a class: where classes come from, splits, losses and metrics."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from qanas.core.errors import InputError
from qanas.core.measures import Direction
from qanas.tasks.base import FloatArray, Split, Task
from qanas.tasks.classification import (
    CLASS_LOSSES,
    CLASS_METRICS,
    ClassWeights,
    balanced_weights,
    class_loss,
    class_metrics,
    require_weights,
)
from qanas.tasks.labels import Sample, Wanted, digests_of, find_samples, fingerprint_of
from qanas.tasks.splits import SPLITS, completed, together

SYNTHETIC = "synthetic"
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

    @property
    def training_counts(self) -> tuple[int, ...]:
        """Training samples of each class."""
        counts = Counter(sample.label for sample in self.samples["train"])
        return tuple(counts[name] for name in self.classes)


_COUNTS: dict[tuple[object, ...], tuple[int, ...]] = {}
"""Training samples by class, of every data set that this process has divided."""


@dataclass(frozen=True)
class ClassifiedFiles(Task):
    """Tell the class of a file.

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
        class_weights: how much a sample of each class counts in the loss, in the order of the classes' names;
            "balanced": rare ones as much as common ones in all. By default all samples count alike.
    """

    data: str
    labels: str | None = None
    group: str | None = None
    group_pattern: str | None = None
    val_fraction: Fraction = 0.15
    test_fraction: Fraction = 0.15
    split_seed: Annotated[int, Field(ge=0)] = 0
    class_weights: ClassWeights = None

    metrics: ClassVar[Mapping[str, Direction]] = CLASS_METRICS
    losses: ClassVar[tuple[str, ...]] = CLASS_LOSSES
    parity_tolerance: ClassVar[Mapping[str, float]] = {"accuracy": 0.01, "balanced_accuracy": 0.01}

    what: ClassVar[str]
    """The files, in the plural, for people."""

    suffixes: ClassVar[tuple[str, ...]]
    """Of the files, in small letters."""

    @abstractmethod
    def write_synthetic(self, folder: Path) -> None:
        """Write generated files, the same each time, in the layout of people's own."""

    def fingerprint(self) -> str:
        """Return the SHA-256 over names, labels, groups, splits and bytes of all files.

        Raises:
            InputError: a file is missing, or labels don't fit.
        """
        with self.divided() as found:
            return found.digest

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return a batch's mean cross-entropy by the classes' weights, a scalar.

        Args:
            kind: one of `losses`.
            outputs: logits, shape (batch, classes).
            targets: classes, shape (batch,).
        """
        return class_loss(kind, outputs, targets, self._weights())

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        """Return the metrics, see `qanas.tasks.classification.class_metrics`.

        Args:
            outputs: logits, shape (n, classes).
            split: the samples.
        """
        return class_metrics(outputs, split.targets)

    def units(self, split: Split) -> NDArray[Any]:
        """Return the group of each sample, shape (n,)."""
        groups: NDArray[Any] = split.extras["group"]
        return groups

    @contextmanager
    def divided(self) -> Iterator[Divided]:
        """Yield the files by split; synthetic ones live as long as the context.

        Equal files are in one group: else one would be tested on what was trained on.

        Raises:
            InputError: files are missing, or labels or settings don't fit.
        """
        if self.val_fraction + self.test_fraction >= 1:
            raise InputError("task.val_fraction: with task.test_fraction it is 1 or more: nothing is left for training")
        if self.data != SYNTHETIC:
            yield self._divide(Path(self.data))
            return
        with tempfile.TemporaryDirectory(prefix=f"{self.what}-") as folder:
            self.write_synthetic(Path(folder))
            yield self._divide(Path(folder))

    def _divide(self, folder: Path) -> Divided:
        wanted = Wanted(self.what, self.suffixes, self.labels, self.group, self.group_pattern)
        samples, remarks = find_samples(folder, wanted)
        digests = digests_of(samples)
        classes = tuple(sorted({sample.label for sample in samples}))
        require_weights(self.class_weights, classes)
        groups = together([sample.group for sample in samples], digests)
        held_out = {"val": self.val_fraction, "test": self.test_fraction}
        splits, said = completed(
            [sample.label for sample in samples],
            groups,
            [sample.split for sample in samples],
            held_out,
            self.split_seed,
            str(folder),
        )
        places = {name: [at for at, split in enumerate(splits) if split == name] for name in SPLITS}
        found = Divided(
            classes,
            {name: [samples[at] for at in kept] for name, kept in places.items()},
            {name: np.array([groups[at] for at in kept], np.int64) for name, kept in places.items()},
            fingerprint_of(samples, digests),
            (*remarks, *_twins(samples, digests), *said),
        )
        _COUNTS[self._source] = found.training_counts
        return found

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
            "val": f"{cut}: {self.val_fraction:g} of each class, groups and equal files whole",
            "test": f"{cut}: {self.test_fraction:g} of each class, likewise",
            "split_seed": self.split_seed,
            "balanced_accuracy": "mean recall of the classes that are there",
            "macro_f1": "mean over classes that are there or predicted",
            **({"class_weights": list(self._weights() or ())} if self.class_weights else {}),
        }

    @property
    def _source(self) -> tuple[object, ...]:
        """What the division follows from, whatever the input."""
        return (type(self), *(getattr(self, entry.name) for entry in fields(ClassifiedFiles)))

    def _weights(self) -> tuple[float, ...] | None:
        if self.class_weights is None or isinstance(self.class_weights, tuple):
            return self.class_weights
        if self._source not in _COUNTS:
            with self.divided():
                pass
        return balanced_weights(_COUNTS[self._source])


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
