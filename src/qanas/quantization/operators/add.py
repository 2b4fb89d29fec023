"""Element-wise addition of two values of one shape."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from qanas.quantization.affine import Affine, Scheme, round_half_away
from qanas.quantization.operators.base import (
    ACTIVATION_CODES,
    Activation,
    Operator,
    QuantizedOperator,
    Ranges,
    Shape,
)
from qanas.quantization.operators.requantize import activate, clamp_codes
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor

VERSION_FLOAT, VERSION_INT8 = 1, 2


@dataclass(frozen=True)
class Add(Operator):
    """``activation(a + b)``.

    Attributes:
        activation: fused.
    """

    activation: Activation = "none"

    functions = (operator.add, torch.add)

    @classmethod
    def from_call(cls, *arguments: Any) -> Self:  # noqa: ANN401 - whatever the traced code passed
        """Take the addition of two values; one of a value and a constant is not covered."""
        if arguments:
            raise ValueError(f"the addition of a constant ({arguments[0]}); put it into a layer's bias")
        return cls()

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the common shape."""
        if len(inputs) != 2 or inputs[0] != inputs[1]:  # noqa: PLR2004 - an addition has two operands
            raise ValueError(f"the addition of shapes {' and '.join(map(str, inputs))}; they must be equal")
        return inputs[0]

    def with_activation(self, activation: Activation) -> Self:
        """Return the addition with a fused activation."""
        return replace(self, activation=activation)

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
        """Compute on codes."""
        real = self.first.dequantize(codes[0]) + self.second.dequantize(codes[1])
        rounded = round_half_away(real / self.output.scale) + self.output.zero_point
        return clamp_codes(rounded, self.output, self.activation)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        _append(program, VERSION_INT8, inputs, output, self.activation)
