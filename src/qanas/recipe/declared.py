"""Values between TOML and what a constructor declares: TOML has lists, tables and texts alone."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import numpy as np
from pydantic import BaseModel, BeforeValidator
from pydantic_core import PydanticSerializationError

ENDLESS = 2
"""Parts of a tuple's type that has any number of entries: theirs, and dots."""


def from_toml(hint: Any) -> Any:  # noqa: ANN401 - a type
    """Return a type whose values may be given as TOML has them: a list for a tuple or a set, a text for a path."""
    return Annotated[hint, BeforeValidator(partial(_declared, hint))]


def _declared(hint: Any, value: Any) -> Any:  # noqa: ANN401, PLR0911 - a type and a value; one for each kind of type
    """Return a value as a type has it; as it is where they don't go together, for the validation to say so."""
    origin, parts = get_origin(hint) or hint, get_args(hint)
    if origin is Annotated:
        return _declared(parts[0], value)
    if origin in (Union, types.UnionType):
        return _of_one(parts, value)
    if origin is tuple and isinstance(value, list | tuple):
        each = [parts[0]] * len(value) if len(parts) == ENDLESS and parts[1] is ... else list(parts)
        kinds = each if len(each) == len(value) else [Any] * len(value)
        return tuple(_declared(kind, entry) for kind, entry in zip(kinds, value, strict=True))
    if origin in (set, frozenset) and isinstance(value, list):
        return _as_set(origin, [_declared(parts[0] if parts else Any, entry) for entry in value])
    if isinstance(value, list) and parts and isinstance(origin, type) and issubclass(origin, Sequence):
        return [_declared(parts[0], entry) for entry in value]
    if isinstance(value, dict) and parts and isinstance(origin, type) and issubclass(origin, Mapping):
        return {_key(parts[0], key): _declared(parts[1], entry) for key, entry in value.items()}
    return _made(hint, value) if isinstance(hint, type) and isinstance(value, str | int) else value


def _of_one(kinds: Sequence[Any], value: Any) -> Any:  # noqa: ANN401 - types and a value
    """Return a value as the one of several types has it that takes it as TOML gives it, else as the first that can."""
    own = [kind for kind in kinds if (get_origin(kind) or kind) is type(value)]
    found = [_declared(kind, value) for kind in own or kinds]
    return next((each for each in found if type(each) is not type(value)), found[0] if own else value)


def _as_set(kind: type[Any], entries: list[Any]) -> Any:  # noqa: ANN401 - a set, or what can't be one
    try:
        return kind(entries)
    except TypeError:
        return entries


def _key(hint: Any, key: str) -> Any:  # noqa: ANN401 - a type
    """Return a table's key, which TOML has as a text alone."""
    if hint is int and key.lstrip("-").isdecimal():
        return int(key)
    return _declared(hint, key)


def _made(hint: type[Any], value: str | int) -> Any:  # noqa: ANN401 - of the type
    """Return a path, or a member of an enum by its value."""
    if hint is Path and isinstance(value, str):
        return Path(value)
    if issubclass(hint, Enum) and not isinstance(value, hint):
        return next((member for member in hint if type(member.value) is type(value) and member.value == value), value)
    return value


def plain(value: object) -> object:
    """Return a default without NumPy's types, which no file holds."""
    return value.item() if isinstance(value, np.generic) else value


def to_toml(options: BaseModel) -> dict[str, Any]:
    """Return a class's arguments as TOML gives them back, or a resumed run would seem another one.

    Left out are those that are None, and defaults that no file can hold, such as a function: the class has them again.
    """
    found: dict[str, Any] = {}
    for name in type(options).model_fields:
        try:
            found |= options.model_dump(mode="json", exclude_none=True, include={name})
        except (PydanticSerializationError, UnicodeDecodeError):
            continue
        if isinstance(getattr(options, name), set | frozenset):  # whose order is another one in each process
            found[name] = sorted(found[name], key=repr)
    return found
