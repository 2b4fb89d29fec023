"""An operator of two values, one of which is a constant: scaling and shifting by what training does not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.add import Add
from qanas.quantization.operators.base import Activation, FastKernel, Operator, QuantizedOperator, Ranges, Shape
from qanas.quantization.operators.fast import tabulated
from qanas.quantization.operators.multiply import Multiply
from qanas.quantization.program import Program, RuntimeTensor
from qanas.quantization.scheme import Scheme


@dataclass(frozen=True)
class WithConstant(Operator):
    """``a + c`` or ``a * c``.

    Attributes:
        operator: what is computed.
        constant: c, float32, repeated along axes of size 1 and leading ones that it lacks: shape (channels,) or (1,).
    """

    operator: Add | Multiply
    constant: Tensor

    def tensors(self) -> Mapping[str, Tensor]:
        """Return none: training leaves the constant as it is."""
        return {}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        shape = inputs[0]
        sizes = tuple(self.constant.shape)
        fits = len(sizes) <= len(shape) and all(
            size in (1, whole) for size, whole in zip(reversed(sizes), reversed(shape), strict=False)
        )
        if not fits:
            raise ValueError(f"a constant of shape {sizes} with a value of shape {shape}")
        return shape

    def with_activation(self, activation: Activation) -> Self:
        """Return the operator with a fused activation."""
        return replace(self, operator=self.operator.with_activation(activation))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return self.operator.forward(inputs[0], self.constant)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Quantize the constant by its own range."""
        low, high = (float(bound) for bound in torch.aminmax(self.constant))
        affine = Affine.from_range(low, high, bits=scheme.activation_bits)
        quantized, output = self.operator.quantize([inputs[0], affine], ranges, scheme)
        return QuantizedWithConstant(quantized, affine.quantize(self.constant), affine), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        constant = RuntimeTensor.constant(self.constant.numpy())
        self.operator.lower(program, [inputs[0], constant], output)


@dataclass(frozen=True)
class QuantizedWithConstant(QuantizedOperator):
    """The integer operator and the constant's codes.

    Attributes:
        operator: of two values.
        codes: of the constant, float32.
        affine: their parameters.
    """

    operator: QuantizedOperator
    codes: Tensor
    affine: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes."""
        return self.operator.forward(codes[0], self.codes)

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Look all codes up that there are, unless the constant differs by channel."""
        if self.codes.numel() == 1:
            return tabulated(lambda codes: self.forward(codes).reshape(-1), inputs[0], output)
        kernel = self.operator.fast_kernel([inputs[0], self.affine], output)
        constant = self.codes - self.affine.zero_point
        return lambda steps: kernel(steps, constant)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator; its second input is stored in the file."""
        constant = RuntimeTensor.codes(self.codes.numpy(), self.affine)
        self.operator.lower(program, [inputs[0], constant], output)
