"""A search space: settings around a reference network, some groups of which are free."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from qanas.core.candidate import GROUPS, Candidate, Group, Value
from qanas.search_space.settings import Choice, Float, Setting

Encoding = Literal["conditional", "fixed_length"]
"""How samplers see the space. ``conditional``: only the settings that the candidate has are chosen. ``fixed_length``:
every free setting is, and those that the candidate doesn't have are ignored; for samplers that need the same settings
in every trial."""

Suggest = Callable[[str, BaseDistribution], Value]
"""Chooses a value for a named setting from its range: a sampler, seen from the space."""


@dataclass(frozen=True)
class SearchSpace:
    """The candidates of a search. Groups that are not free stay at the reference's values.

    Only where ``input`` is free do candidates have that group: an input that isn't searched is the task's own, and no
    part of what names a candidate.

    Freeze ``training`` and it is NAS; free it and it is NAS & HPO; no other code tells the two apart.

    Attributes:
        settings: every setting; one that a condition names comes before it.
        free: the groups that are searched.
        encoding: how samplers see the settings that not every candidate has.

    Raises:
        ValueError: names that occur twice, a condition on a later setting, or nothing to search.
    """

    settings: tuple[Setting, ...]
    free: frozenset[Group]
    encoding: Encoding = "conditional"

    def __post_init__(self) -> None:
        """Check the settings against each other."""
        seen: set[str] = set()
        for setting in self.settings:
            _require_sound(setting)
            if setting.name in seen:
                raise ValueError(f"two settings are called '{setting.name}'")
            if setting.condition is not None and setting.condition.setting not in seen:
                named = setting.condition.setting
                raise ValueError(f"the condition of '{setting.name}' names '{named}', which is no setting before it")
            for value in setting.values:
                require_plain(setting.name, value)
            if isinstance(setting, Choice):
                _require_distinct(setting.name, setting.options)
            _require_range(setting)
            seen.add(setting.name)
        if not any(setting.group in self.free for setting in self.settings):
            raise ValueError(f"nothing is searched: no setting is in the groups {sorted(self.free)}")

    def random(self, generator: np.random.Generator) -> Candidate:
        """Return a candidate, each free setting drawn independently from its range."""
        return self.sample(lambda _, distribution: drawn(distribution, generator))

    @cached_property
    def reference(self) -> Candidate:
        """The reference network's candidate."""
        return self._assemble(lambda setting: setting.reference)

    def sample(self, suggest: Suggest) -> Candidate:
        """Return a candidate whose free settings are chosen by ``suggest``, in the order of the settings."""

        def choose(setting: Setting) -> Value:
            return suggest(setting.name, setting.distribution) if setting.group in self.free else setting.reference

        if self.encoding == "conditional":
            return self._assemble(choose)
        chosen = {setting.name: choose(setting) for setting in self.settings}
        return self._assemble(lambda setting: chosen[setting.name])

    def _assemble(self, choose: Callable[[Setting], Value]) -> Candidate:
        values: dict[str, Value] = {}
        groups: dict[Group, dict[str, Value]] = {group: {} for group in GROUPS}
        for setting in self.settings:
            if setting.exists(values):
                values[setting.name] = choose(setting)
                if setting.group != "input" or setting.group in self.free:
                    groups[setting.group][setting.name] = values[setting.name]
        return Candidate(**groups)

    def parameters(self, candidate: Candidate) -> tuple[dict[str, Value], dict[str, BaseDistribution]]:
        """Return a candidate's free settings that lie within their ranges, with the ranges.

        This is what a sampler may learn from a candidate that it didn't propose, such as the reference.
        """
        values: dict[str, Value] = {name: value for group in candidate.config.values() for name, value in group.items()}
        if self.encoding == "fixed_length":
            values = {setting.name: setting.reference for setting in self.settings} | values
        chosen: dict[str, Value] = {}
        ranges: dict[str, BaseDistribution] = {}
        for setting in self.settings:
            if setting.group not in self.free or setting.name not in values:
                continue
            distribution = setting.distribution
            value = values[setting.name]
            if _covers(distribution, value):
                chosen[setting.name] = value
                ranges[setting.name] = distribution
        return chosen, ranges


