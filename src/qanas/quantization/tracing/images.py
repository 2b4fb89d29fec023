"""Pools and other sizes of images, and of time: one of one row."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.layers.images import SameAvgPool2d, SameMaxPool2d, same_padding
from qanas.quantization.operators.resize import ResizeBilinear, ResizeNearest
from qanas.quantization.operators.windows import AveragePool, MaxPool, Pair, Window
from qanas.quantization.tracing.attention import matmul
from qanas.quantization.tracing.builder import Builder, Sizes, Translators, pair, with_settings
from qanas.quantization.tracing.joining import cat
from qanas.quantization.tracing.parts import along
from qanas.quantization.tracing.pointwise import multiply
from qanas.quantization.tracing.reductions import amax, mean
from qanas.quantization.tracing.shapes import as_row
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
    window = _window(kernel_size, stride or kernel_size, padding)
    image = _image(value)
    if ceil_mode and (wider := _with_last_windows(window, image)).read_padding((*image, 1)) != window.read_padding(
        (*image, 1)
    ):
        if any(map(any, window.padding)) and count_include_pad:
            raise ValueError("an average pool with ceil_mode that counts its padding; take count_include_pad=False")
        window, count_include_pad = wider, False
    result = _averaged(builder, value, window, counts_padding=count_include_pad)
    if divisor_override is None:
        return result
    return multiply(builder, result, prod(window.size) / divisor_override)


def _averaged(builder: Builder, value: Value, window: Window, *, counts_padding: bool) -> Value:
    """Append an average pool; where the kernel can't leave the padding out, what it counted too much is made good.

    Over whole rows, columns or images it is a mean: that has a scale of its own, where a pool's output has its input's,
    in whose steps averages of many numbers are few (7 to 9 dB of a small classifier's output).
    """
    whole = _whole_axes(window, _image(value))
    if whole:
        return mean(builder, value, whole, keepdim=True)
    shape = (*_image(value), value.shape[0])
    pool = AveragePool(window, counts_padding=counts_padding)
    if counts_padding or window.is_valid(shape) or window.is_same(shape):
        return _pooled(builder, value, pool)
    missing = prod(window.size) / pool.counts(shape)[0, :, :, 0]
    return multiply(builder, _pooled(builder, value, AveragePool(window)), missing)


def _whole_axes(window: Window, image: Pair) -> tuple[int, ...]:
    """Return the axes that windows cover whole, if they leave the other one as it is; else none."""
    if any(map(any, window.padding)):
        return ()
    covered = [axis for axis in (0, 1) if window.size[axis] == image[axis] > 1]
    left = [axis for axis in (0, 1) if window.size[axis] == window.stride[axis] == 1 or image[axis] == 1]
    return tuple(axis - 2 for axis in covered) if {*covered, *left} == {0, 1} else ()


def same_pool(builder: Builder, module: SameMaxPool2d | SameAvgPool2d, value: Value, /) -> Value:
    """Take a pool that pads as the runtime's SAME does."""
    rows, columns = _image(value)
    size, stride = pair(module.kernel_size), pair(module.stride)
    sides = (same_padding(rows, size[0], stride[0]), same_padding(columns, size[1], stride[1]))
    window = Window(size, stride, sides)
    if isinstance(module, SameMaxPool2d):
        return _pooled(builder, value, MaxPool(window))
    return _averaged(builder, value, window, counts_padding=False)


def adaptive_avg_pool2d(builder: Builder, value: Value, /, output_size: Sizes) -> Value:
    """Take averages over as many windows as are wanted."""
    size, wanted = _image(value), _wanted(value, output_size)
    if wanted == (1, 1):
        return mean(builder, value, (-2, -1), keepdim=True)
    window = _even(size, wanted)
    if window is not None:
        return _averaged(builder, value, window, counts_padding=True)
    return _uneven(builder, value, wanted, mean)


def adaptive_max_pool2d(builder: Builder, value: Value, /, output_size: Sizes, return_indices: bool = False) -> Value:
    """Take the largest values of as many windows as are wanted."""
    if return_indices:
        raise ValueError("a max pool with indices; take one without")
    size, wanted = _image(value), _wanted(value, output_size)
    window = _even(size, wanted)
    if window is not None:
        return _pooled(builder, value, MaxPool(window))
    return _uneven(builder, value, wanted, amax)


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


def _ranges(size: int, wanted: int) -> list[slice]:
    """Return the windows of an adaptive pool along an axis; they overlap where their number doesn't divide its size.

    >>> _ranges(5, 3)
    [slice(0, 2, None), slice(1, 4, None), slice(3, 5, None)]
    """
    return [slice(number * size // wanted, -(-(number + 1) * size // wanted)) for number in range(wanted)]


def _even(size: Pair, wanted: Pair) -> Window | None:
    """Return the window that an adaptive pool moves in equal steps, or None where it doesn't."""
    taps, strides = [], []
    for whole, count in zip(size, wanted, strict=True):
        ranges = _ranges(whole, count)
        lengths = {part.stop - part.start for part in ranges}
        steps = {after.start - before.start for before, after in pairwise(ranges)}
        if len(lengths) > 1 or len(steps) > 1 or 0 in steps:
            return None
        taps.append(lengths.pop())
        strides.append(steps.pop() if steps else whole)
    return Window((taps[0], taps[1]), (strides[0], strides[1]))


def _uneven(builder: Builder, value: Value, wanted: Pair, reduce: Callable[..., Value]) -> Value:
    """Return rows, and then columns, each reduced by itself and side by side again."""
    for dim, count in zip((2, 3), wanted, strict=True):
        parts = [along(builder, value, dim, part) for part in _ranges(value.shape[dim - 1], count)]
        value = cat(builder, [reduce(builder, part, dim, keepdim=True) for part in parts], dim)
    return value


def _pooled(builder: Builder, value: Value, pool: MaxPool | AveragePool) -> Value:
    image = _image(value)
    channels, *sides = value.torch
    source, order = builder.last(value, sides, channels)
    rows, columns = map(new_axis, pool.window.positions((*image, size_of(channels))))
    image_axes: tuple[Factors, Factors] = (rows, columns)
    return builder.emit(pool, [source], (channels, *image_axes), (*image_axes, order))


Factor = float | tuple[float, ...] | None

MODES = ("nearest", "nearest-exact", "bilinear", "bicubic")
"""Of resizes, beside that by areas."""


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
    """Take a resize: to the nearest pixels, between two, or by a sum of more, which is a product of matrices."""
    if len(value.torch) != 3:  # noqa: PLR2004 - channels, rows, columns
        raise ValueError(f"a resize of {value.shape}; it takes (channels, rows, columns)")
    channels, rows, columns = value.torch
    before = (size_of(rows), size_of(columns))
    # What is computed anew, and windows of an area, follow from the size alone; all else from the factor itself.
    rounds = size is not None or bool(recompute_scale_factor) or mode == "area"
    wanted, whole = (pair(size), True) if size is not None else _scaled(before, scale_factor)
    if wanted == before and (whole or rounds):
        return value
    if mode == "area":
        return adaptive_avg_pool2d(builder, value, wanted)
    between = not (whole or rounds or align_corners)  # no kernel stretches positions by anything but the sizes' ratio
    if mode in MODES and (mode == "bicubic" or (mode == "bilinear" and antialias) or between):
        factors = None if rounds else _of_both(scale_factor)
        return _by_matrices(builder, value, wanted, factors, mode, align_corners, antialias)
    operators = {
        "nearest": ResizeNearest(*wanted),
        "nearest-exact": ResizeNearest(*wanted, from_centres=True),
        "bilinear": ResizeBilinear(*wanted, aligns_corners=bool(align_corners)),
    }
    if mode not in operators:
        raise ValueError(f"a resize with mode = {mode!r}; known are {', '.join(MODES)}, area")
    source, order = builder.last(value, (rows, columns), channels)
    down, across = map(new_axis, wanted)
    return builder.emit(operators[mode], [source], (channels, down, across), (down, across, order))


def _by_matrices(
    builder: Builder,
    value: Value,
    wanted: Pair,
    factors: tuple[float, float] | None,
    mode: str,
    align_corners: bool | None,
    antialias: bool,
) -> Value:
    """Take a resize by torch's own weights: what it makes of an image of each row, and of each column, alone.

    Args:
        builder: appends the operators.
        value: an image.
        wanted: its rows and columns then.
        factors: by which positions are stretched; None: those of the sizes.
        mode: of the resize.
        align_corners: whether the outermost pixels stay where they are.
        antialias: whether it smooths what gets smaller.
    """

    def weights(axis: int) -> Tensor:
        """Return what each pixel before adds to each one then, shape (then, before)."""
        pixels = torch.eye(_image(value)[axis])[None, None]
        size = None if factors else (wanted[axis], len(pixels[0, 0]))
        stretched = (factors[axis], 1.0) if factors else None
        resized = F.interpolate(pixels, size, stretched, mode, align_corners, antialias=antialias)
        return resized[0, 0]

    down, across = weights(0), weights(1)
    return matmul(builder, matmul(builder, down, value), across.T)


def upsample(builder: Builder, module: nn.Upsample, value: Value, /) -> Value:
    """Take an `nn.Upsample`, under any of its names."""
    anew = module.recompute_scale_factor
    return resized(builder, value, module.size, module.scale_factor, module.mode, module.align_corners, anew)


def resized(
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
    """Take a resize of an image, or of time as one row."""
    if len(value.torch) != 2:  # noqa: PLR2004 - channels, time
        return interpolate(builder, value, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    wanted = None if size is None else (1, pair(size)[1])
    factors = (
        None
        if scale_factor is None
        else (1.0, scale_factor if isinstance(scale_factor, int | float) else scale_factor[-1])
    )
    mode = {"linear": "bilinear"}.get(mode, mode)
    return as_row(interpolate)(builder, value, wanted, factors, mode, align_corners, recompute_scale_factor, antialias)


def _one(sizes: Sizes | None, of_row: int) -> tuple[int, int] | None:
    """Return a size along time as one of a row and of time."""
    return None if sizes is None else (of_row, pair(sizes)[1])


def max_pool1d(
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
    """Take the largest value of each window over time."""
    sizes = (_one(kernel_size, 1), _one(stride or kernel_size, 1), _one(padding, 0), dilation)
    return as_row(max_pool2d)(builder, value, *sizes, ceil_mode, return_indices)


def avg_pool1d(
    builder: Builder,
    value: Value,
    /,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Value:
    """Take the average of each window over time."""
    sizes = (_one(kernel_size, 1), _one(stride or kernel_size, 1), _one(padding, 0))
    return as_row(avg_pool2d)(builder, value, *sizes, ceil_mode, count_include_pad)


def adaptive_avg_pool1d(builder: Builder, value: Value, /, output_size: Sizes) -> Value:
    """Take averages over as many windows over time as are wanted."""
    return as_row(adaptive_avg_pool2d)(builder, value, _one(output_size, 1))


def adaptive_max_pool1d(builder: Builder, value: Value, /, output_size: Sizes, return_indices: bool = False) -> Value:
    """Take the largest values of as many windows over time as are wanted."""
    return as_row(adaptive_max_pool2d)(builder, value, _one(output_size, 1), return_indices)


def _scaled(size: Pair, factor: Factor) -> tuple[Pair, bool]:
    """Return a size times a factor, rounded down as torch does, and whether it was whole before."""
    rows, columns = (side * by for side, by in zip(size, _of_both(factor), strict=True))
    return (int(rows), int(columns)), rows == int(rows) and columns == int(columns)


def _of_both(factor: Factor) -> tuple[float, float]:
    """Return the factors of rows and of columns."""
    if factor is None:
        raise ValueError("a resize without size and scale_factor")
    return (factor, factor) if isinstance(factor, int | float) else (factor[0], factor[-1])


MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
AVERAGE_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")

TRANSLATORS = Translators(
    functions={
        **dict.fromkeys((F.max_pool2d, torch.max_pool2d), max_pool2d),
        **dict.fromkeys((F.max_pool1d, torch.max_pool1d), max_pool1d),
        F.avg_pool2d: avg_pool2d,
        F.avg_pool1d: avg_pool1d,
        F.adaptive_avg_pool2d: adaptive_avg_pool2d,
        F.adaptive_max_pool2d: adaptive_max_pool2d,
        F.adaptive_avg_pool1d: adaptive_avg_pool1d,
        F.adaptive_max_pool1d: adaptive_max_pool1d,
        **dict.fromkeys((F.interpolate, F.upsample, F.upsample_nearest, F.upsample_bilinear), resized),
    },
    modules={
        nn.MaxPool2d: with_settings(max_pool2d, *MAX_POOL),
        nn.MaxPool1d: with_settings(max_pool1d, *MAX_POOL),
        nn.AvgPool2d: with_settings(avg_pool2d, *AVERAGE_POOL, "divisor_override"),
        nn.AvgPool1d: with_settings(avg_pool1d, *AVERAGE_POOL),
        **dict.fromkeys((SameMaxPool2d, SameAvgPool2d), same_pool),
        nn.AdaptiveAvgPool2d: with_settings(adaptive_avg_pool2d, "output_size"),
        nn.AdaptiveMaxPool2d: with_settings(adaptive_max_pool2d, "output_size", "return_indices"),
        nn.AdaptiveAvgPool1d: with_settings(adaptive_avg_pool1d, "output_size"),
        nn.AdaptiveMaxPool1d: with_settings(adaptive_max_pool1d, "output_size", "return_indices"),
        **dict.fromkeys((nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), upsample),
    },
)
