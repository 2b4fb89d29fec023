"""What torch does to shapes, parts of values, and values side by side.

Most of it is no operator, but another way to see the stored numbers.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Sequence
from math import prod
from types import EllipsisType

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn

from qanas.quantization.operators.shapes import Concatenate, Index, Slice
from qanas.quantization.operators.windows import Fill, Pad
from qanas.quantization.tracing.builder import Builder, Translators, numbers
from qanas.quantization.tracing.values import Factors, Value, new_axis


def reshape(builder: Builder, value: Value, /, *shape: int | Sequence[int]) -> Value:
    """Take a reshape that keeps the batch in front."""
    sizes = _listed(shape)
    whole = prod(value.shape)
    if not sizes or sizes[0] not in (1, -1):
        raise ValueError(f"a reshape to {tuple(sizes)}; keep the batch in front: x.reshape(len(x), ...)")
    sample = sizes[1:]
    if -1 in sample and sizes[0] != -1:
        rest = prod(size for size in sample if size != -1)
        sample[sample.index(-1)] = whole // rest if rest > 0 else 0
    return builder.reshaped(value, tuple(sample))


def flatten(builder: Builder, value: Value, /, start_dim: int = 0, end_dim: int = -1) -> Value:
    """Take several axes as one."""
    del builder
    rank = len(value.torch) + 1
    if start_dim % rank == 0:
        raise ValueError("a flatten over the batch; flatten each sample: torch.flatten(x, 1)")
    first, last = value.axis(start_dim), value.axis(end_dim)
    joined = tuple(factor for axis in value.torch[first : last + 1] for factor in axis)
    return value.with_torch_axes((*value.torch[:first], joined, *value.torch[last + 1 :]))


def unflatten(builder: Builder, value: Value, /, dim: int, sizes: Sequence[int]) -> Value:
    """Take one axis as several."""
    axis = value.axis(dim)
    parts = list(sizes)
    if -1 in parts:
        parts[parts.index(-1)] = value.shape[axis] // -prod(parts)
    return builder.reshaped(value, (*value.shape[:axis], *parts, *value.shape[axis + 1 :]))


def permute(builder: Builder, value: Value, /, *dims: int | Sequence[int]) -> Value:
    """Take the axes in another order; the batch stays in front."""
    del builder
    order = _listed(dims)
    rank = len(value.torch) + 1
    if sorted(dim % rank for dim in order) != list(range(rank)) or order[0] % rank != 0:
        raise ValueError(f"a permutation {tuple(order)} of {rank} axes; the batch stays in front")
    return value.with_torch_axes(value.torch[dim % rank - 1] for dim in order[1:])


def transpose(builder: Builder, value: Value, /, dim0: int, dim1: int) -> Value:
    """Take two axes in each other's place."""
    del builder
    axes = list(value.torch)
    one, other = value.axis(dim0), value.axis(dim1)
    axes[one], axes[other] = axes[other], axes[one]
    return value.with_torch_axes(axes)


def unsqueeze(builder: Builder, value: Value, /, dim: int) -> Value:
    """Take a further axis of size 1."""
    del builder
    rank = len(value.torch) + 2
    if not -rank <= dim < rank or dim % rank == 0:
        raise ValueError(f"a new axis at {dim} of a value of {rank - 1} axes; the batch stays in front")
    axis = dim % rank - 1
    return value.with_torch_axes((*value.torch[:axis], (), *value.torch[axis:]))


def squeeze(builder: Builder, value: Value, /, dim: int | Sequence[int] | None = None) -> Value:
    """Take an axis of size 1 away."""
    del builder
    if dim is None:
        raise ValueError("squeeze() of every axis, maybe the batch; name the axis: x.squeeze(1)")
    axes = {value.axis(number) for number in ([dim] if isinstance(dim, int) else dim)}
    return value.with_torch_axes(axis for number, axis in enumerate(value.torch) if number not in axes or axis)


def channel_shuffle(builder: Builder, module: nn.ChannelShuffle, value: Value, /) -> Value:
    """Take an `nn.ChannelShuffle`."""
    grouped = unflatten(builder, value, 1, (module.groups, -1))
    return flatten(builder, transpose(builder, grouped, 1, 2), 1, 2)


def size(builder: Builder, value: Value, /, dim: int | None = None) -> torch.Size | int:
    """Return the shape, with a batch of 1."""
    del builder
    shape = torch.Size((1, *value.shape))
    return shape if dim is None else shape[dim]


