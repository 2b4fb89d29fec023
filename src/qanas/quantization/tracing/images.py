"""Pools, means, and other sizes of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn

from qanas.layers.images import SameAvgPool2d, SameMaxPool2d, same_padding
from qanas.quantization.operators.reductions import Mean
from qanas.quantization.operators.resize import ResizeBilinear, ResizeNearest
from qanas.quantization.operators.windows import AveragePool, MaxPool, Pair, Window
from qanas.quantization.tracing.builder import Builder, Sizes, Translators, pair
from qanas.quantization.tracing.values import Factors, Value, new_axis, size_of


def max_pool2d(
    builder: Builder,
    value: Value,
    /,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    """Take the largest value of each window; padding is smaller than anything."""
    if pair(dilation) != (1, 1) or return_indices:
        raise ValueError("a max pool with dilation or indices; take one without")
    window = _window(kernel_size, stride or kernel_size, padding)
    if ceil_mode:
        window = _with_last_windows(window, _image(value))
    return _pooled(builder, value, MaxPool(window))


def avg_pool2d(
    builder: Builder,
    value: Value,
    /,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """Take the average of each window."""
    if ceil_mode or divisor_override is not None:
        raise ValueError("an average pool with ceil_mode or divisor_override; take one without")
    window = _window(kernel_size, stride or kernel_size, padding)
    return _pooled(builder, value, AveragePool(window, counts_padding=count_include_pad))


def max_pool2d_module(builder: Builder, module: nn.MaxPool2d, value: Value, /) -> Value:
    """Take an `nn.MaxPool2d`."""
    return max_pool2d(
        builder,
        value,
        module.kernel_size,
        module.stride,
        module.padding,
        module.dilation,
        module.ceil_mode,
        module.return_indices,
    )


def avg_pool2d_module(builder: Builder, module: nn.AvgPool2d, value: Value, /) -> Value:
    """Take an `nn.AvgPool2d`."""
    return avg_pool2d(
        builder,
        value,
        module.kernel_size,
        module.stride,
        module.padding,
        module.ceil_mode,
        module.count_include_pad,
        module.divisor_override,
    )


def same_pool(builder: Builder, module: SameMaxPool2d | SameAvgPool2d, value: Value, /) -> Value:
    """Take a pool that pads as the runtime's SAME does."""
    rows, columns = _image(value)
    size, stride = pair(module.kernel_size), pair(module.stride)
    sides = (same_padding(rows, size[0], stride[0]), same_padding(columns, size[1], stride[1]))
    window = Window(size, stride, sides)
    if isinstance(module, SameMaxPool2d):
        return _pooled(builder, value, MaxPool(window))
    return _pooled(builder, value, AveragePool(window, counts_padding=False))


def adaptive_avg_pool2d(builder: Builder, value: Value, /, output_size: Sizes) -> Value:
    """Take averages over as many windows as are wanted; they must divide the image."""
    size, wanted = _image(value), _wanted(value, output_size)
    if wanted == (1, 1):
        return mean(builder, value, (-2, -1), keepdim=True)
    return _pooled(builder, value, AveragePool(_dividing(size, wanted)))


def adaptive_max_pool2d(builder: Builder, value: Value, /, output_size: Sizes, return_indices: bool = False) -> Value:
    """Take the largest values of as many windows as are wanted; they must divide the image."""
    if return_indices:
        raise ValueError("a max pool with indices; take one without")
    return _pooled(builder, value, MaxPool(_dividing(_image(value), _wanted(value, output_size))))


def adaptive_module(builder: Builder, module: nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d, value: Value, /) -> Value:
    """Take an `nn.AdaptiveAvgPool2d` or `nn.AdaptiveMaxPool2d`."""
    pool = adaptive_avg_pool2d if isinstance(module, nn.AdaptiveAvgPool2d) else adaptive_max_pool2d
    return pool(builder, value, module.output_size)  # type: ignore[arg-type]  # a side may be None: as it is


