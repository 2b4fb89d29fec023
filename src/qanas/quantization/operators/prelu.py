"""A leaky ReLU whose slope below zero differs by channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.requantization import FixedPoint, clamp_codes, float32_factor, with_reachable_scale
from qanas.quantization.operators.base import Operator, QuantizedOperator, Shape
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme

VERSION = 1


@dataclass(frozen=True)
class ParametricReLU(Operator):
    """``x`` above zero, ``slope * x`` below, over the last axis.

    Attributes:
        slopes: shape (channels,) or (1,).
    """

    slopes: Tensor

    activation_bits = (8,)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        if len(self.slopes) not in (1, inputs[0][-1]):
            raise ValueError(f"a PReLU of {len(self.slopes)} slopes got {inputs[0][-1]} channels")
        return inputs[0]

    def parameters(self) -> int:
        """Return the number of slopes."""
        return self.slopes.numel()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, ..., channels)."""
        return torch.where(inputs[0] >= 0, inputs[0], inputs[0] * self.slopes)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Quantize the slopes by their own range."""
        low, high = (float(bound) for bound in torch.aminmax(self.slopes))
        slopes = Affine.from_range(low, high)
        output = Affine.from_range(*ranges.output, bits=scheme.activation_bits)
        output = with_reachable_scale(output, inputs[0].scale * max(1.0, slopes.scale))
        return QuantizedParametricReLU(slopes.quantize(self.slopes), slopes, inputs[0], output), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        _append(program, inputs[0], RuntimeTensor.constant(_shaped(self.slopes, output).numpy()), output)


def _shaped(slopes: Tensor, output: RuntimeTensor) -> Tensor:
    """Return slopes of shape (channels,) with as many axes as a sample of the output has."""
    return slopes.detach().reshape([1] * (len(output.shape) - 2) + [-1]).contiguous()


def _append(program: Program, source: RuntimeTensor, slopes: RuntimeTensor, output: RuntimeTensor) -> None:
    program.append(RuntimeOperator("PRELU", VERSION, [source, slopes], [output]))


@dataclass(frozen=True)
class QuantizedParametricReLU(QuantizedOperator):
    """Codes rescaled on both sides of zero.

    Attributes:
        slopes: codes, float32, shape (channels,) or (1,).
        affine: their parameters.
        input: parameters of the input's codes.
        output: parameters of the output's codes.
    """

    slopes: Tensor
    affine: Affine
    input: Affine
    output: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, shape (batch, ..., channels), exactly as the reference kernels do."""
        steps = (codes[0] - self.input.zero_point).to(torch.float64)
        above = FixedPoint.of(float32_factor([self.input.scale], self.output.scale))(steps)
        factor = float32_factor([self.input.scale, self.affine.scale], self.output.scale)
        below = FixedPoint.of(factor)(steps * (self.slopes - self.affine.zero_point))
        rescaled = torch.where(steps >= 0, above, below).to(torch.float32)
        return clamp_codes(rescaled + self.output.zero_point, self.output, "none")

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator; its slopes are stored in the file."""
        slopes = RuntimeTensor.codes(_shaped(self.slopes, output).numpy(), self.affine)
        _append(program, inputs[0], slopes, output)