def attribute(builder: Builder, value: Value, name: str, /) -> torch.Size | int:
    """Return ``value.shape`` or ``value.ndim``."""
    if name not in {"shape", "ndim"}:
        raise ValueError(f"the attribute {name} of a value; known are shape and ndim")
    return size(builder, value) if name == "shape" else len(value.torch) + 1


def flatten_module(builder: Builder, module: nn.Flatten, value: Value, /) -> Value:
    """Take an `nn.Flatten`."""
    return flatten(builder, value, module.start_dim, module.end_dim)


def unflatten_module(builder: Builder, module: nn.Unflatten, value: Value, /) -> Value:
    """Take an `nn.Unflatten`."""
    if not isinstance(module.dim, int):
        raise ValueError("an Unflatten of a named axis; give its number")  # noqa: TRY004
    return unflatten(builder, value, module.dim, [int(size) for size in module.unflattened_size])


def _listed(numbers: Sequence[int | Sequence[int]]) -> list[int]:
    """Return the numbers that torch takes one by one or in one sequence."""
    entries: list[int] = []
    for entry in numbers:
        entries += [entry] if isinstance(entry, int) else entry
    return entries


Entry = Index | EllipsisType | None


def part(builder: Builder, value: Value, index: object, /) -> Value:
    """Take ``value[index]``: the whole batch, whole numbers, slices of a positive step, ``...`` and None."""
    entries = _expanded(index, len(value.torch))
    indices = [entry for entry in entries if entry is not None]
    result = _sliced(builder, value, indices)
    kept = iter(result.torch)
    axes: list[Factors] = []
    for entry in entries:
        if entry is None:
            axes.append(())
        elif not isinstance(entry, int):
            axes.append(next(kept))
    return result.with_torch_axes((*axes, *kept))


def narrow(builder: Builder, value: Value, /, dim: int, start: int, length: int) -> Value:
    """Take ``length`` positions of an axis."""
    return _along(builder, value, dim, slice(start, start + length))


def select(builder: Builder, value: Value, /, dim: int, index: int) -> Value:
    """Take one position of an axis."""
    return _along(builder, value, dim, index)


def split(
    builder: Builder, value: Value, /, split_size_or_sections: int | Sequence[int], dim: int = 0
) -> tuple[Value, ...]:
    """Take parts of a size, or of several sizes, along an axis."""
    size = value.shape[value.axis(dim)]
    sizes = split_size_or_sections
    if isinstance(sizes, int):
        sizes = [min(sizes, size - start) for start in range(0, size, sizes)]
    if sum(sizes) != size:
        raise ValueError(f"parts of {list(sizes)} of an axis of {size}")
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return tuple(narrow(builder, value, dim, start, length) for start, length in zip(starts, sizes, strict=True))


