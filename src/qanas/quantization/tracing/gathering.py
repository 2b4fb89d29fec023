"""Positions of an axis by lists, windows along an axis, and running sums."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.quantization.tracing.builder import Builder, Sizes, Translators, pair
from qanas.quantization.tracing.joining import cat, stacked
from qanas.quantization.tracing.layers import conv2d, linear
from qanas.quantization.tracing.parts import along, part, split, told
from qanas.quantization.tracing.pointwise import Operand, multiply, subtract
from qanas.quantization.tracing.shapes import flatten, flip, permute, reshape, transpose, unflatten
from qanas.quantization.tracing.values import Value

MOST_PARTS = 64
"""Pieces that a list of positions is put together of."""


def indexed(builder: Builder, value: Value, index: object, /) -> Value:
    """Take ``value[index]``, where one axis may have a list of positions, the same for all samples."""
    entries = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(entry, Value) for entry in entries):
        raise ValueError("an index that depends on the input; multiply by a mask, or choose by torch.where")
    lists = [place for place, entry in enumerate(entries) if _is_list(entry)]
    if not lists:
        return part(builder, value, index)
    if lists == [lists[0], lists[0] + 1] and all(isinstance(entry, slice) for entry in entries[: lists[0]]):
        return _pairs(builder, value, entries, lists[0])
    if len(lists) > 1 or lists[0] == 0 or any(isinstance(entry, int) for entry in entries):
        raise ValueError(f"the index {told(index)}; take a list of positions of one axis, and no number beside it")
    (place,) = lists
    positions = entries[place]
    entries[place] = slice(None)
    found = part(builder, value, tuple(entries))
    behind = sum(entry is not None for entry in entries[place + 1 :])
    ellipsis = ... in entries[:place]
    return index_select(builder, found, len(found.torch) - behind if ellipsis else place, torch.as_tensor(positions))


def _is_list(entry: object) -> bool:
    if isinstance(entry, Tensor):
        return entry.ndim == 1 or (entry.ndim == 0 and entry.dtype == torch.bool)
    return isinstance(entry, list)


def _pairs(builder: Builder, value: Value, entries: Sequence[Any], place: int) -> Value:
    """Return positions of two axes by lists of rows and columns, as `torch.triu_indices` gives them: of both as one."""
    rows, columns = (torch.as_tensor(entry).detach() for entry in entries[place : place + 2])
    behind = entries[place + 2 :]
    if (
        place == 0
        or rows.dtype == torch.bool
        or len(rows) != len(columns)
        or any(isinstance(one, int) for one in behind)
    ):
        raise ValueError(
            f"the index {told(tuple(entries))}; take lists of rows and columns behind the batch, alike long"
        )
    found = part(builder, value, (*entries[:place], slice(None), slice(None), *behind))
    high, wide = found.shape[place - 1 : place + 1]
    if any(bool(((one < -size) | (one >= size)).any()) for one, size in ((rows, high), (columns, wide))):
        raise ValueError(f"the index {told(tuple(entries))} of axes of {high} and {wide}")
    return index_select(builder, flatten(builder, found, place, place + 1), place, rows % high * wide + columns % wide)


def index_select(builder: Builder, value: Value, /, dim: int, index: Tensor) -> Value:
    """Take positions of an axis in the order of a list, runs of equal steps as a slice each."""
    size = value.shape[value.axis(dim)]
    wanted = index.detach()
    if wanted.dtype == torch.bool:
        wanted = wanted.nonzero().flatten()
    positions = [int(place) % size if -size <= int(place) < size else size for place in wanted]
    if not positions or max(positions) >= size:
        reach = f"{int(wanted.min())} to {int(wanted.max())}" if positions else "that are none"
        raise ValueError(f"positions {reach} of an axis of {size}")
    runs = _runs(positions)
    if len(runs) > MOST_PARTS:
        raise ValueError(f"{len(positions)} positions of an axis in {len(runs)} pieces; {MOST_PARTS} are put together")
    return cat(builder, [_run(builder, value, dim, run) for run in runs], value.axis(dim) + 1)


def _runs(positions: Sequence[int]) -> list[list[int]]:
    """Return pieces in which positions follow in equal steps.

    >>> _runs([4, 2, 0, 1, 2, 3, 3])
    [[4, 2, 0], [1, 2, 3], [3]]
    """
    runs: list[list[int]] = []
    for position in positions:
        last = runs[-1] if runs else []
        step = position - last[-1] if last else 0
        if step and (len(last) == 1 or (len(last) > 1 and last[-1] - last[-2] == step)):
            last.append(position)
        else:
            runs.append([position])
    return runs


def _run(builder: Builder, value: Value, dim: int, run: Sequence[int]) -> Value:
    step = run[1] - run[0] if len(run) > 1 else 1
    if step > 0:
        return along(builder, value, dim, slice(run[0], run[-1] + 1, step))
    return flip(builder, along(builder, value, dim, slice(run[-1], run[0] + 1, -step)), dim)


def tensor_split(
    builder: Builder, value: Value, /, indices_or_sections: int | Sequence[int] | Tensor, dim: int = 0
) -> tuple[Value, ...]:
    """Take so many parts of an axis, the first ones larger by one where it must be, or parts between positions."""
    size = value.shape[value.axis(dim)]
    if isinstance(indices_or_sections, int):
        least, more = divmod(size, indices_or_sections)
        sizes = [least + (number < more) for number in range(indices_or_sections)]
    else:
        borders = [0, *(int(place) for place in indices_or_sections), size]
        sizes = [after - before for before, after in pairwise(borders)]
    return split(builder, value, sizes, dim)


def cumsum(builder: Builder, value: Value, /, dim: int, *, dtype: object = None) -> Value:
    """Take running sums along an axis: a linear layer of ones below the diagonal."""
    del dtype
    size = value.shape[value.axis(dim)]
    found = linear(builder, transpose(builder, value, dim, -1), torch.ones(size, size).tril())
    return transpose(builder, found, dim, -1)


def triangle(lower: bool) -> Callable[..., Value]:
    """Return the translator of what keeps the lower or upper triangle of the last two axes."""

    def translate(builder: Builder, value: Value, /, diagonal: int = 0) -> Value:
        ones = torch.ones(value.shape[-2:])
        return multiply(builder, value, ones.tril(diagonal) if lower else ones.triu(diagonal))

    return translate


def diff(
    builder: Builder,
    value: Value,
    /,
    n: int = 1,
    dim: int = -1,
    prepend: Operand | None = None,
    append: Operand | None = None,
) -> Value:
    """Take differences of neighbours along an axis, ``n`` times."""
    parts = [part for part in (prepend, value, append) if isinstance(part, Value | Tensor)]
    value = cat(builder, parts, dim)
    for _ in range(n):
        behind, before = (along(builder, value, dim, kept) for kept in (slice(1, None), slice(0, -1)))
        value = subtract(builder, behind, before)
    return value


def gather(builder: Builder, value: Value, /, dim: int, index: Operand, *, sparse_grad: bool = False) -> Value:
    """Take positions of an axis that are the same ones wherever it is taken."""
    del sparse_grad
    if not isinstance(index, Tensor):
        raise ValueError("gather at positions that depend on the input; take constant ones")  # noqa: TRY004
    number = value.axis(dim)
    sizes = [size for place, size in enumerate(index.shape[1:]) if place != number]
    places = index.detach().movedim(number + 1, 0).flatten(1)
    wanted = [size for place, size in enumerate(value.shape) if place != number]
    if sizes != wanted or bool((places != places[:, :1]).any()):
        raise ValueError("gather at positions that differ along other axes; take the same ones: index_select")
    return index_select(builder, value, dim, places[:, 0])


def windows(builder: Builder, value: Value, /, dimension: int, size: int, step: int) -> Value:
    """Take `Tensor.unfold`: windows along an axis, their positions as a last axis."""
    number = value.axis(dimension)
    count = (value.shape[number] - size) // step + 1
    if size > MOST_PARTS or count < 1:
        raise ValueError(f"{count} windows of {size} positions; {MOST_PARTS} of them are put together at most")
    parts = [along(builder, value, number + 1, slice(tap, tap + (count - 1) * step + 1, step)) for tap in range(size)]
    return stacked(builder, parts, -1)


def unfold(
    builder: Builder,
    value: Value,
    /,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> Value:
    """Take `F.unfold`: what is in each window as channels, by a convolution of ones and zeros."""
    taps = pair(kernel_size)
    count = taps[0] * taps[1]
    channels = value.shape[0]
    weight = torch.eye(count).reshape(count, 1, *taps).repeat(channels, 1, 1, 1)
    found = conv2d(builder, value, weight, None, stride, padding, dilation, channels)
    return flatten(builder, found, 2)


def fold(
    builder: Builder,
    value: Value,
    /,
    output_size: Sizes,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> Value:
    """Take `F.fold` of windows that neither overlap nor leave a gap: blocks of pixels side by side."""
    (rows, columns), (high, wide) = pair(output_size), pair(kernel_size)
    if pair(stride) != (high, wide) or pair(padding) != (0, 0) or pair(dilation) != (1, 1):
        raise ValueError("a fold of windows that overlap, or with padding; take a transposed convolution")
    blocks = unflatten(builder, unflatten(builder, value, 2, (rows // high, columns // wide)), 1, (-1, high, wide))
    return reshape(builder, permute(builder, blocks, (0, 1, 4, 2, 5, 3)), 1, -1, rows, columns)


TRANSLATORS = Translators(
    functions={
        operator.getitem: indexed,
        **dict.fromkeys((torch.index_select, "index_select"), index_select),
        **dict.fromkeys((torch.tensor_split, "tensor_split"), tensor_split),
        **dict.fromkeys((torch.cumsum, "cumsum"), cumsum),
        **dict.fromkeys((torch.diff, "diff"), diff),
        **dict.fromkeys((torch.tril, "tril"), triangle(lower=True)),
        **dict.fromkeys((torch.triu, "triu"), triangle(lower=False)),
        **dict.fromkeys((torch.gather, "gather"), gather),
        "unfold": windows,
        F.unfold: unfold,
        F.fold: fold,
    },
    modules={
        nn.Unfold: lambda builder, module, value: unfold(
            builder, value, module.kernel_size, module.dilation, module.padding, module.stride
        ),
        nn.Fold: lambda builder, module, value: fold(
            builder, value, module.output_size, module.kernel_size, module.dilation, module.padding, module.stride
        ),
    },
)
