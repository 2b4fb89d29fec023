"""Dotted keys of nested tables: flattened, and as they are given on the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested tables by dotted key.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


MOST_PARTS = 20
"""Of a key: no recipe is nested as deep, and what follows each table into the next must not be asked for thousands."""


@dataclass(frozen=True)
class Assignment:
    """``a.b=value``.

    Attributes:
        parts: of the key, between its dots; some are empty, or it is one empty part, where nothing is given.
        value: read as TOML; a bare word is a string. None where there is no equals sign.
    """

    parts: tuple[str, ...]
    value: Any

    @classmethod
    def parse(cls, text: str) -> Assignment:
        """Read one.

        >>> Assignment.parse("strategy.trials=20"), Assignment.parse("container = int4")
        (Assignment(parts=('strategy', 'trials'), value=20), Assignment(parts=('container',), value='int4'))
        """
        key, equals, value = text.partition("=")
        parts = tuple(key.strip().split("."))
        if not equals:
            return cls(parts, None)
        if len(parts) > MOST_PARTS:
            return cls(parts, None)
        try:
            return cls(parts, tomllib.loads(f"value = {value}")["value"])
        except (tomllib.TOMLDecodeError, RecursionError):
            return cls(parts, value.strip())

    @property
    def complete(self) -> bool:
        """Whether there is a key and a value."""
        return self.value is not None and all(self.parts)
