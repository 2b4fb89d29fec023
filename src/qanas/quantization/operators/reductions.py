"""Means and softmaxes: what goes over whole axes.

A mean over height and width is global average pooling. Softmax is in 32-bit fixed point on codes of 8 bits, by tables
on codes of 16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.functions import (
    HIGHEST_WORD,
    LOWEST_WORD,
    Codes,
    Word,
    interpolate,
    interpolation_table,
    multiplier_and_power,
)
from qanas.quantization.numbers.requantization import FixedPoint, clamp_codes, step_bounds, with_reachable_scale
from qanas.quantization.numbers.rounding import halve
from qanas.quantization.operators.base import Operator, QuantizedOperator, Shape
from qanas.quantization.program import COMMON_VERSIONS, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.simulation.fast import FastKernel, requantization


def reduced_shape(shape: Shape, axes: Sequence[int], *, keeps_axes: bool) -> Shape:
    """Return a shape without some axes, or with size 1 there.

    Raises:
        ValueError: axes that aren't there, or none.
    """
    if not axes or len(set(axes)) < len(axes) or not set(axes) <= set(range(len(shape))):
        raise ValueError(f"a mean or extreme over the axes {tuple(axes)} of the shape {shape}")
    if keeps_axes:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


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
        return reduced_shape(inputs[0], self.axes, keeps_axes=self.keeps_axes)

    @property
    def batched_axes(self) -> tuple[int, ...]:
        """The axes with the batch in front."""
        return tuple(axis + 1 for axis in self.axes)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, *shape)."""
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
        """Compute on codes, shape (batch, *shape), exactly as the reference kernel does."""
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


OUTPUT, WIDE_OUTPUT = Affine(1.0 / 256.0, -128), Affine(1.0 / 32768.0, 0, 16)

WORD = Word(32)

DIFFERENCE_INTEGER_BITS = 5
"""Differences from the largest input are Q5.26."""

SUM_INTEGER_BITS = 12
"""The sum of exponentials is Q12.19; it overflows at 2^12 of them."""

LARGEST_EXCESS = 8
"""A sum of 2^9 and more of them would have the result shifted by more than 31 bits, which the kernel refuses."""

LARGEST_DIFFERENCE = 255

EXPONENTIALS = interpolation_table(np.exp, -10.0, 0.0)
"""exp(x) for codes of 16 bits from -10 to 0; smaller ones are taken for -10."""

STEP_OF_EXPONENTIALS = 10.0 / 65535.0

RECIPROCALS = interpolation_table(lambda x: 1.0 / (1.0 + x), 0.0, 1.0)
"""1 / (1 + x) for codes of 16 bits from 0 to 1."""


@dataclass(frozen=True)
class Softmax(Operator):
    """``exp(x) / sum(exp(x))`` over the last axis."""

    parameters_from = "kernel"

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        if inputs[0][-1] >= 1 << SUM_INTEGER_BITS:
            raise ValueError(
                f"a softmax of {inputs[0][-1]} values; the kernel's sum holds {(1 << SUM_INTEGER_BITS) - 1}"
            )
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, ..., classes)."""
        return torch.softmax(inputs[0], -1)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Take the output parameters that the kernel demands: 256 steps from 0 to 1, or 32,768.

        Raises:
            ValueError: inputs that are equal to within rounding; the kernel aborts on them.
        """
        del ranges, scheme
        if inputs[0].wide:
            return InterpolatedSoftmax(inputs[0]), replace(WIDE_OUTPUT)
        if inputs[0].scale * 2.0 ** (WORD.bits - 1 - DIFFERENCE_INTEGER_BITS) <= 1.0:
            raise ValueError(f"a softmax of inputs in steps of {inputs[0].scale}; the kernel takes none below 2^-26")
        return QuantizedSoftmax(exponentials(inputs[0].scale)), replace(OUTPUT)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        append_softmax(program, inputs, output)


