"""Values whose batch is not in front, in torch: sequences with the time in front, and the last states of an LSTM.

A file has each sample by itself. Only the code of the network sees such a value; what it does with it is told from
where torch has the batch (`beside`), and refused where that isn't clear.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from qanas.quantization.tracing.beside import Call, of_placed, picked, unsqueezed
from qanas.quantization.tracing.builder import Builder, Translator
from qanas.quantization.tracing.joining import stacked
from qanas.quantization.tracing.torch_calls import NUMPYS_NAMES, in_order, names_in
from qanas.quantization.tracing.values import Factors, LackingCellError, Stacked, Unavailable, Value, size_of


def translated(
    function: str, translator: Translator, builder: Builder, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> Any:  # noqa: ANN401 - values in any structure
    """Call a translator with values, wherever torch has their batch.

    Args:
        function: its name, or that of the module's class.
        translator: of the function; it takes values with the batch in front.
        builder: takes the operators.
        arguments: as the code of the network gave them, a module in front.
        options: the same by name.

    Raises:
        ValueError: what an axis of the batch has no meaning for, or a value that can't be had.
    """
    module = bool(arguments) and isinstance(arguments[0], nn.Module)
    given = list(arguments[1:] if module else arguments)
    named = dict(options)
    if named:
        taken = () if function in ORDERS else _taken(translator, named)
        given, named = in_order(arguments[0] if module else function, given, named, taken)
    if "input" in named:
        given.insert(0, named.pop("input"))
    values = _values((given, named))
    for entry in values:
        if isinstance(entry, Unavailable):
            raise LackingCellError(entry.layer)
    if any(isinstance(entry, Stacked) for entry in values):
        part = _layer(function, given, named) if isinstance(given[0], Stacked) else None
        if part is not None:
            return part
        # These take the states of their layers one by one.
        states = given[1:] if function in SEQUENCES else []
        given = [*_put_together(builder, given[: len(given) - len(states)]), *states]
        named = named if function in SEQUENCES else _put_together(builder, named)
        values = _values((given, named))
    if given and isinstance(given[0], Value):
        if function in ORDERS:
            return permuted(given[0], ORDERS[function](given[0], given[1:], named))
        if given[0].batch and function in {"view", "reshape"} and not any(given[0].torch[: given[0].batch]):
            given[0] = replace(given[0], batch=0)  # in front of it is nothing: the numbers lie as they do behind it
            values = given[:1]
    return _placed(function, translator, builder, ((*arguments[:module], *given), named), values)


def _placed(
    function: str,
    translator: Translator,
    builder: Builder,
    given: tuple[tuple[Any, ...], Mapping[str, Any]],
    values: Sequence[object],
) -> Any:  # noqa: ANN401 - values in any structure
    """Call a translator with arguments and options, whose values are each in one piece."""
    arguments, options = given

    def call(arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:  # noqa: ANN401
        return called(translator, (builder, *arguments), options)

    for value in values:
        if isinstance(value, Value) and (value.beside or (value.batch and function not in SEQUENCES)):
            return of_placed(function, call, builder, arguments, options)
    if values and function in {"unsqueeze", "getitem"}:
        return _maybe_in_front(function, call, arguments, options)
    return call(arguments, options)


def _maybe_in_front(function: str, call: Call, given: Sequence[Any], named: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Translate what may put a new axis in front of the batch."""
    if function == "getitem":
        index = given[1]
        first = index[:1] if isinstance(index, tuple) else (index,)
        return picked(call, given[0], index) if first == (None,) else call(given, named)
    number = given[1] if len(given) > 1 else named.get("dim", 0)
    return unsqueezed(call, given[0], number)


