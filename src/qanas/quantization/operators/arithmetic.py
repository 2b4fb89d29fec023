"""Element-wise sums, differences and products of two values, one of which may be a constant.

Values are repeated along axes of size 1: gates of squeeze-and-excite, means that are subtracted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.requantization import (
    Activation,
    FixedPoint,
    activate,
    clamp_codes,
    composed,
    float32_factor,
    largest_factor_of_products,
    step_bounds,
    with_reachable_scale,
)
from qanas.quantization.operators.base import ACTIVATION_CODES, Operator, QuantizedOperator, Shape
from qanas.quantization.program import COMMON_VERSIONS, DType, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.simulation.fast import FastKernel, factor_of, fine_step_of, requantization, tabulated


@dataclass(frozen=True)
class BinaryOperator(Operator):
    """A function of two values and an activation.

    Attributes:
        activation: fused.
    """

    activation: Activation = "none"

    kind: ClassVar[str]
    """The name of the builtin operator."""

    noun: ClassVar[str]
    """What people call it."""

    versions: ClassVar[Mapping[DType, int]] = COMMON_VERSIONS

    def options(self, dtype: DType) -> Mapping[str, bool]:
        """Return further fields of the option table, for values of a type."""
        del dtype
        return {}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape in which every axis has the larger of both sizes."""
        return repeated_shape(self.noun, *inputs)

    def with_activation(self, activation: Activation) -> Self:
        """Return the operator with an activation behind the one that it has."""
        return replace(self, activation=composed(self.activation, activation))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator; the same for codes and real values."""
        options = {"fusedActivationFunction": ACTIVATION_CODES[self.activation], **self.options(output.dtype)}
        program.append(RuntimeOperator(self.kind, self.versions[output.dtype], inputs, [output], options))


def repeated_shape(noun: str, *inputs: Shape) -> Shape:
    """Return the shape of what is computed element by element of two values, repeated along axes of size 1.

    Args:
        noun: what people call it.
        inputs: shapes of one sample.

    Raises:
        ValueError: shapes that don't fit.
    """
    named = f"the {noun} of shapes {' and '.join(map(str, inputs))}"
    if len(inputs) != 2 or len(inputs[0]) != len(inputs[1]):  # noqa: PLR2004 - there are two operands
        raise ValueError(f"{named}; they need as many axes")
    if any(one != other and 1 not in (one, other) for one, other in zip(*inputs, strict=True)):
        raise ValueError(f"{named}; sizes must be equal or 1")
    return tuple(max(sizes) for sizes in zip(*inputs, strict=True))


@dataclass(frozen=True)
class QuantizedBinaryOperator(QuantizedOperator):
    """A function of two values' codes.

    Attributes:
        operator: what is computed, with its activation.
        first: parameters of the first input's codes.
        second: parameters of the second input's codes.
        output: parameters of the output's codes.
    """

    operator: BinaryOperator
    first: Affine
    second: Affine
    output: Affine

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        self.operator.lower(program, inputs, output)


FINE_STEPS: Mapping[int, float] = {8: 2.0**20, 16: 2.0**15}
"""Steps into which the kernels divide one of their inputs' codes before they add, by the bits of the codes."""

LARGEST_FACTOR_OF_SUMS: Mapping[int, float] = {bits: (0.5 - 2.0**-20) * steps for bits, steps in FINE_STEPS.items()}
"""From the coarser input's codes to the output's: at half of the steps that output is as fine as they are, and LiteRT
aborts the whole process."""


@dataclass(frozen=True)
class Add(BinaryOperator):
    """``activation(a + b)``.

    Attributes:
        activation: fused.
    """

    kind = "ADD"
    noun = "addition"

    def options(self, dtype: DType) -> Mapping[str, bool]:
        """Say that scales are no powers of two, which older kernels of 16 bits took for granted."""
        return {"potScaleInt16": False} if dtype == "int16" else {}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, two values whose shape differs in axes of size 1."""
        return activate(self.combined(inputs[0], inputs[1]), self.activation)

    @staticmethod
    def combined(one: Tensor, other: Tensor) -> Tensor:
        """Return what is done to two values of one unit, of shapes that differ in axes of size 1."""
        return one + other

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Rescale both inputs to the output's scale, which is no finer than the kernel's steps."""
        output = Affine.from_range(*ranges.output, bits=scheme.activation_bits)
        coarser = max(affine.scale for affine in inputs)
        output = with_reachable_scale(output, coarser, LARGEST_FACTOR_OF_SUMS[scheme.activation_bits])
        return QuantizedAdd(self, inputs[0], inputs[1], output), output


