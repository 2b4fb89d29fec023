"""What torch does to shapes and axes: most of it is no operator, but another way to see the stored numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.quantization.operators.moves import DepthToSpace, Repeat, Reverse, SpaceToDepth
from qanas.quantization.tracing.builder import Builder, Translator, Translators, numbers
from qanas.quantization.tracing.values import Value, new_axis, size_of


def reshape(builder: Builder, value: Value, /, *shape: int | Sequence[int]) -> Value:
    """Take a reshape; what is no longer in an axis of its own is beside the batch."""
    sizes = listed(shape)
    numbers = prod(value.whole_shape)
    if not sizes:
        raise ValueError("a reshape to no axis at all; keep the batch in front: x.reshape(len(x), ...)")
    if -1 in sizes:
        rest = prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = numbers // rest if rest > 0 else 0
    if value.batch or value.inner:
        return _reshaped_around(builder, value, sizes)
    if sizes[0] == 1 and not value.beside:
        return builder.reshaped(value, tuple(sizes[1:]))
    return builder.reshaped(value.apart, tuple(sizes)).joined


def _reshaped_around(builder: Builder, value: Value, sizes: list[int]) -> Value:
    """Return a reshape of a value with axes in front of the batch, which stay there or are joined to it."""
    if value.batch and value.beside:
        raise ValueError(f"a reshape of a value of shape {value.whole_shape}; put the batch in front before it")
    axes = (value.beside, *value.torch) if value.inner else value.torch
    border = 1 if value.inner else value.batch
    front, behind = prod(map(size_of, axes[:border])), prod(map(size_of, axes[border:]))
    places = [
        place
        for place, size in enumerate(sizes)
        if size == 1 and prod(sizes[:place]) == front and prod(sizes[place + 1 :]) == behind
    ]
    alone = Value(value.name, axes, value.stored)
    if places:  # axes of size 1 can't be told from the batch; most often as many are in front of it as before
        place = border if border in places else places[0]
        return replace(builder.reshaped(alone, (*sizes[:place], *sizes[place + 1 :])), batch=place)
    if sizes[0] == front and prod(sizes[1:]) == behind:
        return replace(builder.reshaped(alone, tuple(sizes)).joined, inner=True)
    raise ValueError(
        f"a reshape from {value.whole_shape}, with the batch as axis {value.batch}, to {tuple(sizes)}; put the batch "
        "in front before it"
    )


def flatten(builder: Builder, value: Value, /, start_dim: int = 0, end_dim: int = -1) -> Value:
    """Take several axes as one."""
    rank = len(value.torch) + 1
    if start_dim % rank == 0:
        shape = value.whole_shape
        last = end_dim % rank
        return reshape(builder, value, prod(shape[: last + 1]), *shape[last + 1 :])
    first, last = value.axis(start_dim), value.axis(end_dim)
    if start_dim % rank < value.batch < end_dim % rank:
        raise ValueError(f"a flatten over the batch, which is axis {value.batch}; put the batch in front before it")
    joined = tuple(factor for axis in value.torch[first : last + 1] for factor in axis)
    return value.with_torch_axes((*value.torch[:first], joined, *value.torch[last + 1 :]))


def unflatten(builder: Builder, value: Value, /, dim: int, sizes: Sequence[int]) -> Value:
    """Take one axis as several."""
    shape = value.whole_shape
    place = dim % len(shape)
    parts = list(sizes)
    if -1 in parts:
        parts[parts.index(-1)] = shape[place] // -prod(parts)
    return reshape(builder, value, *shape[:place], *parts, *shape[place + 1 :])


def permute(builder: Builder, value: Value, /, *dims: int | Sequence[int]) -> Value:
    """Take the axes in another order; the batch stays in front."""
    del builder
    order = listed(dims)
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


def move_axes(
    builder: Builder, value: Value, /, source: int | Sequence[int], destination: int | Sequence[int]
) -> Value:
    """Take some axes to other places, the others in between in their order."""
    rank = len(value.torch) + 1
    moved = [number % rank for number in listed([source])]
    places = [number % rank for number in listed([destination])]
    rest = iter(number for number in range(rank) if number not in moved)
    by_place = dict(zip(places, moved, strict=True))
    return permute(builder, value, [by_place[place] if place in by_place else next(rest) for place in range(rank)])


def expand(builder: Builder, value: Value, /, *sizes: int | Sequence[int]) -> Value:
    """Take axes of size 1 repeated, and new ones in front, maybe of the batch; -1 is for a size that stays."""
    wanted = listed(sizes)
    rank = len(value.torch) + 1
    more = len(wanted) - rank
    place = more + value.batch
    if more < 0 or wanted[place] not in (-1, 1):
        raise ValueError(f"a value of {rank} axes expanded to {tuple(wanted)}; the batch stays, and so do all axes")
    alone = Value(value.name, (*((),) * more, *value.torch), value.stored)
    shape = [
        size if own == -1 else own for own, size in zip(wanted[:place] + wanted[place + 1 :], alone.shape, strict=True)
    ]
    return replace(repeated(builder, alone, shape), batch=place)


def expand_as(builder: Builder, value: Value, other: Value, /) -> Value:
    """Take axes of size 1 repeated as often as in another value."""
    return repeated(builder, value, other.shape)


def repeated(builder: Builder, value: Value, shape: Sequence[int]) -> Value:
    """Return a value whose axes of size 1 are repeated to a torch shape."""
    if tuple(shape) == value.shape:
        return value
    source = builder.natural(value)
    order = numbers(source)
    axes = [
        axis if size == wanted else new_axis(wanted)
        for axis, size, wanted in zip(source.torch, source.shape, shape, strict=True)
    ]
    repeat = Repeat(tuple(shape[number] for number in order))
    return builder.emit(repeat, [source], tuple(axes), tuple(axes[number] for number in order))


def repeat(builder: Builder, value: Value, /, *times: int | Sequence[int]) -> Value:
    """Take a value several times side by side along its axes."""
    counts = listed(times)
    if len(counts) != len(value.torch) + 1 or counts[0] != 1:
        raise ValueError(f"a value of {len(value.torch) + 1} axes repeated {tuple(counts)} times; the batch stays")
    for number, count in enumerate(counts[1:]):
        value = _several(builder, value, number, count, behind=False)
    return value


def repeat_interleave(builder: Builder, value: Value, /, repeats: int, dim: int | None = None) -> Value:
    """Take every position of an axis several times."""
    if dim is None or not isinstance(repeats, int):
        raise ValueError("repeat_interleave without a number and an axis; name both: x.repeat_interleave(2, dim=1)")
    if dim % (len(value.torch) + 1) == 0:  # what is repeated is joined to the batch, behind each sample
        wider = value.with_torch_axes(((), *value.torch))
        return repeated(builder, wider, (repeats, *value.shape)).joined
    return _several(builder, value, value.axis(dim), repeats, behind=True)


def _several(builder: Builder, value: Value, number: int, count: int, *, behind: bool) -> Value:
    """Return a value with an axis that counts its repetitions, in front of a torch axis or behind it, joined to it."""
    if count == 1:
        return value
    place = number + behind
    wider = value.with_torch_axes((*value.torch[:place], (), *value.torch[place:]))
    sizes = [*value.shape[:place], count, *value.shape[place:]]
    return flatten(builder, repeated(builder, wider, sizes), number + 1, number + 2)


def flip(builder: Builder, value: Value, /, *dims: int | Sequence[int]) -> Value:
    """Take axes in the opposite order."""
    for dim in listed(dims):
        number = value.axis(dim)
        source = builder.natural(value)
        place = numbers(source).index(number)
        fresh = new_axis(source.shape[number])
        axes = (*source.torch[:number], fresh, *source.torch[number + 1 :])
        stored = (*source.stored[:place], fresh, *source.stored[place + 1 :])
        value = builder.emit(Reverse(place), [source], axes, stored)
    return value


def pixel_shuffle(builder: Builder, value: Value, /, upscale_factor: int) -> Value:
    """Take channels as the pixels of blocks; those of a pixel are stored next to each other for it."""
    channels, rows, columns = value.shape
    block = upscale_factor
    parts = builder.reshaped(value, (channels // block**2, block, block, rows, columns))
    out, down, across, height, width = parts.torch
    source = builder.arranged(parts, (height, width, (*down, *across, *out)))
    axes = (out, (*height, *down), (*width, *across))
    return builder.emit(DepthToSpace(block), [source], axes, (*axes[1:], out))


def pixel_unshuffle(builder: Builder, value: Value, /, downscale_factor: int) -> Value:
    """Take the pixels of blocks as channels; they are stored pixel by pixel."""
    channels, rows, columns = value.shape
    block = downscale_factor
    parts = builder.reshaped(value, (channels, rows // block, block, columns // block, block))
    inner, height, down, width, across = parts.torch
    source = builder.arranged(parts, ((*height, *down), (*width, *across), inner))
    axes = ((*inner, *down, *across), height, width)
    return builder.emit(SpaceToDepth(block), [source], axes, (*axes[1:], (*down, *across, *inner)))


def filled(fill: float) -> Callable[..., Tensor]:
    """Return the translator of a constant of a value's shape, with a batch of 1."""

    def translate(builder: Builder, value: Value, /, **settings: Any) -> Tensor:  # noqa: ANN401 - dtype and the like
        del builder, settings
        return torch.full((1, *value.shape), fill)

    return translate


