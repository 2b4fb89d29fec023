"""Layers with weights: matrix products and LSTMs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qanas.deployment.standalone.emitter import INT32, Emitter
from qanas.deployment.standalone.rounding import Once, multiplier_and_exponent, multipliers_and_exponents
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.requantization import BOUNDS, Activation, step_bounds
from qanas.quantization.operators.base import ACTIVATION_CODES
from qanas.quantization.operators.lstm import GATE_SCALE, GATES, UNIT_SCALE
from qanas.quantization.program import RuntimeOperator, RuntimeTensor, bytes_of

Sums = NDArray[np.int64]

ACTIVATIONS: dict[int, Activation] = {number: activation for activation, number in ACTIVATION_CODES.items()}

assert set(ACTIVATIONS.values()) == set(BOUNDS)  # noqa: S101 - each has its number


def activation_of(operator: RuntimeOperator) -> Activation:
    """Return what is fused into an operator."""
    return ACTIVATIONS[int(operator.options.get("fusedActivationFunction", 0))]


def step_range(output: Affine, activation: Activation) -> tuple[int, int]:
    """Return the lowest and the highest code, counted from the zero point."""
    low, high = step_bounds(output, activation)
    return int(low), int(high)


def code_range(output: Affine, activation: Activation) -> tuple[int, int]:
    """Return the lowest and the highest code."""
    low, high = step_range(output, activation)
    return low + output.zero_point, high + output.zero_point


def constant(emitter: Emitter, tensor: RuntimeTensor | None) -> NDArray[np.int64]:
    """Return the values of a constant, of its shape."""
    emitter.require(tensor is not None and tensor.data is not None, "weights that are computed")
    assert tensor is not None  # noqa: S101 - said above
    return np.asarray(tensor.data, np.int64)


def scales_of(tensor: RuntimeTensor) -> NDArray[np.float32]:
    """Return the scales of weights, shape (1,) or (channels,)."""
    if tensor.quantization is None:
        raise ValueError("weights without scales")
    return tensor.quantization.scales


def without_zero_point(emitter: Emitter, biases: Sums, weights: Sums, source: Affine) -> Sums:
    """Return biases from which the products of weights and the input's zero point are taken off, shape (outputs,).

    Args:
        emitter: of the operator.
        biases: shape (outputs,).
        weights: shape (outputs, inputs).
        source: parameters of the input.
    """
    folded: Sums = biases - source.zero_point * weights.sum(1)
    reach = np.abs(folded) + np.abs(weights).sum(1) * 128
    emitter.require(int(reach.max(initial=0)) <= INT32.max, "sums of products beyond 32 bits")
    return folded


def largest_sums(biases: Sums, weights: Sums, source: Affine) -> Sums:
    """Return how large sums of products with codes can be, shape (outputs,); arguments as above."""
    reach = max(source.high - source.zero_point, source.zero_point - source.low)
    sizes: Sums = np.abs(biases) + np.abs(weights).sum(1) * reach
    return sizes


def fully_connected(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit a matrix product, rounded once as in double precision."""
    source, weight, bias = operator.inputs
    assert source is not None and weight is not None  # noqa: S101, PT018 - the writer gives all three
    affine, output = emitter.affine(source), emitter.affine(operator.outputs[0])
    weights = constant(emitter, weight)
    biases = constant(emitter, bias)
    factors = scales_of(weight).astype(np.float64) * np.float64(np.float32(affine.scale)) / output.scale
    sizes = largest_sums(biases, weights, affine)
    activation, largest = activation_of(operator), sizes if len(factors) > 1 else [sizes.max()]
    scaled = [Once.of(float(factor)) for factor in factors]
    for once, factor, size in zip(scaled, factors, largest, strict=True):
        fits = once.rounds_as_double(float(factor), int(size), step_range(output, activation))
        emitter.require(fits, "a factor that whole numbers don't round as double precision does")
    outputs, features = weights.shape
    layer = emitter.layer(
        "dense_layer",
        source.elements // features,
        features,
        emitter.small(outputs, "the number of outputs"),
        len(factors) > 1,
        output.zero_point,
        *code_range(output, activation),
        emitter.array("weights", "int8_t", weights),
        emitter.array("biases", "int32_t", without_zero_point(emitter, biases, weights, affine)),
        emitter.array("factors", "int32_t", np.array([[once.upper, once.lower] for once in scaled])),
        emitter.array("shifts", "int8_t", np.array([once.shift for once in scaled])),
    )
    emitter.call("dense", layer, emitter.address(source), emitter.address(operator.outputs[0]))


