"""A recipe's nested tables: as its file has them, flattened by dotted keys, and set on the command line.

Nothing here takes long to import: a mistake in it is told at once.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qanas.core.errors import InputError


def read_tables(path: Path) -> dict[str, Any]:
    """Return what a recipe's file holds.

    Raises:
        InputError: there is no such file, or it is not TOML.
    """
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; give the path of a recipe (recipes/*.toml are examples)")
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of a recipe (recipes/*.toml are examples)")
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))  # some editors put a byte order mark in front
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}; save it as UTF-8") from error


def path_named(text: str, folder: Path) -> Path:
    """Return what a path of a recipe names: what is called just so, else with environment variables and ~ put in.

    Args:
        text: of the recipe.
        folder: that relative paths start from.

    Raises:
        LookupError: names an environment variable that isn't set.
        RuntimeError: nobody is called as behind the ~.
    """
    as_it_stands = folder / text
    if os.path.exists(as_it_stands):  # noqa: PTH110 - of a name that no file can have it is false
        return as_it_stands
    expanded = os.path.expandvars(text)
    missing = re.search(r"\$\{?(\w+)", expanded)
    if missing:
        raise LookupError(missing[1])
    return folder / Path(expanded).expanduser()


def set_key(content: dict[str, Any], override: str) -> None:
    """Set one key of a recipe's tables from the command line.

    Raises:
        InputError: no table, key or value is given, or it is in the way of another value.
    """
    given = Assignment.parse(override)
    *tables, key = given.parts
    if not tables or not given.complete:
        raise InputError(f"--set {override}: give a table, a key and a value, such as --set strategy.trials=20")
    table = content
    for part in tables:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {override}: {part} is a value, not a table")
    table[key] = given.value


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


LAYERS = "layers"
"""The table of a scheme whose keys are paths of modules, with dots of their own."""

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
        >>> Assignment.parse('layers."head.0".weight_bits=4').parts
        ('layers', 'head.0', 'weight_bits')
        """
        key, equals, value = text.partition("=")
        parts = _parts(key)
        if not equals or len(parts) > MOST_PARTS:
            return cls(parts, None)
        try:
            found = tomllib.loads(f"value = {value}")
        except (tomllib.TOMLDecodeError, RecursionError):
            return cls(parts, value.strip())
        return cls(parts, found["value"] if len(found) == 1 else value.strip())  # a line break may begin another key

    @property
    def complete(self) -> bool:
        """Whether there is a key and a value."""
        return self.value is not None and all(self.parts)


def _parts(key: str) -> tuple[str, ...]:
    """Return the parts of a dotted key: between its dots, as TOML reads it where some are quoted.

    >>> _parts('objectives.latency_ms@host'), _parts(' a . "b.c"')
    (('objectives', 'latency_ms@host'), ('a', 'b.c'))
    """
    parts = tuple(part.strip() for part in key.split("."))
    if len(parts) > MOST_PARTS or not {'"', "'"} & set(key):
        return parts
    try:
        table: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return parts
    found = []
    while isinstance(table, dict) and len(table) == 1:
        [(part, table)] = table.items()
        found.append(part)
    return tuple(found) if table == 0 else parts
