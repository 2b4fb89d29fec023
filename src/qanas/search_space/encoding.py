"""Candidates as rows of numbers, for models that learn from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from qanas.core.candidate import Candidate, Value
from qanas.regression.gaussian_process import ColumnGroup
from qanas.search_space.space import SearchSpace

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """How one setting is encoded: numbers as their place in the range, others as a column for each value.

    Choices between numbers are places in their order. What a candidate hasn't is 0 everywhere, as are the sizes of a
    layer that isn't there.

    Attributes:
        name: of the setting.
        distribution: its range.
        kind: what its columns are alike with.
    """

    name: str
    distribution: BaseDistribution
    kind: str

    @cached_property
    def options(self) -> tuple[object, ...]:
        """The values of a choice; none where it is a number."""
        choices = self.distribution.choices if isinstance(self.distribution, CategoricalDistribution) else ()
        if choices and all(isinstance(value, int | float) and not isinstance(value, bool) for value in choices):
            return tuple(sorted(choices, key=lambda value: float(value or 0)))
        return tuple(choices)

    @property
    def is_ordered(self) -> bool:
        """Whether one column is enough."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.options)

    @property
    def width(self) -> int:
        """Columns that it takes."""
        return 1 if self.is_ordered else len(self.options)

    def of(self, value: Value) -> list[float]:
        """Return a value's columns, each from 0 to 1."""
        match self.distribution:
            case IntDistribution(low=low, high=high, log=log) | FloatDistribution(low=low, high=high, log=log):
                first, last = (math.log(low), math.log(high)) if log else (float(low), float(high))
                at = math.log(max(float(value), 1e-300)) if log else float(value)
                return [(at - first) / (last - first) if last > first else 0.5]
        if self.is_ordered:
            most = max(len(self.options) - 1, 1)
            options: list[Any] = list(self.options)  # numbers, in order
            return [float(np.interp(float(value), options, np.arange(len(options)) / most))]
        return [float(value == option) for option in self.options]


class Encoding:
    """Settings by name as rows of numbers.

    Args:
        distributions: of the settings that are searched, by name.
        kinds: of settings, by name; those of one kind are taken to matter about as much.

    Attributes:
        columns: of each setting.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], kinds: Mapping[str, str] | None = None) -> None:
        """Lay out the columns."""
        known = kinds or {}
        self.columns = [Columns(name, found, known.get(name, "")) for name, found in distributions.items()]

    @classmethod
    def of(cls, space: SearchSpace) -> Encoding:
        """Return the encoding of a space's free settings."""
        free = [setting for setting in space.settings if setting.group in space.free]
        return cls({s.name: s.distribution for s in free}, {s.name: s.group for s in free})

    @cached_property
    def groups(self) -> list[ColumnGroup]:
        """What is scaled alike."""
        found: dict[tuple[str, bool], tuple[list[int], list[str]]] = {}
        first = 0
        for entry in self.columns:
            places, names = found.setdefault((entry.kind, entry.is_ordered), ([], []))
            places.extend(range(first, first + entry.width))
            names.append(entry.name)
            first += entry.width
        return [ColumnGroup(places, len(names), ordered) for (_, ordered), (places, names) in found.items()]

    def rows(self, settings: Sequence[Mapping[str, Value]]) -> Rows:
        """Return shape (n, columns) for n settings by name."""
        return np.array([self._row(values) for values in settings], np.float64).reshape(len(settings), -1)

    def rows_of(self, candidates: Sequence[Candidate]) -> Rows:
        """Return shape (n, columns) for n candidates."""
        return self.rows([values_of(candidate) for candidate in candidates])

    def _row(self, values: Mapping[str, Value]) -> list[float]:
        row: list[float] = []
        for entry in self.columns:
            row += entry.of(values[entry.name]) if entry.name in values else [0.0] * entry.width
        return row


def values_of(candidate: Candidate) -> dict[str, Value]:
    """Return a candidate's settings by name, whatever their group."""
    return {name: value for group in candidate.config.values() for name, value in group.items()}