def mean(builder: Builder, value: Value, /, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Value:
    """Take the mean over some axes."""
    if dim is None:
        raise ValueError("a mean over everything, the batch included; name the axes: x.mean((2, 3))")
    axes = {value.axis(number) for number in ([dim] if isinstance(dim, int) else dim)}
    kept = [axis for number, axis in enumerate(value.torch) if keepdim or number not in axes]
    factors = {factor for number in axes for factor in value.torch[number]}
    torch_axes = tuple(() if factors.intersection(axis) else axis for axis in kept)
    if not factors:
        return value.with_torch_axes(torch_axes)
    source = value
    if any(factors.intersection(axis) and not factors.issuperset(axis) for axis in value.stored):
        source = builder.natural(value)
    reduced = [number for number, axis in enumerate(source.stored) if factors.intersection(axis)]
    stored = [() if number in reduced else axis for number, axis in enumerate(source.stored)]
    if not keepdim:
        stored = [axis for number, axis in enumerate(stored) if number not in reduced]
    return builder.emit(Mean(tuple(reduced), keeps_axes=keepdim), [source], torch_axes, tuple(stored))


def _image(value: Value) -> Pair:
    """Return rows and columns."""
    if len(value.torch) != 3:  # noqa: PLR2004 - channels, rows, columns
        raise ValueError(f"a pool over images got {value.shape}; it takes (channels, rows, columns)")
    return size_of(value.torch[1]), size_of(value.torch[2])


def _window(kernel_size: Sizes, stride: Sizes, padding: Sizes) -> Window:
    rows, columns = pair(padding)
    return Window(pair(kernel_size), pair(stride), ((rows, rows), (columns, columns)))


def _with_last_windows(window: Window, image: Pair) -> Window:
    """Return the window of torch's ceil_mode: one that starts on the image or in front of it is never left out."""

    def sides(axis: int) -> Pair:
        (before, behind), size, stride = window.padding[axis], window.size[axis], window.stride[axis]
        count = -(-(image[axis] + before + behind - size) // stride) + 1
        if (count - 1) * stride >= image[axis] + before:
            count -= 1
        return before, max((count - 1) * stride + size - image[axis] - before, behind)

    return Window(window.size, window.stride, (sides(0), sides(1)))


def _wanted(value: Value, output_size: Sizes) -> Pair:
    """Return the wanted rows and columns; None is for those that are there."""
    size, wanted = _image(value), output_size if isinstance(output_size, int) else tuple(output_size)
    rows, columns = (wanted, wanted) if isinstance(wanted, int) else wanted
    return size[0] if rows is None else rows, size[1] if columns is None else columns


def _dividing(size: Pair, wanted: Pair) -> Window:
    if size[0] % wanted[0] or size[1] % wanted[1]:
        raise ValueError(f"an adaptive pool from {size} to {wanted}; the output's sizes must divide the input's")
    window = (size[0] // wanted[0], size[1] // wanted[1])
    return Window(window, window)


def _pooled(builder: Builder, value: Value, pool: MaxPool | AveragePool) -> Value:
    image = _image(value)
    channels, *sides = value.torch
    source, order = builder.last(value, sides, channels)
    rows, columns = map(new_axis, pool.window.positions((*image, size_of(channels))))
    image_axes: tuple[Factors, Factors] = (rows, columns)
    return builder.emit(pool, [source], (channels, *image_axes), (*image_axes, order))


Factor = float | tuple[float, ...] | None


def interpolate(
    builder: Builder,
    value: Value,
    /,
    size: Sizes | None = None,
    scale_factor: Factor = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Value:
    """Take a resize to the nearest pixels or between them."""
    del recompute_scale_factor
    if len(value.torch) != 3 or antialias:  # noqa: PLR2004 - channels, rows, columns
        raise ValueError(f"a resize of {value.shape}; it takes (channels, rows, columns), without antialias")
    channels, rows, columns = value.torch
    before = (size_of(rows), size_of(columns))
    wanted = pair(size) if size is not None else _scaled(before, scale_factor)
    if wanted == before:
        return value
    operators = {
        "nearest": ResizeNearest(*wanted),
        "nearest-exact": ResizeNearest(*wanted, from_centres=True),
        "bilinear": ResizeBilinear(*wanted, aligns_corners=bool(align_corners)),
    }
    if mode not in operators:
        raise ValueError(f"a resize with mode = {mode!r}; known are {', '.join(operators)}")
    source, order = builder.last(value, (rows, columns), channels)
    down, across = map(new_axis, wanted)
    return builder.emit(operators[mode], [source], (channels, down, across), (down, across, order))


def upsample(builder: Builder, module: nn.Upsample, value: Value, /) -> Value:
    """Take an `nn.Upsample`, under any of its names."""
    return interpolate(builder, value, module.size, module.scale_factor, module.mode, module.align_corners)


def _scaled(size: Pair, factor: Factor) -> Pair:
    if factor is None:
        raise ValueError("a resize without size and scale_factor")
    factors = (factor, factor) if isinstance(factor, int | float) else (factor[0], factor[-1])
    rows, columns = (side * by for side, by in zip(size, factors, strict=True))
    if rows != int(rows) or columns != int(columns):
        raise ValueError(f"a resize of {size} by {factors}, to no whole size; give the size")
    return int(rows), int(columns)


TRANSLATORS = Translators(
    functions={
        **dict.fromkeys((F.max_pool2d, torch.max_pool2d), max_pool2d),
        F.avg_pool2d: avg_pool2d,
        F.adaptive_avg_pool2d: adaptive_avg_pool2d,
        F.adaptive_max_pool2d: adaptive_max_pool2d,
        **dict.fromkeys((torch.mean, "mean"), mean),
        F.interpolate: interpolate,
    },
    modules={
        nn.MaxPool2d: max_pool2d_module,
        nn.AvgPool2d: avg_pool2d_module,
        **dict.fromkeys((SameMaxPool2d, SameAvgPool2d), same_pool),
        **dict.fromkeys((nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d), adaptive_module),
        **dict.fromkeys((nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), upsample),
    },
)
