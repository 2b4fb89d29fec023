"""Objects of the classes that a recipe names, made from its keys."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, create_model

from qanas.core.errors import InputError
from qanas.core.suggestions import unknown
from qanas.core.user_code import described, import_object
from qanas.recipe.messages import validated
from qanas.recipe.registry import REGISTRIES
from qanas.recipe.tables import STRICT, NamedTable

T = TypeVar("T")


def component(table: NamedTable, section: str, contract: type[T]) -> tuple[T, dict[str, Any]]:
    """Return the object that a table names, and the table with every default filled in.

    Args:
        table: with the component's own keys as extra ones.
        section: the table's name, and that of its registry.
        contract: what the class has to be.

    Raises:
        InputError: names the key and the mend.
    """
    found = find(table.name, section, contract)
    own_keys = type(table).model_fields
    options = options_of(found, table.model_extra or {}, section, {}, own_keys)
    made = made_from(found, options, section, table.name)
    own = {name: value for name in own_keys if (value := getattr(table, name)) is not None}
    # As TOML gives it back: a list is a list, or a resumed run would seem another one.
    return made, own | options.model_dump(mode="json", exclude_none=True)


def options_of(
    found: type[Any], values: Mapping[str, Any], section: str, tables: Mapping[str, str], also_known: Iterable[str]
) -> BaseModel:
    """Return a class's arguments, checked against its constructor.

    Args:
        found: the class.
        values: by argument.
        section: the table that they are in.
        tables: those of arguments that are in another one.
        also_known: further keys of the table.
    """
    return validated(_options_model(found, section), values, section, also_known, tables)


def made_from(found: type[T], options: BaseModel, section: str, name: str) -> T:
    """Return an object of a class.

    Raises:
        InputError: the constructor refuses its arguments.
    """
    values = {name: getattr(options, name) for name in type(options).model_fields}
    try:
        return found(**values)
    except Exception as error:
        raise InputError(f"{section}: {name} refuses its settings: {described(error, __file__)}") from error


def find(name: str, section: str, contract: type[T], key: str = "name") -> type[T]:
    """Return the class of a registered name or of ``module:Class``."""
    registry = REGISTRIES[section]
    if name not in registry and not re.fullmatch(r"[\w.]+:\w+", name):
        raise InputError(f"{section}.{key}: {unknown(section, name, registry)}, or module:Class of your own")
    try:
        found = import_object(registry.get(name, name))
    except (Exception, SystemExit) as error:
        raise InputError(f"{section}.{key}: '{name}' can't be imported: {described(error, __file__)}") from error
    if not inspect.isclass(found):
        raise InputError(f"{section}.{key}: '{name}' is no class; give module:Class")
    abstract: frozenset[str] = getattr(contract, "__abstractmethods__", frozenset())
    lacking = sorted(name for name in abstract if getattr(found, name, None) in (None, getattr(contract, name)))
    lacking += sorted(
        attribute
        for attribute in typing.get_type_hints(contract)
        if not hasattr(contract, attribute) and not _has(found, attribute)
    )
    if lacking:
        raise InputError(f"{section}.{key}: '{name}' lacks {', '.join(lacking)}; see {contract.__module__}")
    return typing.cast("type[T]", found)


def _has(found: type[Any], attribute: str) -> bool:
    """Tell whether instances of a class will have an attribute."""
    return hasattr(found, attribute) or attribute in getattr(found, "__dataclass_fields__", {})


def _options_model(component: type[Any], section: str) -> type[BaseModel]:
    """Return a model of the constructor's arguments: their annotations are the types and bounds that are checked."""
    source = component if hasattr(component, "__dataclass_fields__") else component.__init__
    try:
        hints = typing.get_type_hints(source, include_extras=True)
    except (NameError, TypeError) as error:
        raise InputError(
            f"{section}.name: the types of {component.__module__}:{component.__name__}'s arguments are unknown "
            f"({error}); import what their annotations name"
        ) from error
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(component).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InputError(
                f"{section}.name: the constructor of {component.__name__} takes *{name}; name its arguments"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    return create_model(f"{component.__name__}Options", __config__=STRICT, **fields)
