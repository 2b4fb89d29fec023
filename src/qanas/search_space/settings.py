"""Settings: the dimensions of a search space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from qanas.core.candidate import Group, Value


@dataclass(frozen=True)
class AtLeast:
    """A condition: an earlier setting is at least ``minimum``."""

    setting: str
    minimum: int

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Tell whether the condition is met by the values set so far."""
        value = values.get(self.setting)
        return isinstance(value, int | float) and value >= self.minimum


@dataclass(frozen=True)
class OneOf:
    """A condition: an earlier setting has one of some values."""

    setting: str
    options: tuple[Value, ...]

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Tell whether the condition is met by the values set so far."""
        return values.get(self.setting) in self.options


Condition = AtLeast | OneOf


Finer = Literal["", "larger", "smaller"]
"""Which values of a setting show the network a sample in more detail, such as more pixels: none, the larger or the
smaller ones."""


@dataclass(frozen=True, kw_only=True)
class _Common:
    condition: Condition | None = None
    finer: Finer = ""


@dataclass(frozen=True)
class Setting(_Common, ABC):
    """One dimension of a space.

    Attributes:
        name: unique in the space.
        group: which part of the candidate it belongs to.
        reference: the reference network's value, which need not be within the range searched.
        condition: where it is not met, a candidate doesn't have this setting.
        finer: of the group ``input``: which of its values, numbers then, show more detail.
    """

    name: str
    group: Group
    reference: Value

    @property
    @abstractmethod
    def distribution(self) -> BaseDistribution:
        """The range searched, as Optuna's samplers take it."""

    @property
    def values(self) -> tuple[object, ...]:
        """The values that it names one by one: the reference's, and those of a choice."""
        return (self.reference,)

    def exists(self, values: Mapping[str, Value]) -> bool:
        """Tell whether a candidate with these earlier values has this setting."""
        return self.condition is None or self.condition.holds(values)

    def next_finer(self, value: Value) -> Value | None:
        """Return the next value that shows more detail than the given one; None where none does.

        >>> Choice("hop_ms", "input", 20.0, options=(10.0, 15.0, 20.0), finer="smaller").next_finer(20.0)
        15.0
        """
        if not self.finer:
            return None
        sign = 1 if self.finer == "larger" else -1
        known = [number for number in self._numbers() if sign * number > sign * float(value)]
        return min(known, key=lambda number: sign * number, default=None)

    def _numbers(self) -> Sequence[int | float]:
        """Return the numbers that are searched, where they are counted."""
        return ()


@dataclass(frozen=True)
class Integer(Setting):
    """A whole number in [low, high]."""

    low: int
    high: int
    log: bool = False

    @property
    def distribution(self) -> IntDistribution:
        """The range searched."""
        return IntDistribution(self.low, self.high, log=self.log)

    def _numbers(self) -> Sequence[int]:
        return range(self.low, self.high + 1)


@dataclass(frozen=True)
class Float(Setting):
    """A real number in [low, high]."""

    low: float
    high: float
    log: bool = False

    @property
    def distribution(self) -> FloatDistribution:
        """The range searched."""
        return FloatDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice(Setting):
    """One of several values without order."""

    options: tuple[Value, ...]

    @property
    def values(self) -> tuple[object, ...]:
        """The reference's value and the options."""
        return (self.reference, *self.options)

    @property
    def distribution(self) -> CategoricalDistribution:
        """The range searched."""
        return CategoricalDistribution(self.options)

    def _numbers(self) -> Sequence[int | float]:
        return [option for option in self.options if isinstance(option, int | float)]


def exists(counted_by: str, number: int, fewest: int = 1) -> AtLeast | None:
    """Return the condition under which a numbered part exists.

    Args:
        counted_by: the setting that says how many there are.
        number: of the part, from 1.
        fewest: that there always are.
    """
    return AtLeast(counted_by, number) if number > fewest else None


def sizes_of_parts(
    name: str, counted_by: str, count: int, reference: int, high: int, *, log: bool = True, fewest: int = 1
) -> list[Integer]:
    """Return the sizes of numbered parts, ``<name>_1`` and on, from 1 to ``high`` each, where the part exists.

    Args:
        name: what is sized: units, channels.
        counted_by: the setting that says how many parts there are.
        count: the most there can be.
        reference: the reference's size of each.
        high: the largest.
        log: whether they are drawn on a logarithmic scale.
        fewest: parts that there always are.

    >>> [setting.name for setting in sizes_of_parts("units", "layers", 2, 4, 8)]
    ['units_1', 'units_2']
    """
    return [
        Integer(
            f"{name}_{number}",
            "architecture",
            reference,
            low=1,
            high=high,
            log=log,
            condition=exists(counted_by, number, fewest),
        )
        for number in range(1, count + 1)
    ]
