"""Values that get a scale of their own: as they are, cut off (ReLU), or shifted and scaled (hard sigmoid)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.quantization.numbers.affine import BYTE_BITS, Affine
from qanas.quantization.numbers.requantization import BOUNDS, Activation, FixedPoint, clamp_codes, with_reachable_scale
from qanas.quantization.operators.arithmetic import Add, Multiply, WithConstant
from qanas.quantization.operators.base import Operator, QuantizedOperator, Shape
from qanas.quantization.program import (
    COMMON_VERSIONS,
    Program,
    RuntimeOperator,
    RuntimeTensor,
    TensorQuantization,
    append_reshape,
)
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.simulation.fast import FastKernel, tabulated

QUANTIZE_VERSION = 2


def requantized(codes: Tensor, source: Affine, output: Affine) -> Tensor:
    """Return the codes of ``source``, any shape, as codes of ``output``, as the reference kernel does."""
    rescaled = FixedPoint.of(source.scale / output.scale)((codes - source.zero_point).to(torch.float64))
    return clamp_codes(rescaled.to(torch.float32) + output.zero_point, output, "none")


def append_quantize(program: Program, source: RuntimeTensor, output: RuntimeTensor) -> None:
    """Append QUANTIZE from codes to codes."""
    program.append(RuntimeOperator("QUANTIZE", QUANTIZE_VERSION, [source], [output]))


@dataclass(frozen=True)
class Quantize(Operator):
    """A value that gets a scale of its own; in float32, the value itself."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the value, shape (batch, *shape)."""
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
        """Rescale the codes, shape (batch, *shape)."""
        return requantized(codes[0], self.input, self.output)

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Look all codes up that there are."""
        return tabulated(self.forward, inputs[0], output)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append QUANTIZE."""
        append_quantize(program, inputs[0], output)


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
        """Compute in float32, shape (batch, *shape)."""
        return inputs[0].clamp(*BOUNDS[self.activation])

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Give the output a scale of its own: the range is half of the input's or less."""
        output = Affine.from_range(*ranges.output, bits=scheme.activation_bits)
        output = with_reachable_scale(output, inputs[0].scale)
        return QuantizedReLU(inputs[0], output, self.activation), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        program.append(RuntimeOperator(KINDS[self.activation], COMMON_VERSIONS["float32"], inputs, [output]))


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
        """Compute on codes, shape (batch, *shape), exactly as the reference kernels do."""
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
        program.append(RuntimeOperator(KINDS[self.activation], COMMON_VERSIONS[output.dtype], [source], [output]))


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
        """Compute in float32, shape (batch, *shape)."""
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
        """Compute on codes, shape (batch, *shape)."""
        return self.scaling.forward(self.shift.forward(*codes))

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Look all codes up that there are."""
        return tabulated(self.forward, inputs[0], output)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append both."""
        between = RuntimeTensor(output.shape, output.dtype, TensorQuantization.of(self.shifted))
        self.shift.lower(program, inputs, between)
        self.scaling.lower(program, [between], output)
