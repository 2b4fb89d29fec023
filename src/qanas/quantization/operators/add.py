"""Element-wise addition of two values of one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import FastKernel, QuantizedOperator, Ranges, Shape
from qanas.quantization.operators.binary import BinaryOperator, QuantizedBinaryOperator
from qanas.quantization.operators.fast import factor_of, fine_step_of
from qanas.quantization.operators.requantize import FixedPoint, activate, clamp_codes, step_bounds
from qanas.quantization.program import DType
from qanas.quantization.scheme import Scheme

FINE_STEPS: Mapping[int, float] = {8: 2.0**20, 16: 2.0**15}
"""Steps into which the kernels divide one of their inputs' codes before they add, by the bits of the codes."""


@dataclass(frozen=True)
class Add(BinaryOperator):
    """``activation(a + b)``.

    Attributes:
        activation: fused.
    """

    kind = "ADD"

    def options(self, dtype: DType) -> Mapping[str, bool]:
        """Say that scales are no powers of two, which older kernels of 16 bits took for granted."""
        return {"potScaleInt16": False} if dtype == "int16" else {}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the common shape."""
        if len(inputs) != 2 or inputs[0] != inputs[1]:  # noqa: PLR2004 - an addition has two operands
            raise ValueError(f"the addition of shapes {' and '.join(map(str, inputs))}; they must be equal")
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return activate(inputs[0] + inputs[1], self.activation)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Rescale both inputs to the output's scale."""
        output = Affine.from_range(*ranges.output, bits=scheme.activation_bits)
        return QuantizedAdd(self, inputs[0], inputs[1], output), output


@dataclass(frozen=True)
class QuantizedAdd(QuantizedBinaryOperator):
    """Addition of codes of two scales."""

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, exactly as the reference kernels do.

        Both inputs are brought to one scale, in steps of 2^-20 (for 16 bits 2^-15) of twice the larger one's, and
        added; the sum is brought to the output's scale.
        """
        common = 2.0 * max(self.first.scale, self.second.scale)
        total = self._rescaled(codes[0], self.first, common) + self._rescaled(codes[1], self.second, common)
        factor = FixedPoint.of(common / (self._fine_steps * self.output.scale))
        rounded = factor(total).to(torch.float32) + self.output.zero_point
        return clamp_codes(rounded, self.output, self.operator.activation)

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Round in the same places, in one pass."""
        from qanas.quantization.compiled import elementwise

        common = 2.0 * max(self.first.scale, self.second.scale)
        factors = [FixedPoint.of(affine.scale / common) for affine in inputs]
        factors.append(FixedPoint.of(common / (self._fine_steps * self.output.scale)))
        units = (self._fine_steps, self._fine_steps, 1.0)
        constants = [
            float(part)
            for factor, unit in zip(factors, units, strict=True)
            for part in (unit * factor_of(factor), fine_step_of(factor))
        ]
        constants += step_bounds(output, self.operator.activation)
        numbers = np.array(constants)

        def kernel(left: Tensor, right: Tensor) -> Tensor:
            one, other = left.contiguous(), right.expand_as(left).contiguous()
            total = torch.empty_like(one)
            elementwise.add(one.view(-1).numpy(), other.view(-1).numpy(), numbers, total.view(-1).numpy())
            return total

        return kernel

    @property
    def _fine_steps(self) -> float:
        return FINE_STEPS[self.output.bits]

    def _rescaled(self, codes: Tensor, affine: Affine, common: float) -> Tensor:
        every_code = torch.arange(affine.low, affine.high + 1, dtype=torch.float64)
        fine = FixedPoint.of(affine.scale / common)((every_code - affine.zero_point) * self._fine_steps)
        return fine[codes.long() - affine.low]
