"""Mean over axes, such as height and width: global average pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod

import torch
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.fixed_point_functions import multiplier_and_power
from qanas.quantization.operators.base import FastKernel, Operator, QuantizedOperator, Ranges, Shape
from qanas.quantization.operators.fast import requantization
from qanas.quantization.operators.requantize import FixedPoint, clamp_codes, step_bounds, with_reachable_scale
from qanas.quantization.program import COMMON_VERSIONS, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme


@dataclass(frozen=True)
class Mean(Operator):
    """The mean over some axes.

    Attributes:
        axes: of the sample, counted from 0.
        keeps_axes: whether they stay, with size 1.
    """

    axes: tuple[int, ...]
    keeps_axes: bool = field(default=False, kw_only=True)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape without the axes, or with size 1 there."""
        shape = inputs[0]
        if not self.axes or len(set(self.axes)) < len(self.axes) or not set(self.axes) <= set(range(len(shape))):
            raise ValueError(f"a mean over the axes {self.axes} of the shape {shape}")
        if self.keeps_axes:
            return tuple(1 if axis in self.axes else size for axis, size in enumerate(shape))
        return tuple(size for axis, size in enumerate(shape) if axis not in self.axes)

    @property
    def batched_axes(self) -> tuple[int, ...]:
        """The axes with the batch in front."""
        return tuple(axis + 1 for axis in self.axes)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return inputs[0].mean(self.batched_axes, keepdim=self.keeps_axes)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Give the output a scale of its own: means reach less far than what they are taken of."""
        output = Affine.from_range(*ranges.output, bits=scheme.activation_bits)
        output = with_reachable_scale(output, inputs[0].scale)
        return QuantizedMean(self, inputs[0], output), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append MEAN; the same for codes and real values."""
        options, axes = {"keepDims": self.keeps_axes}, program.indices(self.batched_axes)
        program.append(RuntimeOperator("MEAN", COMMON_VERSIONS[output.dtype], [inputs[0], axes], [output], options))


def factor_of_sum(scale: float, output_scale: float, count: int) -> FixedPoint:
    """Return the kernel's factor from a sum of ``count`` codes to the mean's codes.

    The division goes into the 31-bit multiplier, kept large by a shift first, and is truncated.
    """
    multiplier, exponent = multiplier_and_power(scale / output_scale)
    shift = min(count.bit_length() - 1, 32, 31 + exponent)
    multiplier = (multiplier << shift) // count
    power = exponent - shift
    parts = (multiplier / 2.0**31, 2.0 ** max(power, 0), 2.0 ** min(power, 0))
    return FixedPoint(*(torch.tensor(part, dtype=torch.float64) for part in parts))


@dataclass(frozen=True)
class QuantizedMean(QuantizedOperator):
    """The mean of codes, rescaled.

    Attributes:
        mean: over which axes.
        input: parameters of the input's codes.
        output: parameters of the output's codes.
    """

    mean: Mean
    input: Affine
    output: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, exactly as the reference kernel does."""
        axes = self.mean.batched_axes
        sums = (codes[0].to(torch.float64) - self.input.zero_point).sum(axes, keepdim=self.mean.keeps_axes)
        count = prod(codes[0].shape[axis] for axis in axes)
        means = factor_of_sum(self.input.scale, self.output.scale, count)(sums)
        return clamp_codes(means.to(torch.float32) + self.output.zero_point, self.output, "none")

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Rescale in one pass; float32 holds the sums of 65,000 codes of 8 bits."""
        if self.input.wide:
            return super().fast_kernel(inputs, output)
        axes, bounds = self.mean.batched_axes, step_bounds(output, "none")

        @cache
        def requantize(count: int) -> Callable[[Tensor], Tensor]:
            return requantization(factor_of_sum(self.input.scale, self.output.scale, count), 0, bounds)

        def kernel(steps: Tensor) -> Tensor:
            sums = steps.sum(axes, keepdim=self.mean.keeps_axes)
            return requantize(prod(steps.shape[axis] for axis in axes))(sums)

        return kernel

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        self.mean.lower(program, inputs, output)