def chunk(builder: Builder, value: Value, /, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    """Take an axis in so many parts of one size, the last one smaller where it must be."""
    return split(builder, value, -(-value.shape[value.axis(dim)] // chunks), dim)


def unbind(builder: Builder, value: Value, /, dim: int = 0) -> tuple[Value, ...]:
    """Take every position of an axis by itself."""
    return tuple(_along(builder, value, dim, position) for position in range(value.shape[value.axis(dim)]))


def _along(builder: Builder, value: Value, dim: int, index: Index) -> Value:
    return _sliced(builder, value, [slice(None)] * value.axis(dim) + [index])


def _expanded(index: object, rank: int) -> list[Index | None]:
    """Return an index without the batch and without ``...``."""
    entries = index if isinstance(index, tuple) else (index,)
    if not all(map(_known, entries)):
        raise ValueError(f"the index {index}; take whole numbers and slices of a positive step")
    given = sum(entry is not None and entry is not ... for entry in entries)
    if ... in entries:
        place = entries.index(...)
        entries = (*entries[:place], *[slice(None)] * (rank + 1 - given), *entries[place + 1 :])
    if entries[:1] != (slice(None),):
        raise ValueError(f"the index {index}; take the whole batch: x[:, ...]")
    if len([entry for entry in entries if entry is not None]) > rank + 1:
        raise ValueError(f"{given} indices into a value of {rank + 1} axes")
    return list(entries[1:])


def _known(entry: object) -> bool:
    """Tell whether an index is a whole number, a slice forwards, ``...`` or None."""
    if isinstance(entry, slice):
        bounds = (entry.start, entry.stop, entry.step)
        whole = all(bound is None or isinstance(bound, int) for bound in bounds)
        return whole and (entry.step is None or entry.step > 0)
    return isinstance(entry, int) or entry is None or entry is ...


def _sliced(builder: Builder, value: Value, indices: Sequence[Index]) -> Value:
    """Return a part, given by torch's axes from the first on."""
    by_axis = dict(enumerate(indices))
    kept = [_kept(size, by_axis.get(number, slice(None))) for number, size in enumerate(value.shape)]
    if all(axis == size for axis, size in zip(kept, value.shape, strict=True)):
        return value
    source = builder.natural(value)
    order = numbers(source)
    axes = {
        number: source.torch[number] if size == source.shape[number] else new_axis(size)
        for number, size in enumerate(kept)
        if size is not None
    }
    return builder.emit(
        Slice(tuple(by_axis.get(number, slice(None)) for number in order)),
        [source],
        tuple(axes.values()),
        tuple(axes[number] for number in order if number in axes),
    )


def _kept(size: int, index: Index) -> int | None:
    """Return the positions that an index keeps of an axis, None where it drops the axis."""
    if isinstance(index, slice):
        return len(range(*index.indices(size)))
    return None


FILLS: dict[float, Fill] = {0.0: "zero", -math.inf: "lowest"}


def cat(builder: Builder, values: Sequence[Value], /, dim: int = 0) -> Value:
    """Take values side by side, stored in the order that most of them are stored in."""
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


def stack(builder: Builder, values: Sequence[Value], /, dim: int = 0) -> Value:
    """Take values side by side along a new axis."""
    rank = len(values[0].torch) + 2
    place = dim % rank - 1
    if place < 0:
        raise ValueError("a stack in front of the batch; stack behind it: torch.stack(values, 1)")
    wider = [value.with_torch_axes((*value.torch[:place], (), *value.torch[place:])) for value in values]
    return cat(builder, wider, place + 1)


def pad(
    builder: Builder,
    image: Value,
    /,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Value:
    """Take constant rows around a value; ``pad`` counts from the last axis."""
    fill = FILLS.get(value or 0.0)
    if mode != "constant" or fill is None:
        raise ValueError(f"padding with mode = {mode!r}, value = {value}; pad with zeros")
    sides = [(0, 0)] * (len(image.torch) - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    if len(sides) > len(image.torch):
        raise ValueError("padding of the batch; pad each sample")
    source = builder.natural(image)
    order = numbers(source)
    axes = [
        new_axis(size + sum(side)) if any(side) else axis
        for axis, size, side in zip(source.torch, source.shape, sides, strict=True)
    ]
    operator = Pad(tuple(sides[number] for number in order), fill)
    return builder.emit(operator, [source], tuple(axes), tuple(axes[number] for number in order))


def pad_module(builder: Builder, module: nn.ZeroPad2d | nn.ConstantPad2d, image: Value, /) -> Value:
    """Take an `nn.ZeroPad2d` or `nn.ConstantPad2d`."""
    return pad(builder, image, module.padding, value=module.value)


TRANSLATORS = Translators(
    functions={
        getattr: attribute,
        "size": size,
        "dim": lambda builder, value: attribute(builder, value, "ndim"),
        **dict.fromkeys((torch.reshape, "reshape", "view"), reshape),
        **dict.fromkeys((torch.flatten, "flatten"), flatten),
        **dict.fromkeys((torch.unflatten, "unflatten"), unflatten),
        **dict.fromkeys((torch.permute, "permute"), permute),
        **dict.fromkeys((torch.transpose, torch.swapaxes, "transpose", "swapaxes"), transpose),
        **dict.fromkeys((torch.unsqueeze, "unsqueeze"), unsqueeze),
        **dict.fromkeys((torch.squeeze, "squeeze"), squeeze),
        operator.getitem: part,
        **dict.fromkeys((torch.narrow, "narrow"), narrow),
        **dict.fromkeys((torch.select, "select"), select),
        **dict.fromkeys((torch.split, "split"), split),
        **dict.fromkeys((torch.chunk, "chunk"), chunk),
        **dict.fromkeys((torch.unbind, "unbind"), unbind),
        **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), cat),
        torch.stack: stack,
        F.pad: pad,
    },
    modules={
        nn.Flatten: flatten_module,
        nn.Unflatten: unflatten_module,
        nn.ChannelShuffle: channel_shuffle,
        **dict.fromkeys((nn.ZeroPad2d, nn.ConstantPad2d), pad_module),
    },
)
