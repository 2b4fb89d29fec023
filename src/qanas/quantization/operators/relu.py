"""ReLU or ReLU6 that could not be fused into the operator before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import (
    Activation,
    FastKernel,
    Operator,
    QuantizedOperator,
    Ranges,
    Shape,
    in_file,
)
from qanas.quantization.operators.fast import tabulated
from qanas.quantization.operators.quantize import append_quantize, requantized
from qanas.quantization.operators.requantize import BOUNDS, FixedPoint, clamp_codes, with_reachable_scale
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme

VERSION_FLOAT, VERSION_INT8 = 1, 2

KINDS: Mapping[Activation, str] = {"relu": "RELU", "relu6": "RELU6"}


@dataclass(frozen=True)
class ReLU(Operator):
    """``max(x, 0)``, or ``min(max(x, 0), 6)``.

    Attributes:
        activation: which.
    """

    activation: Activation = "relu"

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return inputs[0].clamp(*BOUNDS[self.activation])

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Give the output a scale of its own: the range is half of the input's or less."""
        del scheme
        output = with_reachable_scale(Affine.from_range(*ranges.output), inputs[0].scale)
        return QuantizedReLU(inputs[0], output, self.activation), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        program.append(RuntimeOperator(KINDS[self.activation], VERSION_FLOAT, inputs, [output]))


@dataclass(frozen=True)
class QuantizedReLU(QuantizedOperator):
    """ReLU between two scales.

    Attributes:
        input: parameters of the input's codes.
        output: parameters of the output's codes.
        activation: which.
    """

    input: Affine
    output: Affine
    activation: Activation

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, exactly as the reference kernels do."""
        if self.activation == "relu6":
            return clamp_codes(requantized(codes[0], self.input, self.output), self.output, self.activation)
        # RELU divides the scales in float32, QUANTIZE in double precision.
        factor = float(np.float32(self.input.scale) / np.float32(self.output.scale))
        rounded = FixedPoint.of(factor)((codes[0] - self.input.zero_point).double())
        return clamp_codes(rounded.float() + self.output.zero_point, self.output, self.activation)

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Look all codes up that there are."""
        return tabulated(self.forward, inputs[0], output)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator; in front of RELU6 a QUANTIZE, as TFLite Micro's kernel rescales nothing."""
        source = inputs[0]
        if self.activation == "relu6":
            rescaled = RuntimeTensor(output.shape, output.dtype, output.quantization)
            append_quantize(program, source, rescaled)
            source = rescaled
        program.append(RuntimeOperator(KINDS[in_file(self.activation, output)], VERSION_INT8, [source], [output]))
