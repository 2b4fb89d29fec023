"""The product of two matrices that both depend on the network's input: attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.requantization import FixedPoint, clamp_codes, with_reachable_scale
from qanas.quantization.operators.base import Operator, QuantizedOperator, Shape
from qanas.quantization.program import DType, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme

FEWEST_AXES = 2
"""Rows and columns; what lies in front of them is multiplied one by one."""


@dataclass(frozen=True)
class MatrixProduct(Operator):
    """``a @ b.T`` for every position of the leading axes; shapes (..., rows, inner) and (..., columns, inner).

    So TFLite Micro keeps no copy of the second matrix: of one that comes as (..., inner, columns) it does, for ever.
    """

    versions: ClassVar[Mapping[DType, int]] = {"float32": 1, "int8": 2, "int16": 3}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (..., rows, columns).

        Raises:
            ValueError: shapes that don't fit.
        """
        one, other = inputs
        fits = len(one) == len(other) >= FEWEST_AXES and one[:-2] == other[:-2] and one[-1] == other[-1]
        if not fits:
            raise ValueError(f"the matrix product of rows of {one} and {other}; all axes but rows must be equal")
        return (*one[:-1], other[-2])

    def macs(self, *inputs: Shape) -> int:
        """Return those of all products."""
        return int(np.prod(self.output_shape(*inputs), dtype=np.int64)) * inputs[0][-1]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute shapes (batch, ..., rows, inner) and (batch, ..., columns, inner), in the inputs' type."""
        return inputs[0] @ inputs[1].transpose(-1, -2)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Give the product a scale of its own."""
        output = Affine.from_range(*ranges.output, bits=scheme.activation_bits)
        output = with_reachable_scale(output, inputs[0].scale * inputs[1].scale)
        return QuantizedMatrixProduct(self, inputs[0], inputs[1], output), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append BATCH_MATMUL; the same for codes and real values."""
        version = self.versions[output.dtype]
        program.append(RuntimeOperator("BATCH_MATMUL", version, inputs, [output], {"adjY": True}))


@dataclass(frozen=True)
class QuantizedMatrixProduct(QuantizedOperator):
    """Sums of products of codes, rescaled once.

    Attributes:
        product: which.
        first: parameters of the first input's codes.
        second: parameters of the second input's codes.
        output: parameters of the output's codes.
    """

    product: MatrixProduct
    first: Affine
    second: Affine
    output: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, shapes (batch, ..., rows, inner) and (batch, ..., columns, inner), as the kernels do."""
        first, second = (
            part.to(torch.float64) - affine.zero_point
            for part, affine in zip(codes, (self.first, self.second), strict=True)
        )
        # The kernels multiply the scales in float32.
        scale = float(np.float32(self.first.scale) * np.float32(self.second.scale))
        fixed_point = FixedPoint.of_sums if self.first.wide else FixedPoint.of
        steps = fixed_point(scale / self.output.scale)(self.product.forward(first, second))
        return clamp_codes(steps.to(torch.float32) + self.output.zero_point, self.output, "none")

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        self.product.lower(program, inputs, output)
