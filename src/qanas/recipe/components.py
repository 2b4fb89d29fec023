"""Objects of the classes that a recipe names, made from its keys; one line for each mistake in them."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError, create_model

from qanas.core.errors import InputError, described, import_object, unknown
from qanas.core.validation import first_mistake, message, place_of
from qanas.recipe.declared import from_toml, plain, to_toml
from qanas.recipe.registry import REGISTRIES
from qanas.recipe.tables import STRICT, NamedTable

M = TypeVar("M", bound=BaseModel)
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
    require_free(found, section, own_keys)
    options = options_of(found, table.model_extra or {}, section, also_known=own_keys)
    made = made_from(found, options, section, table.name)
    own = {name: value for name in own_keys if (value := getattr(table, name)) is not None}
    return made, own | to_toml(options)


def options_of(
    found: type[Any],
    values: Mapping[str, Any],
    section: str,
    tables: Mapping[str, str] = MappingProxyType({}),
    also_known: Iterable[str] = (),
    given: Iterable[str] = (),
) -> BaseModel:
    """Return a class's arguments, checked against its constructor.

    Args:
        found: the class.
        values: by argument.
        section: the table that they are in.
        tables: those of arguments that are in another one.
        also_known: further keys of the table.
        given: arguments that no key gives.
    """
    return validated(_options_model(found, section, frozenset(given)), values, section, also_known, tables)


def require_free(found: type[Any], section: str, keys: Iterable[str]) -> None:
    """Refuse a class whose constructor has an argument that no key can give, as the table's own is called so.

    Args:
        found: the class.
        section: the table.
        keys: the table's own.

    Raises:
        InputError: names the argument.
    """
    taken = [name for name in keys if name in arguments_of(found)]
    if taken:
        raise InputError(
            f"{section}.name: the constructor of {found.__name__} takes {taken[0]}, which is a key of [{section}] "
            "itself; call it otherwise"
        )


def made_from(found: type[T], options: BaseModel, section: str, name: str, **given: object) -> T:
    """Return an object of a class.

    Args:
        found: the class.
        options: its arguments, checked.
        section: the table that they are in.
        name: of the class in the recipe.
        given: further arguments.

    Raises:
        InputError: the constructor refuses its arguments.
    """
    values = {name: getattr(options, name) for name in type(options).model_fields}
    try:
        return found(**values, **given)
    except (Exception, SystemExit) as error:
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
    if not issubclass(found, contract):
        raise InputError(
            f"{section}.{key}: '{name}' is no {contract.__name__}; derive it from that of {contract.__module__}"
        )
    return found


def _has(found: type[Any], attribute: str) -> bool:
    """Tell whether instances of a class will have an attribute."""
    return hasattr(found, attribute) or attribute in getattr(found, "__dataclass_fields__", {})


def arguments_of(found: type[Any]) -> list[str]:
    """Return the names of a constructor's arguments."""
    return list(inspect.signature(found).parameters)


def _options_model(component: type[Any], section: str, given: frozenset[str]) -> type[BaseModel]:
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
        if name in given:
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InputError(
                f"{section}.name: the constructor of {component.__name__} takes *{name}; name its arguments"
            )
        fields[name] = (from_toml(hints.get(name, Any)), _default(component, parameter))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an argument called as a method of pydantic's
        return create_model(f"{component.__name__}Options", __config__=STRICT, **fields)


def _default(component: type[Any], parameter: inspect.Parameter) -> Any:  # noqa: ANN401 - of the argument's type
    """Return the default of an argument as pydantic takes it; a dataclass may have it made anew for each object."""
    field = getattr(component, "__dataclass_fields__", {}).get(parameter.name)
    if field is not None and field.default_factory is not dataclasses.MISSING and field.init:
        return Field(default_factory=field.default_factory)
    return ... if parameter.default is parameter.empty else plain(parameter.default)


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
        mistake = first_mistake(error)
        location, own = place_of(mistake, model)
        table = tables.get(location[0], prefix)
        key = ".".join([table, *location] if table else location)
        raise InputError(f"{key}: {_message(key, [*own, *also_known], mistake)}") from error


def _message(key: str, known: Iterable[str], mistake: Mapping[str, Any]) -> str:
    """Say what is wrong with one key, and the mend: a missing name is one of a registry, or a class of one's own.

    Args:
        key: dotted.
        known: keys of the table that it is in.
        mistake: as pydantic reports it.
    """
    registry = REGISTRIES.get(key.removesuffix(".name"), {}) if key.endswith(".name") else {}
    if mistake["type"] == "missing" and registry:
        return f"missing; give {', '.join([*registry, 'or module:Class'])}"
    return message(key, known, mistake)
