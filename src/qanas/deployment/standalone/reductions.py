"""What goes over whole axes: means, extremes, softmax; and resizes, which go over rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from qanas.deployment.standalone.emitter import Emitter
from qanas.deployment.standalone.moves import present, steps_of, values_of
from qanas.deployment.standalone.rounding import LOWEST_EXPONENT, multiplier_and_exponent
from qanas.quantization.numbers.functions import multiplier_and_power
from qanas.quantization.operators.reductions import DIFFERENCE_INTEGER_BITS, WORD
from qanas.quantization.operators.resize import FINE_BITS, ResizeBilinear, ResizeNearest
from qanas.quantization.program import RuntimeOperator

MOST_AXES = 3
KINDS = {"MEAN": 0, "REDUCE_MAX": 1, "REDUCE_MIN": -1}


def reduction(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit a mean or an extreme."""
    value = present(operator)
    source, output = emitter.affine(value), emitter.affine(operator.outputs[0])
    axes = values_of(operator, 1)
    kept = [axis for axis in range(len(value.shape)) if axis not in axes]
    count = prod(value.shape[axis] for axis in axes)
    multiplier, exponent = multiplier_and_power(source.scale / output.scale)
    # The division goes into the multiplier, kept large by a shift first, as in the kernel (`factor_of_sum`).
    shift = min(count.bit_length() - 1, 32, 31 + exponent)
    multiplier, exponent = (multiplier << shift) // count, exponent - shift
    layer = emitter.layer(
        "reduce_layer",
        *_merged(emitter, value.shape, kept),
        *_merged(emitter, value.shape, axes),
        *((multiplier, exponent) if exponent >= LOWEST_EXPONENT else (0, 0)),
        KINDS[operator.kind],
        -count * source.zero_point,
        output.zero_point,
    )
    emitter.call("reduce", layer, emitter.address(value), emitter.address(operator.outputs[0]))


def _merged(emitter: Emitter, shape: Sequence[int], axes: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return sizes and steps of some axes of a value as three; neighbours that lie behind each other are one."""
    steps, found = steps_of(shape), [(1, 0)] * MOST_AXES
    for axis in sorted(axes):
        size, step = shape[axis], steps[axis]
        if size == 1:
            continue
        if found[-1][1] == size * step:
            found[-1] = (found[-1][0] * size, step)
        else:
            found.append((size, step))
    emitter.require(found[:-MOST_AXES] == [(1, 0)] * (len(found) - MOST_AXES), f"over the axes {list(axes)}")
    sizes, strides = zip(*found[-MOST_AXES:], strict=True)
    return list(sizes), list(strides)


def softmax(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit a softmax, or its logarithm, in words of 32 bits."""
    value = present(operator)
    source = emitter.affine(value)
    emitter.affine(operator.outputs[0])
    emitter.require(operator.options.get("beta", 1.0) == 1.0, "with a factor")
    classes = value.shape[-1]
    multiplier, shift, reach = _differences(source.scale)
    emitter.require(shift > 1, f"inputs in steps of {source.scale:g}")
    fields = [[multiplier, shift, emitter.small(classes, "the number of classes"), reach], value.elements // classes]
    kernel = operator.kind.lower()
    if kernel == "log_softmax":
        fields += multiplier_and_exponent(float(2 ** (WORD.bits - 1 - shift)) / multiplier)
    layer = emitter.layer(f"{kernel}_layer", *fields)
    emitter.call(kernel, layer, emitter.address(value), emitter.address(operator.outputs[0]))


def _differences(scale: float) -> tuple[int, int, int]:
    """Return multiplier and shift of differences from the largest code, and the largest one that counts.

    As in `qanas.quantization.operators.reductions.exponentials`.
    """
    fraction_bits = WORD.bits - 1 - DIFFERENCE_INTEGER_BITS
    multiplier, shift = multiplier_and_power(min(scale * 2.0**fraction_bits, float(WORD.high)))
    return multiplier, shift, ((1 << DIFFERENCE_INTEGER_BITS) - 1) << fraction_bits >> shift


def bilinear(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit an interpolation in steps of 2^-10 of a pixel."""
    value, output = present(operator), operator.outputs[0]
    emitter.affine(value)
    _, rows, columns, channels = value.shape
    _, out_rows, out_columns, _ = output.shape
    aligns = bool(operator.options.get("alignCorners", False))
    resize = ResizeBilinear(out_rows, out_columns, aligns_corners=aligns)
    lines = [resize.steps(size, wanted) for size, wanted in ((rows, out_rows), (columns, out_columns))]
    layer = emitter.layer(
        "resize_bilinear_layer",
        *(emitter.small(size, "the shape") for size in (rows, columns, channels, out_rows, out_columns)),
        *(scale for _, scale in lines),
        *(start for start, _ in lines),
    )
    emitter.call("resize_bilinear", layer, emitter.address(value), emitter.address(output))


def nearest(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit a choice of rows and columns, which float32 decides: as tables."""
    value, output = present(operator), operator.outputs[0]
    emitter.affine(value)
    _, rows, columns, channels = value.shape
    _, out_rows, out_columns, _ = output.shape
    centres = bool(operator.options.get("halfPixelCenters", False))
    resize = ResizeNearest(out_rows, out_columns, from_centres=centres)
    tables = [
        emitter.array("positions", "int16_t", resize.sources(size, wanted).numpy().astype(np.int64))
        for size, wanted in ((rows, out_rows), (columns, out_columns))
    ]
    sizes = [emitter.small(size, "the shape") for size in (columns, channels, out_rows, out_columns)]
    layer = emitter.layer("resize_nearest_layer", *sizes, *tables)
    emitter.call("resize_nearest", layer, emitter.address(value), emitter.address(output))


assert FINE_BITS == 10  # noqa: PLR2004, S101 - in resize_bilinear.c, too