def append_softmax(program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
    """Append SOFTMAX; the same for codes and real values."""
    program.append(RuntimeOperator("SOFTMAX", COMMON_VERSIONS[output.dtype], inputs, [output], {"beta": 1.0}))


def exponentials(scale: float) -> Codes:
    """Return exp(-scale * n) in Q0.31 for n = 0, ..., 255, shape (256,); 0 where the kernel leaves it out."""
    factor = min(scale * 2.0 ** (WORD.bits - 1 - DIFFERENCE_INTEGER_BITS), float(WORD.high))
    multiplier, shift = multiplier_and_power(factor)
    reach = ((1 << DIFFERENCE_INTEGER_BITS) - 1) << (WORD.bits - 1 - DIFFERENCE_INTEGER_BITS) >> shift
    differences: Codes = np.arange(LARGEST_DIFFERENCE + 1, dtype=np.int64)
    counted = differences <= reach
    fine = WORD.multiply(-np.where(counted, differences, 0) << shift, multiplier)
    return np.where(counted, WORD.exp_of_negative(fine, DIFFERENCE_INTEGER_BITS), 0)


def _reciprocals(sums: Codes) -> tuple[Codes, NDArray[np.int64]]:
    """Return the reciprocals of sums in Q12.19 as numbers in Q0.31, and by which power of two they are too large."""
    bits = np.frexp(sums.astype(np.float64))[1].astype(np.int64)
    headroom = WORD.bits - bits
    mantissas = (sums << headroom) - (1 << (WORD.bits - 1))
    return WORD.one_over_one_plus(mantissas), SUM_INTEGER_BITS - headroom


@dataclass(frozen=True)
class QuantizedSoftmax(QuantizedOperator):
    """Softmax of codes.

    Attributes:
        exponentials: in Q0.31, by how far a code lies below the largest one.
    """

    exponentials: Codes

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, shape (batch, ..., classes), exactly as the reference kernel does.

        Raises:
            ValueError: sums that the kernel aborts on, and the process with it.
        """
        inputs = codes[0].numpy().astype(np.int64)
        terms = self.exponentials[inputs.max(-1, keepdims=True) - inputs]
        sums = halve(terms, SUM_INTEGER_BITS).sum(-1, keepdims=True)
        reciprocals, excess = _reciprocals(sums)
        if int(excess.max()) > LARGEST_EXCESS:
            raise ValueError(
                f"a softmax over {inputs.shape[-1]} values that are nearly equal: the kernel of 8 bits aborts where "
                f"their exponentials add up to {2 << LARGEST_EXCESS} times the largest; take fewer of them, or 16 bits "
                "(activation_bits=16)"
            )
        steps = halve(WORD.multiply(terms, reciprocals), excess + WORD.bits - 1 - 8)
        return torch.from_numpy(np.clip(steps + OUTPUT.low, OUTPUT.low, OUTPUT.high).astype(np.float32))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        append_softmax(program, inputs, output)


@dataclass(frozen=True)
class InterpolatedSoftmax(QuantizedOperator):
    """Softmax of codes.

    Attributes:
        input: parameters of the input's codes.
    """

    input: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, shape (batch, ..., classes), exactly as the reference kernel does."""
        inputs = codes[0].to(torch.float64)
        factor = FixedPoint.of(self.input.scale / STEP_OF_EXPONENTIALS)
        differences = factor(inputs - inputs.amax(-1, keepdim=True)).numpy()
        terms = interpolate(
            EXPONENTIALS, np.clip(differences + HIGHEST_WORD, LOWEST_WORD, HIGHEST_WORD).astype(np.int64)
        )
        sums = terms.sum(-1, keepdims=True)
        # The sum is 1 to 2 times a power of two, in steps of which the table's reciprocals are.
        power = np.frexp(sums.astype(np.float64))[1].astype(np.int64)
        mantissas = ((sums << (31 - power)) + (1 << 13)) >> 14
        reciprocals = interpolate(RECIPROCALS, np.clip(mantissas - (1 << 15) - (1 << 16), LOWEST_WORD, HIGHEST_WORD))
        shares = (terms * reciprocals + (1 << (power - 2))) >> (power - 1)
        return torch.from_numpy(np.clip(shares, 0, HIGHEST_WORD).astype(np.float32))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        append_softmax(program, inputs, output)
