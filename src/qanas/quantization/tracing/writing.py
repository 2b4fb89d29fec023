"""Writing into a part of a value: ``x[:, 0] = y`` computes a new value, of what stays and what is put in."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.quantization.tracing.builder import Builder, Translators
from qanas.quantization.tracing.joining import cat, padded
from qanas.quantization.tracing.parts import along, told
from qanas.quantization.tracing.pointwise import Operand, add, multiply, where
from qanas.quantization.tracing.shapes import flatten, repeated, reshape, unflatten
from qanas.quantization.tracing.values import Value

_MOST_STEPPED = 2
"""Axes: each takes another one while it is written to, and the runtime has six."""


def written(builder: Builder, target: Operand, index: object, filling: Operand, /) -> Value:
    """Take a value, or a constant, with a value or a number at some places: what is around them stays there."""
    assert isinstance(target, Value | Tensor)  # noqa: S101 - nothing else is written into
    if isinstance(index, Value) and not isinstance(filling, Value) and torch.as_tensor(filling).numel() == 1:
        return where(builder, index, filling, target)
    size = target.shape if isinstance(target, Value) else tuple(target.shape[1:])
    entries = _entries(index, len(size) + 1)
    ranges = []
    for entry, whole in zip(entries, size, strict=True):
        places = range(whole)[entry if isinstance(entry, slice) else slice(entry % whole, entry % whole + 1)]
        if not places:
            raise ValueError(f"writing at {told(index)}, which is nowhere")
        ranges.append(places)
    kept = [len(places) for places, entry in zip(ranges, entries, strict=True) if isinstance(entry, slice)]
    filling = _of_shape(builder, filling, kept)
    stepped = [number for number, places in enumerate(ranges) if len(places) > 1 and places.step > 1]
    if len(stepped) > _MOST_STEPPED:
        raise ValueError(f"writing at {told(index)}; write in steps along {_MOST_STEPPED} axes at most")
    if stepped:
        return _in_steps(builder, target, entries, stepped[0], ranges[stepped[0]], filling)
    return _put(builder, target, _Block.of(ranges, kept), filling)


def _entries(index: object, rank: int) -> list[int | slice]:
    """Return the whole numbers and slices of an index, one for each axis of a sample."""
    entries: list[Any] = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(entry, Value) for entry in entries):
        raise ValueError("writing at places that depend on the input; choose by torch.where(mask, y, x)")
    if any(isinstance(entry, bool) or not (isinstance(entry, int | slice) or entry is ...) for entry in entries):
        raise ValueError(f"writing at {told(index)}; write at whole numbers and slices")
    if ... in entries:
        place = entries.index(...)
        entries[place : place + 1] = [slice(None)] * (rank - len(entries) + 1)
    entries += [slice(None)] * (rank - len(entries))
    if entries[0] != slice(None):
        raise ValueError(f"writing at {told(index)}; write into the whole batch: x[:, ...] = y")
    return entries[1:]


def _of_shape(builder: Builder, filling: Operand, kept: Sequence[int]) -> Operand:
    """Return a value repeated along axes of one, as torch does; constants are when they are added."""
    if not isinstance(filling, Value) or list(filling.shape) == kept:
        return filling
    own = filling.shape  # of fewer axes torch would take the batch for one of a sample's
    if len(own) != len(kept) or any(size not in (1, wanted) for size, wanted in zip(own, kept, strict=True)):
        raise ValueError(f"a value of shape {own} written to {tuple(kept)}; give it that shape")
    return repeated(builder, filling, kept)


def _in_steps(
    builder: Builder, target: Value | Tensor, entries: list[int | slice], number: int, places: range, filling: Operand
) -> Value:
    """Write to every ``step``-th position of an axis: to one column, once the axis is rows of so many.

    Positions start, start + step, ... are column start % step of rows start // step and on; an axis that ends within a
    row is filled up to its end.
    """
    size = target.shape[number] if isinstance(target, Value) else target.shape[number + 1]
    rows = -(-size // places.step)
    lacking = rows * places.step - size
    first, column = divmod(places.start, places.step)
    inside: list[int | slice] = [slice(first, first + len(places)), column]
    if isinstance(target, Value):
        sides = [(0, lacking if axis == number else 0) for axis in range(len(target.shape))]
        folded: Value | Tensor = unflatten(builder, padded(builder, target, sides), number + 1, (rows, places.step))
    else:
        behind = [0, 0] * (target.ndim - number - 2)
        folded = torch.unflatten(F.pad(target, [*behind, 0, lacking]), number + 1, (rows, places.step))
    index = (slice(None), *entries[:number], *inside, *entries[number + 1 :])
    found = flatten(builder, written(builder, folded, index, filling), number + 1, number + 2)
    return along(builder, found, number + 1, slice(0, size))


@dataclass(frozen=True)
class _Block:
    """Positions that follow each other along every axis.

    Attributes:
        bounds: the first one and the one behind the last, by axis of a sample.
        kept: sizes of the axes that a filling has: those that no whole number stands for.
    """

    bounds: Sequence[tuple[int, int]]
    kept: Sequence[int]

    @classmethod
    def of(cls, ranges: Sequence[range], kept: Sequence[int]) -> _Block:
        """Return the block of ranges whose positions follow each other."""
        return cls([(places[0], places[-1] + 1) for places in ranges], kept)

    @property
    def shape(self) -> list[int]:
        """Sizes along all axes of a sample."""
        return [stop - start for start, stop in self.bounds]


def _put(builder: Builder, target: Value | Tensor, block: _Block, filling: Operand) -> Value:
    """Return a value, or a constant, with a filling at a block of positions."""
    if isinstance(filling, Value):
        inner = reshape(builder, filling, 1, *block.shape)
        if isinstance(target, Value):
            return _around(builder, target, block.bounds, inner)
        return _on(builder, target, block.bounds, inner)
    assert isinstance(target, Value)  # noqa: S101 - translators are called with at least one
    inner = target
    for number, (start, stop) in enumerate(block.bounds):
        inner = along(builder, inner, number + 1, slice(start, stop))
    constant = torch.as_tensor(filling, dtype=torch.float32).detach()
    constant = constant.expand(1, *block.kept).reshape(1, *block.shape)
    return _around(builder, target, block.bounds, add(builder, multiply(builder, inner, 0.0), constant))


def _on(builder: Builder, constant: Tensor, bounds: Sequence[tuple[int, int]], inner: Value) -> Value:
    """Return a constant of shape (1, ...) with a value between bounds of every axis: with rows around it, and a sum."""
    if len(constant) != 1:
        raise ValueError(
            "a value is written into a constant of several samples; compute a new tensor instead: torch.cat"
        )
    whole = constant.detach().clone()
    whole[(slice(None), *(slice(*bound) for bound in bounds))] = 0.0
    sides = [(start, own - stop) for (start, stop), own in zip(bounds, constant.shape[1:], strict=True)]
    found = padded(builder, inner, sides)
    return add(builder, found, whole) if bool(whole.any()) else found


def _around(builder: Builder, value: Value, bounds: Sequence[tuple[int, int]], inner: Value) -> Value:
    """Return a value with another one between bounds of every axis, the last axis put together first."""
    for number in reversed(range(len(bounds))):
        start, stop = bounds[number]
        outer = value
        for before in range(number):
            outer = along(builder, outer, before + 1, slice(*bounds[before]))
        pieces = [along(builder, outer, number + 1, slice(0, start))] if start else []
        pieces.append(inner)
        if stop < value.shape[number]:
            pieces.append(along(builder, outer, number + 1, slice(stop, None)))
        inner = cat(builder, pieces, number + 1)
    return inner


TRANSLATORS = Translators(functions={operator.setitem: written}, modules={})