def _require_sound(setting: object) -> None:
    """Refuse what is no setting, or has no name, no group or no list of options."""
    if not isinstance(setting, Setting):
        raise ValueError(f"{setting!r} is no setting; give those of qanas.search_space.settings")  # noqa: TRY004 - as below
    name = setting.name
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ValueError(f"a setting is called {name!r}; give a name that can be printed on one line")
    if setting.group not in GROUPS:
        raise ValueError(f"'{name}' is in the group {setting.group!r}; there are {', '.join(GROUPS)}")
    if setting.finer and isinstance(setting, Float):
        raise ValueError(f"'{name}' says that {setting.finer} values are finer, but has no next one; give a choice")
    if isinstance(setting, Choice) and (isinstance(setting.options, str) or not isinstance(setting.options, Sequence)):
        kind = type(setting.options).__name__  # the order of a set may be another one in each process
        raise ValueError(f"the options of '{name}' are a {kind}; give a list or a tuple, whose order stays")  # noqa: TRY004


def _require_distinct(name: str, options: Sequence[Value]) -> None:
    """Refuse options that samplers can't tell apart, such as 8 and 8.0: a choice is known by its place among them."""
    for place, option in enumerate(options):
        first = next(other for other in options if other == option)
        if options.index(first) != place:
            raise ValueError(f"the options of '{name}' have {first!r} and {option!r}, which are equal; give each once")


def _require_range(setting: Setting) -> None:
    """Refuse a range that nothing can be drawn from."""
    try:
        distribution = setting.distribution
    except (TypeError, ValueError) as error:
        raise ValueError(f"'{setting.name}' has no range: {error}") from error
    if isinstance(distribution, FloatDistribution) and not math.isfinite(distribution.high - distribution.low):
        bounds = f"{distribution.low} to {distribution.high}"
        raise ValueError(f"'{setting.name}' has the range {bounds}; both ends have to be finite")


def require_plain(name: str, value: object) -> None:
    """Refuse a value that neither tables nor JSON hold as it is."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"'{name}' can be {value}, which is no number; give it a name, and make it in build")
    if isinstance(value, str) and value != value.encode("utf-8", "replace").decode():
        raise ValueError(f"'{name}' can be {value!r}, which no file can hold; give it another name")
    if not isinstance(value, bool | int | float | str):
        raise ValueError(  # noqa: TRY004 - as for all that is wrong with a space
            f"'{name}' can be {value!r}, a {type(value).__name__}: values are truth values, numbers and texts; give it "
            "a name, such as 'none' or '8-2', and take that apart in build"
        )


def drawn(distribution: BaseDistribution, generator: np.random.Generator) -> Value:
    """Draw a value uniformly, on a logarithmic scale where the range is one."""
    match distribution:
        case IntDistribution(low=low, high=high, log=False):
            return int(generator.integers(low, high, endpoint=True))
        case IntDistribution(low=low, high=high):
            return min(high, max(low, round(math.exp(generator.uniform(math.log(low - 0.5), math.log(high + 0.5))))))
        case FloatDistribution(low=low, high=high, log=log):
            scaled = (math.log(low), math.log(high)) if log else (low, high)
            value = float(generator.uniform(*scaled))
            return min(high, max(low, math.exp(value))) if log else value
        case CategoricalDistribution(choices=choices):
            return cast("Value", choices[int(generator.integers(len(choices)))])
    raise TypeError(f"no setting has a {type(distribution).__name__}")


def _covers(distribution: BaseDistribution, value: Value) -> bool:
    """Tell whether a range has a value; Optuna's choices raise where they don't."""
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except ValueError:
        return False


def space_of(settings: Sequence[Setting], search: Sequence[Group], encoding: Encoding = "conditional") -> SearchSpace:
    """Return the space of some settings in which the groups ``search`` are free."""
    return SearchSpace(tuple(settings), frozenset(search), encoding)