@dataclass(frozen=True)
class Subtract(Add):
    """``activation(a - b)``.

    Attributes:
        activation: fused.
    """

    kind = "SUB"
    noun = "difference"
    versions: ClassVar[Mapping[DType, int]] = {"float32": 1, "int8": 2, "int16": 5}

    @staticmethod
    def combined(one: Tensor, other: Tensor) -> Tensor:
        """Return what is done to two values of one unit, of shapes that differ in axes of size 1."""
        return one - other


@dataclass(frozen=True)
class QuantizedAdd(QuantizedBinaryOperator):
    """Addition or subtraction of codes of two scales."""

    operator: Add

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, whose shape differs in axes of size 1, exactly as the reference kernels do.

        Both inputs are brought to one scale, in steps of 2^-20 (for 16 bits 2^-15) of twice the larger one's, and
        combined; the result is brought to the output's scale.
        """
        common = 2.0 * max(self.first.scale, self.second.scale)
        parts = (self._rescaled(codes[0], self.first, common), self._rescaled(codes[1], self.second, common))
        total = self.operator.combined(*parts)
        factor = FixedPoint.of(common / (self._fine_steps * self.output.scale))
        rounded = factor(total).to(torch.float32) + self.output.zero_point
        return clamp_codes(rounded, self.output, self.operator.activation)

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Round in the same places, in one pass."""
        from qanas.quantization.simulation import compiled

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
        if isinstance(self.operator, Subtract):
            # The fine step of the second input: its parts are rounded before they are subtracted.
            constants[3] = -constants[3]
        numbers = np.array(constants)

        def kernel(left: Tensor, right: Tensor) -> Tensor:
            shape = np.broadcast_shapes(left.shape, right.shape)
            one, other = (part.expand(shape).contiguous() for part in (left, right))
            total = torch.empty_like(one)
            compiled.add(one.view(-1).numpy(), other.view(-1).numpy(), numbers, total.view(-1).numpy())
            return total

        return kernel

    @property
    def _fine_steps(self) -> float:
        return FINE_STEPS[self.output.bits]

    def _rescaled(self, codes: Tensor, affine: Affine, common: float) -> Tensor:
        every_code = torch.arange(affine.low, affine.high + 1, dtype=torch.float64)
        fine = FixedPoint.of(affine.scale / common)((every_code - affine.zero_point) * self._fine_steps)
        return fine[codes.long() - affine.low]


@dataclass(frozen=True)
class Multiply(BinaryOperator):
    """``activation(a * b)``.

    Attributes:
        activation: fused.
    """

    kind = "MUL"
    noun = "product"
    versions: ClassVar[Mapping[DType, int]] = {"float32": 1, "int8": 2, "int16": 4}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, two values whose shape differs in axes of size 1."""
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
        """Compute on codes, whose shape differs in axes of size 1, exactly as the reference kernels do."""
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


@dataclass(frozen=True)
class WithConstant(Operator):
    """``a + c``, ``a - c`` or ``a * c``.

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
        """Compute in float32, shape (batch, *shape)."""
        return self.operator.forward(inputs[0], self.constant)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Quantize the constant by its own range; zeros, which any scale has, are added in the input's steps."""
        low, high = (float(bound) for bound in torch.aminmax(self.constant))
        affine = Affine.from_range(low, high, bits=scheme.activation_bits)
        if isinstance(self.operator, Add) and not bool(affine.quantize(self.constant).any()):
            affine = replace(affine, scale=inputs[0].scale)
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
        """Compute on codes, shape (batch, *shape)."""
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