def matrix_product(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit the product of two values: rows of one with rows of the other."""
    left, right = operator.inputs
    assert left is not None and right is not None  # noqa: S101, PT018 - the writer gives both
    one, other, output = (emitter.affine(tensor) for tensor in (left, right, operator.outputs[0]))
    turned = bool(operator.options.get("adjY", False)) and not operator.options.get("adjX", False)
    emitter.require(turned, "of columns, not of rows")
    *_, rows, inner = left.shape
    # The kernels multiply the scales in float32.
    factor = float(np.float32(one.scale) * np.float32(other.scale)) / output.scale
    layer = emitter.layer(
        "batch_matmul_layer",
        left.elements // (rows * inner),
        rows,
        right.shape[-2],
        inner,
        *multiplier_and_exponent(factor),
        *(affine.zero_point for affine in (one, other, output)),
    )
    emitter.call("batch_matmul", layer, *(emitter.address(t) for t in (left, right, operator.outputs[0])))


def lstm_scratch(operator: RuntimeOperator) -> int:
    """Return the bytes of the cell."""
    return bytes_of(operator.outputs[0].shape[-1], "int16")


LARGEST_GATE = 2.0**30
"""Of what is added up to a gate, before it saturates."""


def lstm(emitter: Emitter, operator: RuntimeOperator) -> None:
    """Emit a fused LSTM that begins with a state of 0."""
    source, inputs = operator.inputs[0], operator.inputs
    assert source is not None  # noqa: S101 - the writer gives it
    affine, output = emitter.affine(source), emitter.affine(operator.outputs[0])
    _, steps, features = source.shape
    units = operator.outputs[0].shape[-1]
    kernels, recurrents = ([constant(emitter, gate) for gate in inputs[at : at + GATES]] for at in (1, 1 + GATES))
    kernel, recurrent = np.concatenate(kernels), np.concatenate(recurrents)
    bias = np.concatenate([constant(emitter, gate) for gate in inputs[12 : 12 + GATES]])
    factors = _gate_factors(operator, affine, output)
    sizes = np.concatenate([largest_sums(bias, kernel, affine), largest_sums(0 * bias, recurrent, output)])
    largest = float((np.repeat(factors, units) * sizes).max())
    emitter.require(largest < LARGEST_GATE, "weights so large that a gate overflows")
    multipliers, exponents = multipliers_and_exponents(factors)
    to_hidden = multiplier_and_exponent(float(np.float32(UNIT_SCALE * UNIT_SCALE / output.scale)))
    biases = [
        without_zero_point(emitter, bias, kernel, affine),
        without_zero_point(emitter, 0 * bias, recurrent, output),
    ]
    cell = operator.inputs[19]
    assert cell is not None  # noqa: S101 - the writer gives it
    layer = emitter.layer(
        "lstm_layer",
        *(emitter.small(size, "the shape") for size in (steps, features, units)),
        round(float(np.log2(scales_of(cell)[0]))) + 15,
        output.zero_point,
        exponents,
        multipliers,
        to_hidden[1],
        to_hidden[0],
        emitter.array("kernel", "int8_t", kernel),
        emitter.array("recurrent", "int8_t", recurrent),
        emitter.array("biases", "int32_t", np.concatenate(biases)),
    )
    place = f"memory.words + {emitter.layout.scratch[id(operator)] // 2}"
    emitter.call("lstm", layer, emitter.address(source), place, emitter.address(operator.outputs[0]))


def _gate_factors(operator: RuntimeOperator, source: Affine, output: Affine) -> NDArray[np.float64]:
    """Return the factors from sums to gates, of the input by gate, then of the state; scales multiply in float32."""
    found = []
    for first, affine in ((1, source), (1 + GATES, output)):
        for tensor in operator.inputs[first : first + GATES]:
            assert tensor is not None  # noqa: S101 - the writer gives all
            found.append(float(scales_of(tensor)[0] * np.float32(affine.scale) / np.float32(GATE_SCALE)))
    return np.array(found)