def full_like(builder: Builder, value: Value, /, fill_value: float, **settings: Any) -> Tensor:  # noqa: ANN401
    """Return a constant of a value's shape, with a batch of 1."""
    return filled(fill_value)(builder, value, **settings)


def new_filled(fill: float) -> Callable[..., Tensor]:
    """Return the translator of a constant of any shape."""

    def translate(builder: Builder, value: Value, /, *sizes: int | Sequence[int], **settings: Any) -> Tensor:  # noqa: ANN401
        del builder, value
        return torch.full(tuple(settings["size"] if "size" in settings else listed(sizes)), fill)

    return translate


def unsqueeze(builder: Builder, value: Value, /, dim: int) -> Value:
    """Take a further axis of size 1."""
    del builder
    rank = len(value.torch) + 2
    if not -rank <= dim < rank or dim % rank == 0:
        raise ValueError(f"a new axis at {dim} of a value of {rank - 1} axes; the batch stays in front")
    axis = dim % rank - 1
    return value.with_torch_axes((*value.torch[:axis], (), *value.torch[axis:]))


def squeeze(builder: Builder, value: Value, /, dim: int | Sequence[int] | None = None) -> Value:
    """Take axes of size 1 away; where none is named all of them, but for the batch, which is of several samples."""
    del builder
    if dim is None:
        return value.with_torch_axes(axis for axis in value.torch if axis)
    axes = {value.axis(number) for number in ([dim] if isinstance(dim, int) else dim)}
    return value.with_torch_axes(axis for number, axis in enumerate(value.torch) if number not in axes or axis)


