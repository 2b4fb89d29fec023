"""The logarithm of a softmax, in 32-bit fixed point as the kernel has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.functions import Codes, Word, multiplier_and_power
from qanas.quantization.numbers.requantization import FixedPoint
from qanas.quantization.numbers.rounding import halve
from qanas.quantization.operators.base import Operator, QuantizedOperator, Shape
from qanas.quantization.operators.reductions import (
    DIFFERENCE_INTEGER_BITS,
    LARGEST_DIFFERENCE,
    SUM_INTEGER_BITS,
    exponentials,
)
from qanas.quantization.program import COMMON_VERSIONS, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme

WORD = Word(32)

OUTPUT = Affine(1.0 / 16.0, 127)
"""What the kernel demands: -15.94 to 0."""

OUTPUT_INTEGER_BITS = 4
SUM_OF_LOGARITHM = DIFFERENCE_INTEGER_BITS + 1
"""Integer bits in which the parts of the logarithm are added up."""

# Constants of the kernel in Q0.31.
LOG_2, HALF_ROOT, QUARTER_ROOT, QUARTER = 1488522236, 1518500250, 1805811301, 536870912
NUMERATOR, DENOMINATOR, DENOMINATOR_ONE, DENOMINATOR_SLOPE = 117049297, 127690142, 1057819769, 638450708


def _doubled(values: Codes, times: Codes | int) -> Codes:
    """Multiply by 2^times, saturated, or divide, rounded; any shape."""
    exponents = np.broadcast_to(np.asarray(times), np.shape(values))
    up = WORD.saturate(values << np.maximum(exponents, 0))
    return np.where(exponents >= 0, up, halve(values, np.maximum(-exponents, 1)))


def _bits(values: Codes) -> Codes:
    """Return the number of leading zeros of 32-bit numbers above 0, any shape."""
    return WORD.bits - np.frexp(values.astype(np.float64))[1].astype(np.int64)


def logarithm(sums: Codes) -> Codes:
    """Return log(x) in Q5.26 for numbers of 1 and more in Q12.19, any shape.

    A power of two, and of the rest, between sqrt(1/2) and sqrt(2) of it, a rational function.
    """
    multiply, unit = WORD.multiply, 31 - SUM_OF_LOGARITHM
    quarter = halve(np.array(QUARTER, np.int64), SUM_OF_LOGARITHM)
    zeros = _bits(sums)
    first = _doubled(multiply(_doubled(sums, zeros - 1), HALF_ROOT), 1)
    first_power = WORD.saturate(_doubled(SUM_INTEGER_BITS - zeros, unit) + quarter)
    headroom = _bits(multiply(sums, HALF_ROOT)) - 1
    second = _doubled(sums, headroom)
    second_power = WORD.saturate(_doubled(SUM_INTEGER_BITS - headroom, unit) - quarter)
    rest, power = np.minimum(first, second), np.maximum(first_power, second_power)
    half_sum = (rest + QUARTER_ROOT + 1) >> 1
    q = 2 * (rest - QUARTER_ROOT)
    square = multiply(q, q)
    numerator = multiply(q, rest) + multiply(multiply(q, square), NUMERATOR)
    denominator = multiply(half_sum, DENOMINATOR_ONE + q + multiply(square, DENOMINATOR)) + multiply(
        q, DENOMINATOR_SLOPE
    )
    reciprocal = WORD.one_over_one_plus(denominator)
    total = multiply(power, LOG_2) + multiply(halve(numerator, SUM_OF_LOGARITHM), reciprocal)
    return _doubled(total, 1)


@dataclass(frozen=True)
class LogSoftmax(Operator):
    """``x - log(sum(exp(x)))`` over the last axis."""

    parameters_from = "kernel"
    activation_bits = (8,)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        if inputs[0][-1] >= 1 << SUM_INTEGER_BITS:
            raise ValueError(
                f"a log_softmax of {inputs[0][-1]} values; the kernel's sum holds {(1 << SUM_INTEGER_BITS) - 1}"
            )
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, ..., classes)."""
        return torch.log_softmax(inputs[0], -1)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Take the output parameters that the kernel demands: steps of 1/16 below 0.

        Raises:
            ValueError: inputs that are equal to within rounding; the kernel aborts on them.
        """
        del ranges, scheme
        if inputs[0].scale * 2.0 ** (WORD.bits - 1 - DIFFERENCE_INTEGER_BITS) <= 1.0:
            raise ValueError(f"a log_softmax of inputs in steps of {inputs[0].scale}; none below 2^-26 can be")
        return QuantizedLogSoftmax(inputs[0].scale), replace(OUTPUT)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator; the same for codes and real values."""
        program.append(RuntimeOperator("LOG_SOFTMAX", COMMON_VERSIONS[output.dtype], inputs, [output]))


@dataclass(frozen=True)
class QuantizedLogSoftmax(QuantizedOperator):
    """The logarithm of the softmax of codes.

    Attributes:
        scale: of the input's codes.
    """

    scale: float

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, shape (batch, ..., classes), exactly as the reference kernel does."""
        inputs = codes[0].numpy().astype(np.int64)
        distances = inputs.max(-1, keepdims=True) - inputs
        multiplier, shift, reach = self._factor()
        terms = exponentials(self.scale)
        logarithms = logarithm(halve(terms[distances], SUM_INTEGER_BITS).sum(-1, keepdims=True))
        lowest = np.maximum(-reach - 1, self._in_codes(logarithms + WORD.low, multiplier, shift))
        differences: Codes = np.arange(LARGEST_DIFFERENCE + 1, dtype=np.int64)
        fine = WORD.multiply(-np.where(differences <= reach, differences, 0) << shift, multiplier)[distances]
        steps = halve(fine - logarithms, 31 - DIFFERENCE_INTEGER_BITS - OUTPUT_INTEGER_BITS) + OUTPUT.zero_point
        kept = np.where(-distances > lowest, np.clip(steps, OUTPUT.low, OUTPUT.high), OUTPUT.low)
        return torch.from_numpy(kept.astype(np.float32))

    def _factor(self) -> tuple[int, int, int]:
        """Return multiplier and shift from differences of codes to Q5.26, and the largest difference that fits."""
        factor = min(self.scale * 2.0 ** (WORD.bits - 1 - DIFFERENCE_INTEGER_BITS), float(WORD.high))
        multiplier, shift = multiplier_and_power(factor)
        reach = ((1 << DIFFERENCE_INTEGER_BITS) - 1) << (WORD.bits - 1 - DIFFERENCE_INTEGER_BITS) >> shift
        return multiplier, shift, reach

    @staticmethod
    def _in_codes(values: Codes, multiplier: int, shift: int) -> NDArray[np.int64]:
        """Return differences in Q5.26 as differences of codes, by the kernel's reciprocal of the factor."""
        reverse = FixedPoint.of(float(2 ** (31 - shift)) / multiplier)
        return reverse(torch.from_numpy(values.astype(np.float64))).numpy().astype(np.int64)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        program.append(RuntimeOperator("LOG_SOFTMAX", COMMON_VERSIONS[output.dtype], inputs, [output]))
