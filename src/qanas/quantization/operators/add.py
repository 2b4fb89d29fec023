"""Element-wise addition of two values of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import (
    ACTIVATION_CODES,
    Activation,
    Operator,
    QuantizedOperator,
    Ranges,
    Shape,
    composed,
)
from qanas.quantization.operators.requantize import FixedPoint, activate, clamp_codes
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme

VERSION_FLOAT, VERSION_INT8 = 1, 2

FINE_STEPS = 2.0**20
"""Steps into which the kernels divide one of their inputs' codes before they add."""


@dataclass(frozen=True)
class Add(Operator):
    """``activation(a + b)``.

    Attributes:
        activation: fused.
    """

    activation: Activation = "none"

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the common shape."""
        if len(inputs) != 2 or inputs[0] != inputs[1]:  # noqa: PLR2004 - an addition has two operands
            raise ValueError(f"the addition of shapes {' and '.join(map(str, inputs))}; they must be equal")
        return inputs[0]

    def with_activation(self, activation: Activation) -> Self:
        """Return the addition with a fused activation."""
        return replace(self, activation=composed(self.activation, activation))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return activate(inputs[0] + inputs[1], self.activation)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Rescale both inputs to the output's scale."""
        del scheme
        output = Affine.from_range(*ranges.output)
        return QuantizedAdd(inputs[0], inputs[1], output, self.activation), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        _append(program, VERSION_FLOAT, inputs, output, self.activation)


def _append(
    program: Program,
    version: int,
    inputs: Sequence[RuntimeTensor],
    output: RuntimeTensor,
    activation: Activation,
) -> None:
    options = {"fusedActivationFunction": ACTIVATION_CODES[activation]}
    program.append(RuntimeOperator("ADD", version, inputs, [output], options))


@dataclass(frozen=True)
class QuantizedAdd(QuantizedOperator):
    """Addition of codes of two scales.

    Attributes:
        first: parameters of the first input's codes.
        second: parameters of the second input's codes.
        output: parameters of the output's codes.
        activation: fused.
    """

    first: Affine
    second: Affine
    output: Affine
    activation: Activation

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, exactly as the reference kernels do.

        Both inputs are brought to one scale, in steps of 2^-20 of twice the larger one's, and added; the sum is
        brought to the output's scale.
        """
        common = 2.0 * max(self.first.scale, self.second.scale)
        total = self._rescaled(codes[0], self.first, common) + self._rescaled(codes[1], self.second, common)
        factor = FixedPoint.of(common / (FINE_STEPS * self.output.scale))
        rounded = factor(total).to(torch.float32) + self.output.zero_point
        return clamp_codes(rounded, self.output, self.activation)

    @staticmethod
    def _rescaled(codes: Tensor, affine: Affine, common: float) -> Tensor:
        every_code = torch.arange(affine.low, affine.high + 1, dtype=torch.float64)
        fine = FixedPoint.of(affine.scale / common)((every_code - affine.zero_point) * FINE_STEPS)
        return fine[codes.long() - affine.low]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        _append(program, VERSION_INT8, inputs, output, self.activation)