def shuffled(builder: Builder, value: Value, /, groups: int) -> Value:
    """Take the channels of groups in turns."""
    grouped = unflatten(builder, value, 1, (groups, -1))
    return flatten(builder, transpose(builder, grouped, 1, 2), 1, 2)


def size(builder: Builder, value: Value, /, dim: int | None = None) -> torch.Size | int:
    """Return the shape, with a batch of 1."""
    del builder
    shape = torch.Size((1, *value.shape))
    return shape if dim is None else shape[dim]


def attribute(builder: Builder, value: Value, name: str, /) -> Any:  # noqa: ANN401 - whatever it is
    """Return ``value.shape`` or ``value.ndim``, or what else a tensor says of itself."""
    if not isinstance(value, Value):  # several of them, with names
        return getattr(value, name)
    known = {"device": torch.device("cpu"), "dtype": torch.float32, "requires_grad": False, "is_cuda": False}
    if name in known:
        return known[name]
    if name == "mT":
        return transpose(builder, value, -2, -1)
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


def listed(numbers: Sequence[int | Sequence[int]]) -> list[int]:
    """Return the numbers that torch takes one by one or in one sequence."""
    entries: list[int] = []
    for entry in numbers:
        entries += [entry] if isinstance(entry, int) else entry
    return entries


