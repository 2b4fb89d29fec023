"""Hard sigmoid, which the runtime lacks: an addition that saturates, and a multiplication."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.quantization.affine import BYTE_BITS, Affine
from qanas.quantization.operators.add import Add
from qanas.quantization.operators.base import FastKernel, Operator, QuantizedOperator, Ranges, Shape
from qanas.quantization.operators.fast import tabulated
from qanas.quantization.operators.multiply import Multiply
from qanas.quantization.operators.with_constant import WithConstant
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor, TensorQuantization
from qanas.quantization.scheme import Scheme

SIX = 6.0

SHIFT = WithConstant(Add(), torch.tensor([SIX / 2.0]))
SCALING = WithConstant(Multiply(), torch.tensor([1.0 / SIX]))


@dataclass(frozen=True)
class HardSigmoid(Operator):
    """``min(max(x + 3, 0), 6) / 6``."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return F.hardsigmoid(inputs[0])

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Give ``x + 3`` the codes of 0 to 6: saturation does what the minimum and the maximum say.

        Codes of 16 bits are symmetric and go on below 0; there a ReLU does what the maximum says.
        """
        addition = SHIFT.with_activation("relu") if scheme.activation_bits != BYTE_BITS else SHIFT
        shift, shifted = addition.quantize(inputs, Ranges((0.0, SIX), {}), scheme)
        scaling, output = SCALING.quantize([shifted], ranges, scheme)
        return QuantizedHardSigmoid(shift, shifted, scaling), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operators, which don't saturate."""
        shifted, clipped = (RuntimeTensor(output.shape, output.dtype) for _ in range(2))
        SHIFT.lower(program, inputs, shifted)
        program.append(RuntimeOperator("RELU6", 1, [shifted], [clipped]))
        SCALING.lower(program, [clipped], output)


@dataclass(frozen=True)
class QuantizedHardSigmoid(QuantizedOperator):
    """Both integer operators.

    Attributes:
        shift: the addition.
        shifted: parameters of its codes.
        scaling: the multiplication.
    """

    shift: QuantizedOperator
    shifted: Affine
    scaling: QuantizedOperator

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes."""
        return self.scaling.forward(self.shift.forward(*codes))

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Look all codes up that there are."""
        return tabulated(self.forward, inputs[0], output)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append both."""
        between = RuntimeTensor(output.shape, output.dtype, TensorQuantization.of(self.shifted))
        self.shift.lower(program, inputs, between)
        self.scaling.lower(program, [between], output)