def called(translator: Translator, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Call a translator; options that nobody gave are left out where it doesn't know them."""
    signature = _signature(translator)
    # torch hands options on that nobody gave: None is their default.
    named = {name: option for name, option in options.items() if name in signature.parameters or option is not None}
    signature.bind(*arguments, **named)
    return translator(*arguments, **named)


@functools.cache
def _signature(translator: Translator) -> inspect.Signature:
    return inspect.signature(translator)


def _taken(translator: Translator, named: Mapping[str, Any]) -> Collection[str]:
    """Return the names by which a translator takes arguments; those of ``named`` where it hands all of them on."""
    entries = _signature(translator).parameters.values()
    taken = {entry.name for entry in entries if entry.kind in {entry.POSITIONAL_OR_KEYWORD, entry.KEYWORD_ONLY}}
    hands_on = any(entry.kind is entry.VAR_KEYWORD for entry in entries)
    return taken | (named.keys() - NUMPYS_NAMES.keys()) if hands_on else taken


def _values(entry: object) -> list[object]:
    if isinstance(entry, Mapping):
        return [found for part in entry.values() for found in _values(part)]
    if isinstance(entry, list | tuple):
        return [found for part in entry for found in _values(part)]
    return [entry] if isinstance(entry, Value | Stacked | Unavailable) else []


def _layer(function: str, given: Sequence[Any], named: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return the part of stacked values that a call picks; None where it does something else."""
    parts = given[0].parts
    rest = [*given[1:], *named.values()]
    first = {0, -len(given[0].whole_shape)}
    if function == "getitem" and isinstance(rest[0], int):
        return parts[rest[0]]
    if function == "select" and rest[0] in first:
        return parts[rest[1]]
    if function == "unbind" and (not rest or rest[0] in first):
        return tuple(parts)
    if function == "squeeze" and rest and rest[0] in first and len(parts) == 1:
        return parts[0]
    return None


def whole(builder: Builder, value: Value | Stacked | Unavailable) -> Value:
    """Return what a network puts out as one value with the batch in front.

    Raises:
        ValueError: the batch is elsewhere, or the value can't be had.
    """
    if isinstance(value, Unavailable):
        raise LackingCellError(value.layer)
    found: Value = _put_together(builder, value)
    if any(found.torch[: found.batch]):
        raise ValueError(f"the batch is axis {found.batch} of it; put it in front: x.transpose(0, {found.batch})")
    if found.batch:
        raise ValueError("the batch is not in front; put it there: x.transpose(0, 1)")
    if found.beside:
        parts = size_of(found.beside)
        raise ValueError(f"{parts} parts of a sample are joined to the batch; take them apart: x.view(len(x), ...)")
    return found


def _put_together(builder: Builder, entry: Any) -> Any:  # noqa: ANN401 - in any structure
    """Return a structure with stacked values as one value each, its batch behind the layers."""
    if isinstance(entry, Stacked):
        if len(entry.parts) == 1:
            only = entry.parts[0]
            return replace(only.with_torch_axes(((), *only.torch)), batch=1)
        return replace(stacked(builder, entry.parts, 1), batch=1)
    if isinstance(entry, list | tuple) and type(entry) in {list, tuple}:
        return type(entry)(_put_together(builder, part) for part in entry)
    if isinstance(entry, dict):
        return {name: _put_together(builder, part) for name, part in entry.items()}
    return entry


def permuted(value: Value, order: Sequence[int]) -> Value:
    """Return a value with all of torch's axes, the batch among them, in another order."""
    rank = len(value.torch) + 1
    if sorted(axis % rank for axis in order) != list(range(rank)):
        raise ValueError(f"a permutation {tuple(order)} of {rank} axes")
    axes: list[Factors | None] = list(value.torch)
    axes.insert(value.batch, None)
    moved = [axes[axis % rank] for axis in order]
    batch = next(place for place, axis in enumerate(moved) if axis is None)
    return replace(value, torch=tuple(axis for axis in moved if axis is not None), batch=batch)


def _listed(numbers: Sequence[Any]) -> list[int]:
    entries: list[int] = []
    for entry in numbers:
        entries += [entry] if isinstance(entry, int) else list(entry)
    return entries


def _swapped(value: Value, given: Sequence[Any], named: Mapping[str, Any]) -> list[int]:
    one, other = [*given, *named.values()] if given or named else (0, 1)
    rank = len(value.torch) + 1
    for axis in (one, other):
        if not -rank <= axis < rank:
            raise ValueError(f"axis {axis} of a value of {rank} axes")
    order = list(range(rank))
    order[one], order[other] = order[other], order[one]
    return order


def _moved(value: Value, given: Sequence[Any], named: Mapping[str, Any]) -> list[int]:
    sources, targets = (_listed([entry]) for entry in [*given, *named.values()])
    rank = len(value.torch) + 1
    places = {target % rank: source % rank for source, target in zip(sources, targets, strict=True)}
    left = [axis for axis in range(rank) if axis not in places.values()]
    return [places[place] if place in places else left.pop(0) for place in range(rank)]


ORDERS: Mapping[str, Callable[[Value, Sequence[Any], Mapping[str, Any]], Sequence[int]]] = {
    "permute": lambda _, given, named: _listed([*given, *named.values()]),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "t"), _swapped),
    **dict.fromkeys(("movedim", "moveaxis"), _moved),
}
"""What changes nothing but the order of the axes: the order, by the function's name."""

SEQUENCES = names_in("LSTM GRU RNN MultiheadAttention TransformerEncoderLayer TransformerEncoder")
"""Modules that take a batch behind the time."""
