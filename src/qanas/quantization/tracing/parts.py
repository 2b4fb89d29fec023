"""Parts of values: by indices, in parts of a size, and position by position."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

import torch
from torch import Tensor

from qanas.quantization.operators.shapes import Index, Slice
from qanas.quantization.tracing.builder import Builder, Translators, numbers
from qanas.quantization.tracing.values import Factors, Value, new_axis

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
    return along(builder, value, dim, slice(start, start + length))


def select(builder: Builder, value: Value, /, dim: int, index: int) -> Value:
    """Take one position of an axis."""
    return along(builder, value, dim, index)


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
    return tuple(along(builder, value, dim, position) for position in range(value.shape[value.axis(dim)]))


def along(builder: Builder, value: Value, dim: int, index: Index) -> Value:
    """Return positions of an axis, or one, whose axis goes."""
    return _sliced(builder, value, [slice(None)] * value.axis(dim) + [index])


def _expanded(index: object, rank: int) -> list[Index | None]:
    """Return an index without the batch and without ``...``."""
    entries = index if isinstance(index, tuple) else (index,)
    if not all(map(_known, entries)):
        raise ValueError(f"the index {told(index)}; take whole numbers and slices of a positive step")
    given = sum(entry is not None and entry is not ... for entry in entries)
    if ... in entries:
        place = entries.index(...)
        entries = (*entries[:place], *[slice(None)] * (rank + 1 - given), *entries[place + 1 :])
    if entries[:1] != (slice(None),):
        raise ValueError(f"the index {told(index)}; take the whole batch: x[:, ...]")
    if len([entry for entry in entries if entry is not None]) > rank + 1:
        raise ValueError(f"{given} indices into a value of {rank + 1} axes")
    return list(entries[1:])


def told(index: object) -> str:
    """Return an index as code has it, tensors by their shape alone.

    >>> told((slice(None), ..., slice(0, None, 2), None, torch.zeros(3, 2), 5))
    '[:, ..., 0::2, None, a tensor of shape (3, 2), 5]'
    """
    return f"[{', '.join(map(_entry_told, index if isinstance(index, tuple) else (index,)))}]"


def _entry_told(entry: object) -> str:
    if isinstance(entry, Tensor):
        return f"a tensor of shape {tuple(entry.shape)}"
    if isinstance(entry, slice):
        bounds = [entry.start, entry.stop, entry.step]
        return ":".join("" if bound is None else str(bound) for bound in bounds[: 2 + (entry.step is not None)])
    return "..." if entry is ... else " ".join(str(entry).split())[:80]


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


TRANSLATORS = Translators(
    functions={
        **dict.fromkeys((torch.narrow, "narrow"), narrow),
        **dict.fromkeys((torch.select, "select"), select),
        **dict.fromkeys((torch.split, "split"), split),
        **dict.fromkeys((torch.chunk, "chunk"), chunk),
        **dict.fromkeys((torch.unbind, "unbind"), unbind),
    },
    modules={},
)
