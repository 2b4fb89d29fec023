"""Other sizes of images."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import nn

from qanas.quantization.operators.resize import ResizeBilinear, ResizeNearest
from qanas.quantization.operators.window import Pair
from qanas.quantization.tracing.builder import Builder
from qanas.quantization.tracing.translators import FunctionTranslators, ModuleTranslators, Sizes, pair
from qanas.quantization.tracing.values import Value, new_axis, size_of

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


FUNCTIONS: FunctionTranslators = {F.interpolate: interpolate}
MODULES: ModuleTranslators = dict.fromkeys((nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), upsample)