def as_row(translate: Translator) -> Callable[..., Value]:
    """Return the translator of what goes over time for one over images of a row."""

    def translated(builder: Builder, value: Value, /, *arguments: Any, **settings: Any) -> Value:  # noqa: ANN401
        if len(value.torch) != 2:  # noqa: PLR2004 - channels, time
            raise ValueError(f"a pool over time got {value.shape}; it takes (channels, time)")
        channels, time = value.torch
        image: Value = replace(value, torch=(channels, value.beside, time), beside=())
        channels, rows, time = (image := translate(builder, image, *arguments, **settings)).torch
        return replace(image, torch=(channels, time), beside=rows)

    return translated


TRANSLATORS = Translators(
    functions={
        getattr: attribute,
        "size": size,
        **dict.fromkeys(("dim", "ndimension"), lambda builder, value: attribute(builder, value, "ndim")),
        **dict.fromkeys((torch.reshape, "reshape", "view"), reshape),
        **dict.fromkeys(
            ("reshape_as", "view_as"), lambda builder, value, other: reshape(builder, value, other.whole_shape)
        ),
        **dict.fromkeys((torch.ravel, "ravel"), lambda builder, value: reshape(builder, value, -1)),
        **dict.fromkeys((torch.flatten, "flatten"), flatten),
        **dict.fromkeys((torch.unflatten, "unflatten"), unflatten),
        **dict.fromkeys((torch.permute, "permute"), permute),
        **dict.fromkeys(
            (torch.transpose, torch.swapaxes, torch.swapdims, "transpose", "swapaxes", "swapdims"), transpose
        ),
        **dict.fromkeys((torch.movedim, torch.moveaxis, "movedim", "moveaxis"), move_axes),
        **dict.fromkeys((torch.unsqueeze, "unsqueeze", "unsqueeze_"), unsqueeze),
        **dict.fromkeys((torch.squeeze, "squeeze", "squeeze_"), squeeze),
        **dict.fromkeys((torch.broadcast_to, "expand", "broadcast_to"), expand),
        "expand_as": expand_as,
        **dict.fromkeys((torch.tile, "repeat", "tile"), repeat),
        **dict.fromkeys((torch.repeat_interleave, "repeat_interleave"), repeat_interleave),
        **dict.fromkeys((torch.flip, "flip"), flip),
        **dict.fromkeys((torch.fliplr, "fliplr"), lambda builder, value: flip(builder, value, 1)),
        **dict.fromkeys((torch.flipud, "flipud"), lambda builder, value: flip(builder, value, 0)),
        F.pixel_shuffle: pixel_shuffle,
        F.pixel_unshuffle: pixel_unshuffle,
        **dict.fromkeys((torch.channel_shuffle, F.channel_shuffle), shuffled),
        torch.zeros_like: filled(0.0),
        torch.ones_like: filled(1.0),
        torch.full_like: full_like,
        "new_zeros": new_filled(0.0),
        "new_ones": new_filled(1.0),
    },
    modules={
        nn.Flatten: flatten_module,
        nn.Unflatten: unflatten_module,
        nn.ChannelShuffle: lambda builder, module, value: shuffled(builder, value, module.groups),
        nn.PixelShuffle: lambda builder, module, value: pixel_shuffle(builder, value, module.upscale_factor),
        nn.PixelUnshuffle: lambda builder, module, value: pixel_unshuffle(builder, value, module.downscale_factor),
    },
)
