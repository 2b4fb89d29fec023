"""Element-wise multiplication, one of the values repeated along axes of size 1: gates of squeeze-and-excite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import FastKernel, QuantizedOperator, Ranges, Shape
from qanas.quantization.operators.binary import BinaryOperator, QuantizedBinaryOperator
from qanas.quantization.operators.fast import requantization
from qanas.quantization.operators.requantize import (
    FixedPoint,
    activate,
    clamp_codes,
    float32_factor,
    largest_factor_of_products,
    step_bounds,
    with_reachable_scale,
)
from qanas.quantization.program import DType
from qanas.quantization.scheme import Scheme


@dataclass(frozen=True)
class Multiply(BinaryOperator):
    """``activation(a * b)``.

    Attributes:
        activation: fused.
    """

    kind = "MUL"
    versions: ClassVar[Mapping[DType, int]] = {"float32": 1, "int8": 2, "int16": 4}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape in which every axis has the larger of both sizes."""
        if len(inputs) != 2 or len(inputs[0]) != len(inputs[1]):  # noqa: PLR2004 - a product has two operands
            raise ValueError(f"the product of shapes {' and '.join(map(str, inputs))}; they need as many axes")
        for one, other in zip(*inputs, strict=True):
            if one != other and 1 not in (one, other):
                raise ValueError(f"the product of shapes {inputs[0]} and {inputs[1]}; sizes must be equal or 1")
        return tuple(max(sizes) for sizes in zip(*inputs, strict=True))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return activate(inputs[0] * inputs[1], self.activation)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Give the product a scale of its own."""
        output = Affine.from_range(*ranges.output, bits=scheme.activation_bits)
        output = with_reachable_scale(output, inputs[0].scale * inputs[1].scale, largest_factor_of_products(inputs))
        return QuantizedMultiply(self, inputs[0], inputs[1], output), output


@dataclass(frozen=True)
class QuantizedMultiply(QuantizedBinaryOperator):
    """Integer products, rescaled once."""

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, exactly as the reference kernels do."""
        # Products of 16-bit codes have more digits than a float32.
        first, second = (part.to(torch.float64) if self.first.wide else part for part in codes)
        products = (first - self.first.zero_point) * (second - self.second.zero_point)
        rescaled = self._factor()(products.to(torch.float64)).to(torch.float32)
        return clamp_codes(rescaled + self.output.zero_point, self.output, self.operator.activation)

    def _factor(self) -> FixedPoint:
        return FixedPoint.of(float32_factor([self.first.scale, self.second.scale], self.output.scale))

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Rescale in one pass."""
        if self.first.wide:
            return super().fast_kernel(inputs, output)
        requantize = requantization(self._factor(), 0, step_bounds(output, self.operator.activation))
        return lambda left, right: requantize(left * right)
