"""A candidate network as data: a frozen configuration in four groups."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

Group = Literal["input", "architecture", "training", "quantization"]
GROUPS: tuple[Group, ...] = get_args(Group)

SEARCHED_BY_DEFAULT: tuple[Group, ...] = ("architecture", "training", "quantization")
"""The groups that are free where a recipe names none: an input is searched on request only."""

Value = bool | int | float | str
"""What a setting can be set to."""


def _frozen(values: Mapping[str, Value]) -> Mapping[str, Value]:
    return MappingProxyType(dict(sorted(values.items())))


@dataclass(frozen=True)
class Candidate:
    """What is searched: settings only, no weights and no module.

    Attributes:
        architecture: settings that decide the network's shape.
        training: settings that decide how it is trained.
        quantization: settings that decide its bit-widths and ranges.
        input: settings that decide what the network is given (window, resolution, ...); empty where that isn't searched
            and the network is given what the task's own arguments say.
    """

    architecture: Mapping[str, Value] = field(default_factory=dict)
    training: Mapping[str, Value] = field(default_factory=dict)
    quantization: Mapping[str, Value] = field(default_factory=dict)
    input: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the groups, in the order of their names."""
        for group in GROUPS:
            object.__setattr__(self, group, _frozen(getattr(self, group)))

    def __eq__(self, other: object) -> bool:
        """Compare keys: 1, 1.0 and True are equal in Python but make different candidates."""
        return isinstance(other, Candidate) and self.key == other.key

    def __hash__(self) -> int:
        """Hash the key: mappings have no hash of their own."""
        return hash(self.key)

    def __reduce__(self) -> tuple[type[Candidate], tuple[dict[str, Value], ...]]:
        """Pickle the groups as plain dicts: read-only mappings can't be pickled."""
        groups = (self.architecture, self.training, self.quantization, self.input)
        return Candidate, tuple(dict(group) for group in groups)

    def group(self, name: Group) -> Mapping[str, Value]:
        """Return the settings of one group."""
        settings: Mapping[str, Value] = getattr(self, name)
        return settings

    @property
    def config(self) -> dict[str, dict[str, Value]]:
        """The configuration as plain dicts, group by group; without ``input`` where that isn't searched.

        So keys of candidates whose input isn't searched are what they were before there were others.
        """
        return {name: dict(self.group(name)) for name in GROUPS if name != "input" or self.input}

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that name caches and files: equal settings, equal key.

        >>> Candidate(architecture={"units": 4}).key == Candidate(architecture={"units": 4}).key
        True
        """
        text = json.dumps(self.config, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
