"""ReLU that could not be fused into the operator before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.quantization.affine import Affine, round_half_away
from qanas.quantization.operators.base import Operator, QuantizedOperator, Ranges, Shape
from qanas.quantization.operators.requantize import clamp_codes
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme

VERSION_FLOAT, VERSION_INT8 = 1, 2


@dataclass(frozen=True)
class ReLU(Operator):
    """``max(x, 0)``."""

    modules = (nn.ReLU,)
    functions = (torch.relu, F.relu)

    @classmethod
    def from_module(cls, module: nn.Module) -> Self:
        """Take any `torch.nn.ReLU`: it has no settings that matter here."""
        del module
        return cls()

    @classmethod
    def from_call(cls, *arguments: Any) -> Self:  # noqa: ANN401 - whatever the traced code passed
        """Take a call with or without ``inplace``."""
        del arguments
        return cls()

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return torch.relu(inputs[0])

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Give the output a scale of its own: the range is half of the input's or less."""
        del scheme
        output = Affine.from_range(*ranges.output)
        return QuantizedReLU(inputs[0], output), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        program.append(RuntimeOperator("RELU", VERSION_FLOAT, inputs, [output]))


@dataclass(frozen=True)
class QuantizedReLU(QuantizedOperator):
    """ReLU between two scales.

    Attributes:
        input: parameters of the input's codes.
        output: parameters of the output's codes.
    """

    input: Affine
    output: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes."""
        scaled = (codes[0] - self.input.zero_point) * (self.input.scale / self.output.scale)
        return clamp_codes(round_half_away(scaled) + self.output.zero_point, self.output, "relu")

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        program.append(RuntimeOperator("RELU", VERSION_INT8, inputs, [output]))
