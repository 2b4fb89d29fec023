"""The runtime's integer LSTM, rewritten here bit by bit: what ships is understood to the last bit.

TFLite's 8x8 -> 16 kernel with gemmlowp's 16-bit fixed-point logistic and tanh. Nothing is shared with the
simulation but the integers that both get.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.layers.sequences import OneBiasLSTM
from qanas.quantization.operators.lstm import QuantizedLSTM
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace

Integers = NDArray[np.int64]
CODES = np.arange(-(2**15), 2**15, dtype=np.int64)
ONE = np.int64(2**15 - 1)

EXPONENTIALS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
"""exp(-2^n) in Q0.31."""


def saturate(values: Integers) -> Integers:
    return np.clip(values, -(2**15), 2**15 - 1)


def truncated(values: Integers, bits: int) -> Integers:
    """Divide by 2^bits towards zero."""
    return np.where(values >= 0, values >> bits, -(-values >> bits))


def shifted_right(values: Integers, bits: int) -> Integers:
    """Divide by 2^bits to the nearest, ties away from zero."""
    if bits == 0:
        return values
    mask = (1 << bits) - 1
    return (values >> bits) + ((values & mask) > ((mask >> 1) + (values < 0)))


def scaled(values: Integers, exponent: int) -> Integers:
    """Multiply by 2^exponent, rounded and saturated."""
    return saturate(values << exponent) if exponent > 0 else shifted_right(values, -exponent)


def product(one: Integers, other: Integers | np.int64) -> Integers:
    """Return the high half of the doubled product, rounded."""
    whole = one * other
    return saturate(truncated(whole + np.where(whole >= 0, 1 << 14, 1 - (1 << 14)), 15))


def constant(value: int) -> np.int64:
    """Return a Q.31 constant in 16 bits."""
    return np.int64(shifted_right(np.array([value], np.int64), 16)[0])


def exp_near_zero(values: Integers) -> Integers:
    """exp on [-1/4, 0) in Q0.15: a Taylor series around -1/8."""
    x = values + (1 << 12)
    x2 = product(x, x)
    x3, x4 = product(x2, x), product(x2, x2)
    series = scaled(product(scaled(x4, -2) + x3, constant(715827883)) + x2, -1)
    return saturate(constant(1895147668) + product(x + series, constant(1895147668)))


def exp_of_negative(values: Integers, integer_bits: int) -> Integers:
    """exp of values <= 0 of some integer bits, in Q0.15: a series near zero times a factor a bit."""
    fraction_bits = 15 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    near = (values & (quarter - 1)) - quarter
    result = exp_near_zero(scaled(near, integer_bits))
    for exponent, factor in EXPONENTIALS.items():
        if integer_bits > exponent:
            present = ((near - values) >> (fraction_bits + exponent)) & 1
            result = np.where(present == 1, product(result, constant(factor)), result)
    if integer_bits > 5:
        result = np.where(values < -(1 << (fraction_bits + 5)), 0, result)
    return np.where(values == 0, ONE, result)


def reciprocal(values: Integers) -> Integers:
    """2 / (1 + x) for x in [0, 1), Q0.15 to Q2.13: three steps of Newton's method."""
    denominator = truncated(values + ONE + 1, 1)
    x = constant(1515870810) + product(denominator, constant(-1010580540))
    for _ in range(3):
        x = x + scaled(product(x, (1 << 13) - product(denominator, x)), 2)
    return x


def logistic(codes: Integers) -> Integers:
    """Gates in Q3.12 to Q0.15."""
    positive = scaled(reciprocal(exp_of_negative(-np.abs(codes), 3)), 1)
    return np.where(codes == 0, 1 << 14, np.where(codes > 0, positive, ONE - positive))


def tanh(codes: Integers, integer_bits: int) -> Integers:
    """Codes of some integer bits to Q0.15."""
    size = scaled(reciprocal(exp_of_negative(-np.abs(codes), integer_bits + 1)) - (1 << 13), 2)
    return np.where(codes == 0, 0, np.sign(codes) * size)


def multiplier(scale: float) -> tuple[int, int]:
    mantissa, exponent = math.frexp(scale)
    return round(mantissa * 2**31), exponent


