"""Values side by side, and rows around them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.quantization.operators.masked_softmax import BLOCKED
from qanas.quantization.operators.moves import MirrorPad
from qanas.quantization.operators.shapes import Concatenate
from qanas.quantization.operators.windows import Fill, Pad
from qanas.quantization.tracing.builder import Builder, Translators, numbers
from qanas.quantization.tracing.parts import along
from qanas.quantization.tracing.pointwise import add
from qanas.quantization.tracing.shapes import listed
from qanas.quantization.tracing.values import Stacked, Value, new_axis


def cat(builder: Builder, tensors: Sequence[Value | Tensor], /, dim: int = 0, *, axis: int | None = None) -> Value:
    """Take values side by side, stored in the order that most of them are stored in.

    Constants among them are added to rows of zeros.
    """
    dim = dim if axis is None else axis
    values = [entry for entry in tensors if isinstance(entry, Value)]
    if len(values) < len(tensors):
        return _beside_constants(builder, tensors, values[0].axis(dim))
    axis = values[0].axis(dim)
    shapes = {(*value.shape[:axis], *value.shape[axis + 1 :]) for value in values}
    if len(shapes) > 1 or len({len(value.shape) for value in values}) > 1:
        raise ValueError(f"a concatenation of shapes {', '.join(str(value.shape) for value in values)}")
    stored = [builder.natural(value) for value in values]
    order = Counter(map(numbers, stored)).most_common(1)[0][0]
    parts = [builder.arranged(value, tuple(value.torch[number] for number in order)) for value in stored]
    if len(parts) == 1:
        return parts[0]
    axes = list(parts[0].torch)
    axes[axis] = new_axis(sum(value.shape[axis] for value in values))
    return builder.emit(Concatenate(order.index(axis)), parts, tuple(axes), tuple(axes[number] for number in order))


def _beside_constants(builder: Builder, tensors: Sequence[Value | Tensor], axis: int) -> Value:
    """Return values and constants side by side: padded with zeros, to which the constants are added."""
    sizes = [entry.shape[axis + (0 if isinstance(entry, Value) else 1)] for entry in tensors]
    first = next(number for number, entry in enumerate(tensors) if isinstance(entry, Value))
    last = max(number for number, entry in enumerate(tensors) if isinstance(entry, Value))
    between = [entry for entry in tensors[first : last + 1] if isinstance(entry, Value)]
    if len(between) <= last - first:  # constants between values belong to those in front of them
        gap = next(place for place in range(first, last) if not isinstance(tensors[place], Value))
        behind = next(place for place in range(gap, last + 1) if isinstance(tensors[place], Value))
        return cat(builder, [_beside_constants(builder, tensors[:behind], axis), *tensors[behind:]], axis + 1)
    whole = cat(builder, between, axis + 1)
    rows = [(0, 0)] * len(whole.torch)
    rows[axis] = (sum(sizes[:first]), sum(sizes[last + 1 :]))
    whole = padded(builder, whole, rows)
    constant = torch.zeros(1, *whole.shape)
    start = 0
    for entry, size in zip(tensors, sizes, strict=True):
        if isinstance(entry, Tensor):
            constant.narrow(axis + 1, start, size).copy_(entry.detach())
        start += size
    if not constant.any():
        return whole
    return add(builder, whole, constant)


def side_by_side(builder: Builder, tensors: Sequence[Value | Tensor], /) -> Value:
    """Take `torch.hstack`: side by side along the first axis behind the batch."""
    return cat(builder, tensors, 1)


def in_depth(builder: Builder, tensors: Sequence[Value | Tensor], /) -> Value:
    """Take `torch.dstack`: side by side along the third axis, the batch counted."""
    if any(isinstance(entry, Value) and len(entry.torch) < 2 for entry in tensors):  # noqa: PLR2004 - torch's third
        raise ValueError("a dstack of values that lack a third axis; take torch.stack(..., dim=2)")
    return cat(builder, tensors, 2)


def stack(builder: Builder, tensors: Sequence[Value | Tensor], /, dim: int = 0) -> Value | Stacked:
    """Take values side by side along a new axis; in front of the batch they stay apart, as states of layers."""
    values = [entry for entry in tensors if isinstance(entry, Value)]
    if dim % (len(values[0].torch) + 2) != 0:
        return stacked(builder, tensors, dim)
    if len(values) < len(tensors):
        raise ValueError("a stack of values and constants in front of the batch; stack them behind it: dim=1")
    return Stacked(tuple(values))


def stacked(builder: Builder, tensors: Sequence[Value | Tensor], dim: int) -> Value:
    """Return values, constants of the same axes among them, side by side along a new axis behind the batch."""
    rank = next(len(entry.torch) for entry in tensors if isinstance(entry, Value))
    place = dim % (rank + 2) - 1
    wider = [
        entry.with_torch_axes((*entry.torch[:place], (), *entry.torch[place:]))
        if isinstance(entry, Value)
        else entry.unsqueeze(place + 1)
        for entry in tensors
    ]
    return cat(builder, wider, place + 1)


def roll(
    builder: Builder, value: Value, /, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None
) -> Value:
    """Take axes from another position on, what comes before it behind the rest."""
    if dims is None:
        raise ValueError("a roll over everything, the batch included; name the axes: x.roll(1, dims=2)")
    for shift, dim in zip(listed([shifts]), listed([dims]), strict=True):
        start = -shift % value.shape[value.axis(dim)]
        if start:
            parts = (along(builder, value, dim, slice(start, None)), along(builder, value, dim, slice(0, start)))
            value = cat(builder, parts, dim)
    return value


Sides = list[tuple[int, int]]
"""Rows before and behind, an entry for each torch axis of the sample."""


def pad(
    builder: Builder,
    image: Value,
    /,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Value:
    """Take rows around a value; ``pad`` counts from the last axis, negative numbers cut rows off."""
    sides: Sides = [(0, 0)] * (len(image.torch) - len(pad) // 2)
    sides += list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    if len(sides) > len(image.torch):
        raise ValueError("padding of the batch; pad each sample")
    for number, (before, behind) in enumerate(sides):
        if min(before, behind) < 0:
            kept = slice(max(-before, 0), image.shape[number] - max(-behind, 0))
            image = along(builder, image, number + 1, kept)
    sides = [(max(before, 0), max(behind, 0)) for before, behind in sides]
    if mode == "constant":
        return _with_constant_rows(builder, image, sides, value or 0.0)
    if mode == "reflect":
        return padded(builder, image, sides, None)
    if mode not in {"replicate", "circular"}:
        raise ValueError(f"padding with mode = {mode!r}; known are constant, reflect, replicate and circular")
    for number, side in enumerate(sides):
        image = _with_own_rows(builder, image, number, side, wraps=mode == "circular")
    return image


def padded(builder: Builder, image: Value, sides: Sides, fill: Fill | None = "zero") -> Value:
    """Return a value with rows of a fill around it, or with its own rows, mirrored, where there is none."""
    if not any(map(any, sides)):
        return image
    source = builder.natural(image)
    order = numbers(source)
    axes = [
        new_axis(size + sum(side)) if any(side) else axis
        for axis, size, side in zip(source.torch, source.shape, sides, strict=True)
    ]
    rows = tuple(sides[number] for number in order)
    operator = MirrorPad(rows) if fill is None else Pad(rows, fill)
    return builder.emit(operator, [source], tuple(axes), tuple(axes[number] for number in order))


def _with_constant_rows(builder: Builder, image: Value, sides: Sides, value: float) -> Value:
    """Return a value with rows of a number around it: of zeros, to which that is added, where no code stands for it."""
    fill: Fill | None = "zero" if value == 0 else "lowest" if value <= BLOCKED else None
    if fill is not None:
        return padded(builder, image, sides, fill)
    amounts = [rows for side in reversed(sides) for rows in side]
    added = F.pad(torch.zeros(1, *image.shape), amounts, value=value)
    return add(builder, padded(builder, image, sides), added)


def _with_own_rows(builder: Builder, image: Value, number: int, side: tuple[int, int], *, wraps: bool) -> Value:
    """Return a value with its outermost row repeated at either end of an axis, or with the rows of the other end."""
    size, (before, behind) = image.shape[number], side
    if wraps and max(side) > size:
        raise ValueError(f"circular padding of {max(side)} rows of an axis of {size}")
    front, back = (slice(size - before, size), slice(0, behind)) if wraps else (slice(0, 1), slice(size - 1, size))
    parts = [image]
    if before:
        parts = [along(builder, image, number + 1, front)] * (1 if wraps else before) + parts
    if behind:
        parts += [along(builder, image, number + 1, back)] * (1 if wraps else behind)
    return cat(builder, parts, number + 1)


def pad_module(builder: Builder, module: nn.ConstantPad1d | nn.ConstantPad2d, image: Value, /) -> Value:
    """Take rows of zeros or of a constant as a module."""
    return pad(builder, image, module.padding, value=module.value)


def pad_module_of(mode: str) -> Callable[..., Value]:
    """Return the translator of a padding module of a mode."""

    def translate(builder: Builder, module: nn.ReflectionPad2d, image: Value, /) -> Value:
        return pad(builder, image, module.padding, mode)

    return translate


TRANSLATORS = Translators(
    functions={
        **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), cat),
        **dict.fromkeys((torch.hstack, torch.column_stack), side_by_side),
        torch.dstack: in_depth,
        torch.stack: stack,
        **dict.fromkeys((torch.roll, "roll"), roll),
        F.pad: pad,
    },
    modules={
        **dict.fromkeys((nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d), pad_module),
        **dict.fromkeys((nn.ReflectionPad1d, nn.ReflectionPad2d), pad_module_of("reflect")),
        **dict.fromkeys((nn.ReplicationPad1d, nn.ReplicationPad2d), pad_module_of("replicate")),
        **dict.fromkeys((nn.CircularPad1d, nn.CircularPad2d), pad_module_of("circular")),
    },
)
