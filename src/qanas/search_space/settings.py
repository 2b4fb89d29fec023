"""Settings: the dimensions of a search space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class _Common:
    condition: Condition | None = None


@dataclass(frozen=True)
class Setting(_Common, ABC):
    """One dimension of a space.

    Attributes:
        name: unique in the space.
        group: which part of the candidate it belongs to.
        reference: the reference network's value, which need not be within the range searched.
        condition: where it is not met, a candidate doesn't have this setting.
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
