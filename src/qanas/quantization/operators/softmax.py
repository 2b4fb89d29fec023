"""Softmax over the last axis: in 32-bit fixed point on codes of 8 bits, by tables on codes of 16."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.fixed_point_functions import Codes, Word, halve, multiplier_and_power
from qanas.quantization.interpolation_tables import HIGH, LOW, interpolate, interpolation_table
from qanas.quantization.operators.base import Operator, QuantizedOperator, Ranges, Shape
from qanas.quantization.operators.requantize import FixedPoint
from qanas.quantization.program import COMMON_VERSIONS, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme

OUTPUT, WIDE_OUTPUT = Affine(1.0 / 256.0, -128), Affine(1.0 / 32768.0, 0, 16)

WORD = Word(32)

DIFFERENCE_INTEGER_BITS = 5
"""Differences from the largest input are Q5.26."""

SUM_INTEGER_BITS = 12
"""The sum of exponentials is Q12.19; it overflows at 2^12 of them."""

LARGEST_DIFFERENCE = 255

EXPONENTIALS = interpolation_table(np.exp, -10.0, 0.0)
"""exp(x) for codes of 16 bits from -10 to 0; smaller ones are taken for -10."""

STEP_OF_EXPONENTIALS = 10.0 / 65535.0

RECIPROCALS = interpolation_table(lambda x: 1.0 / (1.0 + x), 0.0, 1.0)
"""1 / (1 + x) for codes of 16 bits from 0 to 1."""


@dataclass(frozen=True)
class Softmax(Operator):
    """``exp(x) / sum(exp(x))`` over the last axis."""

    parameters_from = "kernel"

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        if inputs[0][-1] >= 1 << SUM_INTEGER_BITS:
            raise ValueError(
                f"a softmax of {inputs[0][-1]} values; the kernel's sum holds {(1 << SUM_INTEGER_BITS) - 1}"
            )
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return torch.softmax(inputs[0], -1)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Take the output parameters that the kernel demands: 256 steps from 0 to 1, or 32,768.

        Raises:
            ValueError: inputs that are equal to within rounding; the kernel aborts on them.
        """
        del ranges, scheme
        if inputs[0].wide:
            return InterpolatedSoftmax(inputs[0]), replace(WIDE_OUTPUT)
        if inputs[0].scale * 2.0 ** (WORD.bits - 1 - DIFFERENCE_INTEGER_BITS) <= 1.0:
            raise ValueError(f"a softmax of inputs in steps of {inputs[0].scale}; the kernel takes none below 2^-26")
        return QuantizedSoftmax(exponentials(inputs[0].scale)), replace(OUTPUT)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        append_softmax(program, inputs, output)


def append_softmax(program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
    """Append SOFTMAX; the same for codes and real values."""
    program.append(RuntimeOperator("SOFTMAX", COMMON_VERSIONS[output.dtype], inputs, [output], {"beta": 1.0}))


def exponentials(scale: float) -> Codes:
    """Return exp(-scale * n) in Q0.31 for n = 0, ..., 255; 0 where the kernel leaves it out."""
    factor = min(scale * 2.0 ** (WORD.bits - 1 - DIFFERENCE_INTEGER_BITS), float(WORD.high))
    multiplier, shift = multiplier_and_power(factor)
    reach = ((1 << DIFFERENCE_INTEGER_BITS) - 1) << (WORD.bits - 1 - DIFFERENCE_INTEGER_BITS) >> shift
    differences: Codes = np.arange(LARGEST_DIFFERENCE + 1, dtype=np.int64)
    counted = differences <= reach
    fine = WORD.multiply(-np.where(counted, differences, 0) << shift, multiplier)
    return np.where(counted, WORD.exp_of_negative(fine, DIFFERENCE_INTEGER_BITS), 0)


def _reciprocals(sums: Codes) -> tuple[Codes, NDArray[np.int64]]:
    """Return the reciprocals of sums in Q12.19 as numbers in Q0.31, and by which power of two they are too large."""
    bits = np.frexp(sums.astype(np.float64))[1].astype(np.int64)
    headroom = WORD.bits - bits
    mantissas = (sums << headroom) - (1 << (WORD.bits - 1))
    return WORD.one_over_one_plus(mantissas), SUM_INTEGER_BITS - headroom


@dataclass(frozen=True)
class QuantizedSoftmax(QuantizedOperator):
    """Softmax of codes.

    Attributes:
        exponentials: in Q0.31, by how far a code lies below the largest one.
    """

    exponentials: Codes

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, exactly as the reference kernel does."""
        inputs = codes[0].numpy().astype(np.int64)
        terms = self.exponentials[inputs.max(-1, keepdims=True) - inputs]
        sums = halve(terms, SUM_INTEGER_BITS).sum(-1, keepdims=True)
        reciprocals, excess = _reciprocals(sums)
        steps = halve(WORD.multiply(terms, reciprocals), excess + WORD.bits - 1 - 8)
        return torch.from_numpy(np.clip(steps + OUTPUT.low, OUTPUT.low, OUTPUT.high).astype(np.float32))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        append_softmax(program, inputs, output)


@dataclass(frozen=True)
class InterpolatedSoftmax(QuantizedOperator):
    """Softmax of codes.

    Attributes:
        input: parameters of the input's codes.
    """

    input: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, exactly as the reference kernel does."""
        inputs = codes[0].to(torch.float64)
        factor = FixedPoint.of(self.input.scale / STEP_OF_EXPONENTIALS)
        differences = factor(inputs - inputs.amax(-1, keepdim=True)).numpy()
        terms = interpolate(EXPONENTIALS, np.clip(differences + HIGH, LOW, HIGH).astype(np.int64))
        sums = terms.sum(-1, keepdims=True)
        # The sum is 1 to 2 times a power of two, in steps of which the table's reciprocals are.
        power = np.frexp(sums.astype(np.float64))[1].astype(np.int64)
        mantissas = ((sums << (31 - power)) + (1 << 13)) >> 14
        reciprocals = interpolate(RECIPROCALS, np.clip(mantissas - (1 << 15) - (1 << 16), LOW, HIGH))
        shares = (terms * reciprocals + (1 << (power - 2))) >> (power - 1)
        return torch.from_numpy(np.clip(shares, 0, HIGH).astype(np.float32))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        append_softmax(program, inputs, output)
