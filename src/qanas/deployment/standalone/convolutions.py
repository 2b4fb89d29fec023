"""Convolutions and pools: what moves a window over rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from qanas.deployment.standalone.emitter import INT32, Emitter
from qanas.deployment.standalone.layers import (
    activation_of,
    code_range,
    constant,
    largest_sums,
    scales_of,
    without_zero_point,
)
from qanas.deployment.standalone.memory import computed
from qanas.deployment.standalone.moves import present
from qanas.deployment.standalone.rounding import multipliers_and_exponents
from qanas.quantization.operators.windows import SAME
from qanas.quantization.program import RuntimeOperator, RuntimeTensor

Sums = NDArray[np.int64]


def window(emitter: Emitter, operator: RuntimeOperator, taps: Sequence[int]) -> list[int]:
    """Return the fields of `window.c`.

    Args:
        emitter: of the operator.
        operator: a convolution, a pool, or a transposed convolution, whose window moves over the output.
        taps: rows and columns.
    """
    options = operator.options
    source, output = (computed(tensors)[0].shape[1:3] for tensors in (operator.inputs, operator.outputs))
    narrow, wide = (source, output) if operator.kind == "TRANSPOSE_CONV" else (output, source)
    strides = [int(options["strideH"]), int(options["strideW"])]
    gaps = [int(options.get("dilationHFactor", 1)), int(options.get("dilationWFactor", 1))]
    before = [0, 0]
    if options["padding"] == SAME:
        reach = [(narrow[axis] - 1) * strides[axis] + (taps[axis] - 1) * gaps[axis] + 1 for axis in (0, 1)]
        before = [max(reach[axis] - wide[axis], 0) // 2 for axis in (0, 1)]
    return [emitter.small(size, "the shape") for size in (*source, *output, *taps, *strides, *gaps, *before)]


def _requantization(
    emitter: Emitter, operator: RuntimeOperator, weights: Sums, biases: tuple[RuntimeTensor | None, bool]
) -> list[object]:
    """Return the fields of `requantize.c`.

    Args:
        emitter: of the operator.
        operator: with the weights in second place.
        weights: shape (outputs, inputs).
        biases: the tensor, and whether the input's zero point is taken off of them.
    """
    tensor, whole = biases
    source, output = emitter.affine(computed(operator.inputs)[0]), emitter.affine(operator.outputs[0])
    scales = np.broadcast_to(scales_of(present(operator, 1)), len(weights)).astype(np.float64)
    multipliers, exponents = multipliers_and_exponents(
        scales * np.float64(np.float32(source.scale)) / output.scale,
    )
    given = constant(emitter, tensor)
    folded = without_zero_point(emitter, given, weights, source)
    # A half is added before the shift, in 32 bits.
    highs = largest_sums(given, weights, source) * np.array(multipliers) / 2.0**31
    halves = np.ldexp(0.5, np.maximum(-np.array(exponents), 0))
    emitter.require(float((highs + halves).max()) < INT32.max, "sums of products beyond 32 bits")
    return [
        emitter.array("biases", "int32_t", folded if whole else given),
        emitter.array("multipliers", "int32_t", np.array(multipliers)),
        emitter.array("exponents", "int8_t", np.array(exponents)),
        output.zero_point,
        *code_range(output, activation_of(operator)),
    ]


def convolution(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit a convolution, one of one tap as a matrix product."""
    source = emitter.affine(present(operator))
    weights = constant(emitter, operator.inputs[1])
    outputs, rows, columns, channels = weights.shape
    to = _requantization(emitter, operator, weights.reshape(outputs, -1), (operator.inputs[2], True))
    codes = emitter.array("weights", "int8_t", weights)
    groups = present(operator).shape[3] // channels
    over = window(emitter, operator, (rows, columns))
    sizes = [emitter.small(size, "the number of channels") for size in (channels, outputs // groups)]
    addresses = [emitter.address(present(operator)), emitter.address(operator.outputs[0])]
    if _is_pointwise(operator):
        layer = emitter.layer("pointwise_layer", to, codes, over[2] * over[3], *sizes)
        emitter.call("pointwise", layer, *addresses)
    else:
        layer = emitter.layer("conv_2d_layer", to, codes, over, *sizes, groups, source.zero_point)
        seen = f"memory.bytes + {emitter.layout.scratch[id(operator)]}"
        emitter.call("conv_2d", layer, addresses[0], seen, addresses[1])


def _is_pointwise(operator: RuntimeOperator) -> bool:
    """Return whether every output sees all channels of one position, and every position is seen."""
    _, rows, columns, channels = present(operator, 1).shape
    strides = [int(operator.options[side]) for side in ("strideH", "strideW")]
    return (rows, columns, *strides) == (1, 1, 1, 1) and channels == present(operator).shape[3]


def convolution_scratch(operator: RuntimeOperator) -> int:
    """Return the bytes of two windows."""
    return 0 if _is_pointwise(operator) else 2 * prod(present(operator, 1).shape[1:])


def depthwise(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit a convolution by channel."""
    source = emitter.affine(present(operator))
    weights = constant(emitter, operator.inputs[1])[0]
    rows, columns, outputs = weights.shape
    channels = emitter.small(present(operator).shape[3], "the number of channels")
    layer = emitter.layer(
        "depthwise_layer",
        _requantization(emitter, operator, weights.reshape(-1, outputs).T, (operator.inputs[2], False)),
        emitter.array("weights", "int8_t", weights),
        window(emitter, operator, (rows, columns)),
        channels,
        emitter.small(outputs // channels, "the number of outputs of a channel"),
        source.zero_point,
    )
    emitter.call("depthwise", layer, emitter.address(present(operator)), emitter.address(operator.outputs[0]))


def transposed(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit a transposed convolution."""
    value = present(operator, 2)
    source = emitter.affine(value)
    weights = constant(emitter, operator.inputs[1])
    outputs, rows, columns, channels = weights.shape
    layer = emitter.layer(
        "transpose_conv_layer",
        _requantization(emitter, operator, weights.reshape(outputs, -1), (operator.inputs[3], False)),
        emitter.array("weights", "int8_t", weights),
        window(emitter, operator, (rows, columns)),
        *(emitter.small(size, "the number of channels") for size in (channels, outputs)),
        source.zero_point,
    )
    emitter.call("transpose_conv", layer, emitter.address(value), emitter.address(operator.outputs[0]))


def pool(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit an average or the largest codes."""
    emitter.affine(present(operator))
    taps = int(operator.options["filterHeight"]), int(operator.options["filterWidth"])
    channels = emitter.small(present(operator).shape[3], "the number of channels")
    averages = operator.kind == "AVERAGE_POOL_2D"
    layer = emitter.layer("pool_layer", window(emitter, operator, taps), channels, averages)
    emitter.call("pool", layer, emitter.address(present(operator)), emitter.address(operator.outputs[0]))
