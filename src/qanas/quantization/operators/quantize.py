"""The same values in codes of other parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import FastKernel, Operator, QuantizedOperator, Ranges, Shape
from qanas.quantization.operators.fast import tabulated
from qanas.quantization.operators.requantize import FixedPoint, clamp_codes, with_reachable_scale
from qanas.quantization.operators.reshape import append_reshape
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme

VERSION = 2


def requantized(codes: Tensor, source: Affine, output: Affine) -> Tensor:
    """Return the codes of ``source`` as codes of ``output``, as the reference kernel does."""
    rescaled = FixedPoint.of(source.scale / output.scale)((codes - source.zero_point).to(torch.float64))
    return clamp_codes(rescaled.to(torch.float32) + output.zero_point, output, "none")


def append_quantize(program: Program, source: RuntimeTensor, output: RuntimeTensor) -> None:
    """Append QUANTIZE from codes to codes."""
    program.append(RuntimeOperator("QUANTIZE", VERSION, [source], [output]))


@dataclass(frozen=True)
class Quantize(Operator):
    """A value that gets a scale of its own; in float32, the value itself."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the value."""
        return inputs[0]

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Take the parameters of the output's own range."""
        output = Affine.from_range(*ranges.output, bits=scheme.activation_bits)
        output = with_reachable_scale(output, inputs[0].scale)
        return QuantizedQuantize(inputs[0], output), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append a RESHAPE to the same shape: float32 has nothing to rescale, but the output is another tensor."""
        append_reshape(program, inputs[0], output)


@dataclass(frozen=True)
class QuantizedQuantize(QuantizedOperator):
    """From codes to codes.

    Attributes:
        input: parameters of the input's codes.
        output: parameters of the output's codes.
    """

    input: Affine
    output: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Rescale the codes."""
        return requantized(codes[0], self.input, self.output)

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Look all codes up that there are."""
        return tabulated(self.forward, inputs[0], output)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append QUANTIZE."""
        append_quantize(program, inputs[0], output)
