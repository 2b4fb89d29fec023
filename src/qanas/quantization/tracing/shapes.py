"""What torch does to shapes: no operator, but another way to see the stored numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import nn

from qanas.quantization.tracing.builder import Builder
from qanas.quantization.tracing.translators import FunctionTranslators, ModuleTranslators
from qanas.quantization.tracing.values import Value


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


FUNCTIONS: FunctionTranslators = {
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
}
MODULES: ModuleTranslators = {
    nn.Flatten: flatten_module,
    nn.Unflatten: unflatten_module,
    nn.ChannelShuffle: channel_shuffle,
}
