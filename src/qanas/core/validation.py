"""What is wrong with the keys of a file's tables, one line for a mistake, with the mend."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from qanas.core.errors import nearest


def first_mistake(error: ValidationError) -> Mapping[str, Any]:
    """Return the mistake that is told: a misspelt key before the missing one that it was meant to be.

    Of a value that may be a word or something else, and is no word, the mistake is in that.
    """

    def rank(entry: Mapping[str, Any]) -> tuple[bool, bool]:
        return entry["type"] != "extra_forbidden", entry["type"] == "literal_error" and not isinstance(
            entry["input"], str
        )

    return min(error.errors(), key=rank)


_OF_A_UNION = re.compile(r"(literal|constrained|tuple|list|function|nullable)\b.*\[")
"""The like of values whose types have no name of their own."""

_KINDS = ("bool", "int", "float", "str")
"""What pydantic names, behind the key, of values that may be of several types."""


def place_of(mistake: Mapping[str, Any], model: type[BaseModel]) -> tuple[list[str], list[str]]:
    """Return the keys that lead to a mistake, and the keys that are known there.

    Args:
        mistake: as pydantic reports it.
        model: of the whole table.
    """
    location = [part for part in map(str, mistake["loc"]) if part != "[key]" and not _OF_A_UNION.match(part)]
    if len(location) > 2 and location[-1] in _KINDS:  # noqa: PLR2004 - behind a table and its key
        location.pop()
    keys: list[str] = []
    kinds: list[type[BaseModel]] = []
    for place, part in enumerate(location, 1):
        tagged = [kind for kind in kinds if _tag_of(kind) == part]
        if len(kinds) > 1 and tagged:  # pydantic names the kind of table that it is by its tag
            kinds, model = [], tagged[0]
            continue
        keys.append(part)
        field = model.model_fields.get(part)
        if field is not None and place < len(location):
            kinds = _models_in(field.annotation)
            model = kinds[0] if len(kinds) == 1 else model
    if str(mistake["type"]).startswith("union_tag"):
        keys.append(mistake["ctx"]["discriminator"].strip("'"))
    return keys, list(model.model_fields)


def _tag_of(kind: type[BaseModel]) -> str:
    method = kind.model_fields.get("method")
    return "" if method is None else str(get_args(method.annotation)[0])


def _models_in(annotation: object) -> list[type[BaseModel]]:
    """Return the kinds of tables that a field's type is made of: a table, one of several, or many of a kind."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for argument in get_args(annotation) for kind in _models_in(argument)]


WRITTEN = {
    **dict.fromkeys(("tuple_type", "list_type"), "input should be a valid list; write [..., ...]"),
    "bool_type": "input should be a valid boolean; write true or false",
}
"""What is told of a value of another type than its key's, and how that is written."""


def message(key: str, known: Iterable[str], mistake: Mapping[str, Any]) -> str:
    """Say what is wrong with one key, and the mend.

    Args:
        key: dotted.
        known: keys of the table that it is in.
        mistake: as pydantic reports it.
    """
    given, kind, context = mistake.get("input"), str(mistake["type"]), mistake.get("ctx", {})
    text = str(mistake["msg"])
    match kind:
        case "extra_forbidden":
            close = nearest(key.rpartition(".")[2], known)
            told = f"unknown key; did you mean '{close}'?" if close else f"unknown key; known here: {_listed(known)}"
        case "missing" | "union_tag_not_found":
            told = "missing; add it"
        case "literal_error":
            told = _not_one_of(given, context["expected"])
        case "union_tag_invalid":
            told = _not_one_of(context["tag"], context["expected_tags"])
        case "model_type" | "dict_type" | "mapping_type" | "model_attributes_type":
            told = f"{given!r} is not a table; write [{key}] and its keys below"
        case "too_short":
            told = f"{[*given]}: too few; give {context['min_length']}" if given else "empty; give at least one"
        case "value_error":
            told = _of_validator(given, text.removeprefix("Value error, "))
        case _:
            told = f"{given!r}: {WRITTEN.get(kind) or text[0].lower() + text[1:]}"
    return told


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _not_one_of(given: object, expected: str) -> str:
    close = nearest(str(given), re.findall(r"'([^']*)'", expected))
    hint = f"; did you mean '{close}'?" if close else ""
    return f"{given!r} is not {expected}{hint}"


def _of_validator(given: object, text: str) -> str:
    """Return what a validator says, behind what was given where it is short and isn't in the text yet."""
    told = isinstance(given, str | int | float) and repr(given) not in text
    return f"{given!r}: {text}" if told else text
