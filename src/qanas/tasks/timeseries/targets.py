"""What is told of windows: a class, a number or the rows that are left, and what losses are in units of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qanas.core.errors import InputError
from qanas.tasks.classification import ClassWeights, require_weights
from qanas.tasks.tables import MISSING, NO_CLASS
from qanas.tasks.timeseries.reader import Floats, Series

Integers = NDArray[np.int64]
Predicted = Literal["class", "number", "life"]
Parts = Mapping[str, Sequence[Series]]
"""The series of each split."""

Windows = Mapping[str, Sequence[Integers]]
"""The rows at which their windows end."""


_WHOLE = re.compile(r"([+-]?\d+)[.,]0*")
"""A whole number as columns write it that have held others or none: ``1.0`` is class 1."""

MOST_CLASSES = 10
"""Different numbers up to which they may be anything."""


def are_measured(texts: Sequence[str]) -> bool:
    """Tell whether a column's values are a measurement's, no classes: many numbers, with fractions or each of few rows.

    Args:
        texts: of all rows; an empty one is none.

    >>> are_measured(["0", "1", "1", "0"])
    False
    >>> are_measured([f"{row / 7:.3f}" for row in range(40)])
    True
    """
    there = [text for text in texts if text.lower() not in MISSING]
    try:
        numbers = {float(text.replace(",", ".")) for text in set(there)}
    except ValueError:
        return False
    whole = all(number.is_integer() for number in numbers)
    return len(numbers) > MOST_CLASSES and (not whole or len(numbers) * MOST_CLASSES > len(there))


def _class_of(text: str) -> str:
    """Return the name of a class.

    >>> _class_of("1.0"), _class_of("1.5"), _class_of("v1.0")
    ('1', '1.5', 'v1.0')
    """
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


@dataclass(frozen=True)
class Learnt:
    """What of the training data a loss is in units of.

    Attributes:
        scale: standard deviation of targets that are numbers.
        counts: training windows of each class.
    """

    scale: float = 1.0
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Told:
    """The targets of all windows.

    Attributes:
        classes: their names; none where numbers are predicted.
        targets: by split: classes, shape (n,), or numbers less their mean, shape (n, 1).
        mean: what was taken off numbers.
        learnt: what losses follow from.
    """

    classes: tuple[str, ...]
    targets: dict[str, NDArray[Any]]
    mean: float
    learnt: Learnt


@dataclass(frozen=True)
class Targets:
    """Which targets windows have.

    Attributes:
        place: the data, for messages.
        what: "class", "number", or "life": the rows that are left of the recording.
        name: the column's; none: the file's class.
        horizon: rows behind a window at which its target is.
        change: whether numbers are differences from the target at the window's last row.
        class_weights: that have to fit the classes.
    """

    place: str
    what: Predicted
    name: str | None
    horizon: int
    change: bool
    class_weights: ClassWeights

    def there(self, series: Series, ends: Integers) -> Integers:
        """Return the ends of windows that have a target, shape (windows,)."""
        if series.targets is None or self.what == "class":
            return ends
        kept: Integers = ends[np.isfinite(self._numbers(series, ends))]
        return kept

    def check_classes(self, series: Sequence[Series]) -> None:
        """Refuse a column of measurements as one of classes: each value would be a class of its own.

        Raises:
            InputError: its values are numbers, as those of a measurement are.
        """
        texts = [text for one in series if one.targets is not None for text in one.targets.tolist()]
        if are_measured(texts):
            raise InputError(
                f"{self.place}: column '{self.name}' has {len(set(texts))} different numbers in {len(texts)} rows, and "
                "each would be a class: write task.predict = 'number', or name its classes by words"
            )

    def of(self, parts: Parts, windows: Windows) -> Told:
        """Return all targets.

        Raises:
            InputError: there is nothing to tell apart, or a class is missing.
        """
        if self.what == "class":
            return self._classes(parts, windows)
        numbers = {}
        for name, series in parts.items():
            rows = [self._numbers(one, ends) for one, ends in zip(series, windows[name], strict=True)]
            numbers[name] = np.concatenate(rows)
        mean, deviation = float(numbers["train"].mean()), float(numbers["train"].std())
        if deviation == 0:
            what = "remaining life" if self.what == "life" else f"target '{self.name}'"
            mend = "; take a larger task.life_cap" if self.what == "life" else ""
            raise InputError(f"{self.place}: every {what} of the training windows is {mean:g}{mend}")
        targets = {name: (values - mean).astype(np.float32)[:, None] for name, values in numbers.items()}
        return Told((), targets, mean, Learnt(deviation))

    def _numbers(self, series: Series, ends: Integers) -> Floats:
        if series.targets is None:
            raise ValueError("a number has a column")
        found: Floats = series.targets[ends + self.horizon].astype(np.float64)
        return found - series.targets[ends].astype(np.float64) if self.change else found

    def _labels(self, series: Series, ends: Integers) -> list[str]:
        """Return the class of each window of a recording."""
        if series.targets is None:
            return [series.label] * len(ends)
        rows = ends + self.horizon
        texts = series.targets[rows].tolist()
        lacking = next((row for row, text in zip(rows, texts, strict=True) if text.lower() in NO_CLASS), None)
        if lacking is not None:
            raise InputError(
                f"{self.place}: {series.recording}, line {series.lines[lacking]}, column '{self.name}': no class: give "
                "it one, or take the line away"
            )
        return [_class_of(text) for text in texts]

    def _classes(self, parts: Parts, windows: Windows) -> Told:
        labels: dict[str, list[str]] = {}
        for name, series in parts.items():
            labels[name] = []
            for one, ends in zip(series, windows[name], strict=True):
                labels[name] += self._labels(one, ends)
        classes = tuple(sorted({label for own in labels.values() for label in own}))
        if len(classes) == 1:
            raise InputError(f"{self.place}: one class, '{classes[0]}': there is nothing to tell apart; add another")
        require_weights(self.class_weights, classes)
        numbers = {label: place for place, label in enumerate(classes)}
        targets = {name: np.array([numbers[label] for label in own], np.int64) for name, own in labels.items()}
        counts = Counter(labels["train"])
        return Told(classes, targets, 0.0, Learnt(1.0, tuple(counts[name] for name in classes)))
