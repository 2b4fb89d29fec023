"""Values whose batch is not in front, in torch: sequences with the time in front, and the last states of an LSTM.

A file has each sample by itself. Only the code of the network sees such a value; what it does with it is told from
where torch has the batch, and refused where that isn't clear.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from qanas.quantization.tracing.builder import Builder, Translator
from qanas.quantization.tracing.joining import stacked
from qanas.quantization.tracing.torch_calls import names_in
from qanas.quantization.tracing.values import Factors, Stacked, Unavailable, Value


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
    if "input" in named:
        given.insert(0, named.pop("input"))
    for entry in _values((given, named)):
        if isinstance(entry, Unavailable):
            raise ValueError(entry.reason)  # noqa: TRY004 - of the network
    if given and isinstance(given[0], Stacked):
        part = _layer(function, given, named)
        if part is not None:
            return part
    # These take the states of their layers one by one.
    states = given[1:] if function in SEQUENCES else []
    given = [*_put_together(builder, given[: len(given) - len(states)]), *states]
    named = named if function in SEQUENCES else _put_together(builder, named)
    if given and isinstance(given[0], Value):
        if function in ORDERS:
            return permuted(given[0], ORDERS[function](given[0], given[1:], named))
        if given[0].batch and function not in SEQUENCES:
            return _elsewhere(function, translator, builder, [*arguments[:module], *given], named)
    return called(translator, (builder, *arguments[:module], *given), named)


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
    if function == "getitem" and isinstance(rest[0], int):
        return parts[rest[0]]
    if function == "select" and rest[0] in {0, -3}:
        return parts[rest[1]]
    if function == "unbind" and (not rest or rest[0] in {0, -3}):
        return tuple(parts)
    if function == "squeeze" and rest and rest[0] in {0, -3} and len(parts) == 1:
        return parts[0]
    return None


def whole(builder: Builder, value: Value | Stacked | Unavailable) -> Value:
    """Return what a network puts out as one value with the batch in front.

    Raises:
        ValueError: the batch is elsewhere, or the value can't be had.
    """
    if isinstance(value, Unavailable):
        raise ValueError(value.reason)  # noqa: TRY004 - of the network
    found: Value = _put_together(builder, value)
    if any(found.torch[: found.batch]):
        raise ValueError(f"the batch is axis {found.batch} of it; put it in front: x.transpose(0, {found.batch})")
    if found.batch:
        raise ValueError("the batch is not in front; put it there: x.transpose(0, 1)")
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

SEQUENCES = names_in("LSTM GRU")
"""Modules that take a batch behind the time."""

KEPT = names_in(
    "add mul sub div neg relu relu6 clamp hardtanh leaky_relu sigmoid tanh hardswish hardsigmoid silu gelu elu "
    "selu softplus abs exp sqrt rsqrt square pow softmax log_softmax clone dropout split chunk narrow cat ReLU "
    "ReLU6 Hardtanh LeakyReLU Sigmoid Tanh Hardswish Hardsigmoid SiLU GELU ELU PReLU Softmax Identity Dropout"
)
"""What keeps all axes where they are."""

LAST = frozenset(("linear", "Linear", "layer_norm", "LayerNorm"))
"""What reads the last axis and keeps the others."""


def _elsewhere(
    function: str, translator: Translator, builder: Builder, arguments: list[Any], options: Mapping[str, Any]
) -> Any:  # noqa: ANN401 - values in any structure
    """Translate a call on values whose batch is not in front."""
    place = next(number for number, entry in enumerate(arguments) if isinstance(entry, Value))
    value: Value = arguments[place]
    batch = value.batch
    rest = arguments[place + 1 :]

    def with_batch(result: Any, there: int) -> Any:  # noqa: ANN401
        if isinstance(result, Value):
            return replace(result, batch=there)
        return tuple(with_batch(part, there) for part in result)

    if function in KEPT or (function in LAST and batch < len(value.torch)):
        values = [entry for entry in _values([arguments, options]) if isinstance(entry, Value)]
        if all(entry.batch == batch and len(entry.torch) == len(value.torch) for entry in values):
            return with_batch(called(translator, (builder, *arguments), options), batch)
    if function in {"squeeze", "select", "unbind"} and (rest or options):
        axis = value.axis(rest[0] if rest else next(iter(options.values())))
        result = called(translator, (builder, *arguments), options)
        first = result if isinstance(result, Value) else result[0]
        return with_batch(result, batch - (axis < batch and len(first.torch) < len(value.torch)))
    if function == "unsqueeze":
        rank = len(value.torch) + 2
        number = (rest[0] if rest else options["dim"]) % rank
        axes = list(value.torch)
        axes.insert(number - (number > batch), ())
        return replace(value, torch=tuple(axes), batch=batch + (number <= batch))
    if function == "getitem":
        return _picked(translator, builder, value, rest[0])
    if not any(value.torch[:batch]):  # in front of the batch there is nothing: the numbers lie as they do behind it
        arguments[place] = replace(value, batch=0)
        if function in {"view", "reshape"}:
            return called(translator, (builder, *arguments), options)
    return _refuse(function, batch)


def _refuse(function: str, batch: int) -> Any:  # noqa: ANN401 - never returns
    raise ValueError(f"{function} of a value with the batch as its axis {batch}; put the batch in front before it")


def _picked(translator: Translator, builder: Builder, value: Value, index: Any) -> Value:  # noqa: ANN401
    """Translate an index into a value whose batch is not in front."""
    entries = list(index) if isinstance(index, tuple) else [index]
    rank = len(value.torch) + 1
    given = sum(entry is not None and entry is not ... for entry in entries)
    if ... in entries:
        place = entries.index(...)
        entries[place : place + 1] = [slice(None)] * (rank - given)
    else:
        entries += [slice(None)] * (rank - given)
    others: list[Any] = []
    seen, batch = 0, 0
    for entry in entries:
        if entry is None:
            others.append(entry)
            batch += seen <= value.batch
            continue
        if seen == value.batch:
            if entry != slice(None):
                raise ValueError(f"the index {index}; take the whole batch, which is axis {value.batch}")
        else:
            others.append(entry)
            batch += seen < value.batch and not isinstance(entry, int)
        seen += 1
    result: Value = translator(builder, replace(value, batch=0), (slice(None), *others))
    return replace(result, batch=batch)