def rescaled(values: Integers, scale: float) -> Integers:
    """Multiply by a real number in fixed point, rounding twice."""
    factor, exponent = multiplier(scale)
    whole = (values << max(exponent, 0)) * factor
    high = truncated(whole + np.where(whole >= 0, 1 << 30, 1 - (1 << 30)), 31)
    return shifted_right(high, max(-exponent, 0))


def kernel_codes(operator: QuantizedLSTM, codes: Tensor) -> Integers:
    """The runtime's codes of all hidden states."""
    inputs = codes.numpy().astype(np.int64) - operator.input.zero_point
    kernel, recurrent = (
        [w.codes.astype(np.int64) for w in weights] for weights in (operator.kernel, operator.recurrent)
    )
    biases = [bias.astype(np.int64) for bias in operator.bias_codes()]
    step = np.float32(2.0**-12)
    input_scales, hidden_scales = (
        [float(w.scales[0] * np.float32(affine.scale) / step) for w in weights]
        for weights, affine in ((operator.kernel, operator.input), (operator.recurrent, operator.output))
    )
    functions = [logistic(CODES), logistic(CODES), tanh(CODES, 3), logistic(CODES)]
    squash = tanh(CODES, 15 + operator.cell_exponent)
    hidden_scale = float(np.float32(2.0**-30 / operator.output.scale))
    hidden = np.zeros((len(inputs), len(recurrent[0])), np.int64)
    cell, outputs = hidden, []
    for time in range(inputs.shape[1]):
        gates = []
        for k, function in enumerate(functions):
            gate = saturate(rescaled(inputs[:, time] @ kernel[k].T + biases[k], input_scales[k]))
            gate = saturate(gate + rescaled(hidden @ recurrent[k].T, hidden_scales[k]))
            gates.append(function[gate + 2**15])
        i, f, g, o = gates
        written = saturate(shifted_right(i * g, 30 + operator.cell_exponent))
        cell = saturate(saturate(shifted_right(f * cell, 15)) + written)
        hidden = rescaled(o * squash[cell + 2**15], hidden_scale)
        hidden = np.clip(hidden + operator.output.zero_point, -128, 127) - operator.output.zero_point
        outputs.append(hidden + operator.output.zero_point)
    return np.stack(outputs, 1)


def quantized_lstm(units: list[int], features: int, samples: Tensor) -> QuantizedGraph:
    widths = [features, *units]
    layers = [OneBiasLSTM(width, size) for width, size in zip(widths, units, strict=False)]
    graph = trace(nn.Sequential(*layers), tuple(samples.shape[1:]))
    return QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())


def expected_codes(quantized: QuantizedGraph, samples: Tensor) -> Integers:
    codes = quantized.input.quantize(samples)
    for operator in quantized.operators.values():
        assert isinstance(operator, QuantizedLSTM)
        codes = torch.from_numpy(kernel_codes(operator, codes).astype(np.float32))
    return codes.numpy().astype(np.int64)


CASES = [([1], 1, 1.0), ([3], 2, 0.1), ([8], 14, 1.0), ([20], 5, 10.0), ([7, 5], 3, 1.0), ([4, 4, 4], 6, 3.0)]


@pytest.mark.parametrize(("units", "features", "size"), CASES)
def test_the_written_lstm_does_what_its_kernel_is_known_to_do(units: list[int], features: int, size: float) -> None:
    torch.manual_seed(len(units))
    samples = size * torch.randn(12, 20, features)
    quantized = quantized_lstm(units, features, samples)
    deployed = LiteRTModel(write_tflite(quantized.program())).codes(samples.numpy())
    assert np.array_equal(deployed, expected_codes(quantized, samples)), "not a single code may differ"


def largest_error(codes: Integers, exact: Callable[[NDArray[np.float64]], NDArray[np.float64]], bits: int) -> float:
    return float(np.abs(codes - 2.0**15 * exact(CODES.astype(np.float64) * 2.0 ** (bits - 15))).max())


def test_the_kernels_functions_are_off_by_a_few_of_65536_steps() -> None:
    # This is why the simulation, which computes them exactly, differs from the runtime at all.
    assert 1 < largest_error(logistic(CODES), lambda x: np.asarray(1.0 / (1.0 + np.exp(-x)), np.float64), 3) < 8
    for bits in range(7):
        assert 1 < largest_error(tanh(CODES, bits), np.tanh, bits) < 16
