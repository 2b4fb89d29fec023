"""Softmax over the last axis, in the kernel's 32-bit fixed point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.fixed_point_functions import Codes, Word, halve, multiplier_and_power
from qanas.quantization.operators.base import Operator, QuantizedOperator, Ranges, Shape
from qanas.quantization.operators.lookup import HIGHEST, LOWEST
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme

VERSION_FLOAT, VERSION_INT8 = 1, 2

WORD = Word(32)

DIFFERENCE_INTEGER_BITS = 5
"""Differences from the largest input are Q5.26."""

SUM_INTEGER_BITS = 12
"""The sum of exponentials is Q12.19; it overflows at 2^12 of them."""

LARGEST_DIFFERENCE = 255


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
        """Take the output parameters that the kernel demands: 256 steps from 0 to 1.

        Raises:
            ValueError: inputs that are equal to within rounding; the kernel aborts on them.
        """
        del ranges, scheme
        if inputs[0].scale * 2.0 ** (WORD.bits - 1 - DIFFERENCE_INTEGER_BITS) <= 1.0:
            raise ValueError(f"a softmax of inputs in steps of {inputs[0].scale}; the kernel takes none below 2^-26")
        return QuantizedSoftmax(exponentials(inputs[0].scale)), Affine(1.0 / 256.0, LOWEST)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        _append(program, VERSION_FLOAT, inputs, output)


def _append(program: Program, version: int, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
    program.append(RuntimeOperator("SOFTMAX", version, inputs, [output], {"beta": 1.0}))


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
        return torch.from_numpy(np.clip(steps + LOWEST, LOWEST, HIGHEST).astype(np.float32))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        _append(program, VERSION_INT8, inputs, output)
