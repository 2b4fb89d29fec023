"""One line for each mistake in a recipe: the key, what is wrong with it, the mend."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from qanas.core.errors import InputError
from qanas.core.suggestions import nearest
from qanas.recipe.registry import REGISTRIES

M = TypeVar("M", bound=BaseModel)


def validated(
    model: type[M],
    content: Mapping[str, Any],
    prefix: str,
    also_known: Iterable[str] = (),
    tables: Mapping[str, str] = MappingProxyType({}),
) -> M:
    """Validate a table; one error becomes one line.

    Args:
        model: of the table.
        content: the table.
        prefix: its name; empty for the whole file.
        also_known: keys of the same table that were taken out before.
        tables: the names of the tables of keys that are in another one.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # A misspelt key is told before the missing one that it was meant to be.
        first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
        location = [str(part) for part in first["loc"] if part != "[key]"]
        table = tables.get(location[0], prefix)
        key = ".".join([table, *location] if table else location)
        known = [*_known_keys(model, location), *also_known]
        raise InputError(f"{key}: {_message(key, known, first)}") from error


def _message(key: str, known: Iterable[str], error: Mapping[str, Any]) -> str:
    """Say what is wrong with one key, and the mend.

    Args:
        key: dotted.
        known: keys of the table that it is in.
        error: as pydantic reports it.
    """
    given = error.get("input")
    match str(error["type"]):
        case "extra_forbidden":
            close = nearest(key.rpartition(".")[2], known)
            hint = f"did you mean '{close}'?" if close else f"known here: {', '.join(sorted(known))}"
            return f"unknown key; {hint}"
        case "missing":
            registry = REGISTRIES.get(key.removesuffix(".name"), {}) if key.endswith(".name") else {}
            return f"missing; give {', '.join([*registry, 'or module:Class'])}" if registry else "missing; add it"
        case "literal_error":
            expected = error["ctx"]["expected"]
            close = nearest(str(given), re.findall(r"'([^']*)'", expected))
            hint = f"; did you mean '{close}'?" if close else ""
            return f"{given!r} is not {expected}{hint}"
        case "model_type" | "dict_type":
            return f"{given!r} is not a table; write [{key}] and its keys below"
        case "too_short":
            return "empty; give at least one"
    text = str(error["msg"])
    return f"{given!r}: {text[0].lower()}{text[1:]}"


def _known_keys(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Return the keys of the table in which a key was found wrong."""
    for table in location[:-1]:
        field = model.model_fields.get(table)
        if field is None:
            continue
        # A table of tables has keys of its user's own, and one kind of table for all of them.
        found = get_args(field.annotation)[-1] if get_origin(field.annotation) is dict else field.annotation
        if inspect.isclass(found) and issubclass(found, BaseModel):
            model = found
    return list(model.model_fields)
