"""Transposed convolution: every number of the input spreads the kernel over the output (decoders of U-Nets)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.quantization.numbers.affine import Affine, QuantizedWeights
from qanas.quantization.numbers.requantization import (
    Activation,
    FixedPointRequantization,
    activate,
    composed,
    exact_dtype,
    step_bounds,
)
from qanas.quantization.operators.base import ACTIVATION_CODES, Operator, QuantizedOperator, Shape
from qanas.quantization.operators.shapes import Slice
from qanas.quantization.operators.windows import SAME, VALID, Pair
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.simulation.fast import FastKernel, requantization

VERSION_FLOAT, VERSION_INT8 = 3, 3


@dataclass(frozen=True)
class Spread:
    """Where the taps of a transposed convolution come to lie, and what of it is kept.

    Attributes:
        stride: rows and columns from the taps of one input to those of the next.
        front: rows and columns that are cut off in front (torch's padding).
        size: rows and columns that are kept.
        activation: fused.
    """

    stride: Pair
    front: Pair
    size: Pair
    activation: Activation = "none"

    def whole(self, axis: int, inputs: int, taps: int) -> int:
        """Return the positions along an axis that hold both all taps and all that is kept."""
        return max((inputs - 1) * self.stride[axis] + taps, self.front[axis] + self.size[axis])

    def is_same(self, axis: int, inputs: int, taps: int) -> bool:
        """Tell whether this is the kernels' SAME: of what is cut off, half in front."""
        size, stride = self.size[axis], self.stride[axis]
        total = max((inputs - 1) * stride + taps - size, 0)
        return inputs == -(-size // stride) and self.front[axis] == total // 2

    def spread(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """Return sums of products, shape (batch, *size, out), for (batch, rows, columns, in) and weights.

        Args:
            inputs: of the weights' type.
            weight: shape (out, taps over rows, taps over columns, in).
        """
        sums = F.conv_transpose2d(inputs.permute(0, 3, 1, 2), weight.permute(3, 0, 1, 2), None, self.stride)
        lacking = [max(self.front[axis] + self.size[axis] - sums.shape[axis + 2], 0) for axis in (0, 1)]
        sums = F.pad(sums, (0, lacking[1], 0, lacking[0])).permute(0, 2, 3, 1)
        (above, left), (rows, columns) = self.front, self.size
        return sums[:, above : above + rows, left : left + columns]


@dataclass(frozen=True)
class TransposedConvolution(Operator):
    """``activation(b + the taps of all inputs)``; shapes (rows, columns, in) to (rows', columns', out).

    Attributes:
        weight: shape (out, taps over rows, taps over columns, in).
        bias: shape (out,).
        spread: stride, what is kept, activation.
    """

    weight: Tensor
    bias: Tensor
    spread: Spread

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (rows', columns', out)."""
        if len(inputs[0]) != 3 or inputs[0][2] != self.weight.shape[3]:  # noqa: PLR2004 - rows, columns, channels
            raise ValueError(f"a transposed convolution of {self.weight.shape[3]} channels got {inputs[0]}")
        return (*self.spread.size, self.weight.shape[0])

    def parameters(self) -> int:
        """Return the number of weights and biases."""
        return self.weight.numel() + self.bias.numel()

    def macs(self, *inputs: Shape) -> int:
        """Return those of every input with every tap; those that are cut off count as well."""
        return inputs[0][0] * inputs[0][1] * self.weight.numel()

    def with_activation(self, activation: Activation) -> Self:
        """Return the layer with a fused activation."""
        return replace(self, spread=replace(self.spread, activation=composed(self.spread.activation, activation)))

    def with_scaling(self, scale: Tensor, offset: Tensor) -> Self | None:
        """Fold ``scale * y + offset``, both of shape (out,), into weights and biases."""
        if self.spread.activation != "none":
            return None
        return replace(self, weight=self.weight * scale[:, None, None, None], bias=self.bias * scale + offset)

    def products(self, weight: Tensor, inputs: Tensor) -> Tensor:
        """Return the taps of all inputs, shape (batch, rows, columns, in) to (batch, rows', columns', out)."""
        return self.spread.spread(inputs, weight)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, rows, columns, in) to (batch, rows', columns', out)."""
        return activate(self.products(self.weight, inputs[0]) + self.bias, self.spread.activation)

    def quantized_weights(self, inputs: Sequence[Affine], scheme: Scheme) -> Mapping[str, QuantizedWeights]:
        """Quantize the weights, with a scale an output channel where the scheme leaves it to the kernel."""
        channels = len(self.weight)
        weights = QuantizedWeights.from_float(
            self.weight,
            scheme.weight_bits,
            groups=scheme.groups(of_kernel=channels, channels=channels),
            kind=scheme.scales,
            bias=self.bias,
            source=inputs[0],
        )
        return {"weight": weights}

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Quantize weights and output."""
        output = Affine.from_range(*ranges.output, bits=scheme.activation_bits)
        weights = self.quantized_weights(inputs, scheme)["weight"]
        return QuantizedTransposedConvolution(weights, self.bias, self.spread, inputs[0], output), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        constants = [RuntimeTensor.constant(np.ascontiguousarray(part.numpy())) for part in (self.weight, self.bias)]
        _append(program, [inputs[0], *constants], output, self.spread)


def _append(program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor, spread: Spread) -> None:
    """Append TRANSPOSE_CONV for (source, weights, bias); where it can't cut off by itself, a slice behind it."""
    source, weights, bias = inputs
    axes = [(axis, source.shape[axis + 1], weights.shape[axis + 1]) for axis in (0, 1)]
    whole = tuple(spread.whole(*axis) for axis in axes)
    mode, result = SAME, output
    if not all(spread.is_same(*axis) for axis in axes):
        mode = VALID
        if whole != spread.size:
            result = RuntimeTensor((1, *whole, output.shape[3]), output.dtype, output.quantization)
    options = {
        "padding": mode,
        "strideH": spread.stride[0],
        "strideW": spread.stride[1],
        "fusedActivationFunction": ACTIVATION_CODES[spread.activation],
    }
    version = VERSION_FLOAT if output.dtype == "float32" else VERSION_INT8
    sizes = program.indices(result.shape)
    program.append(RuntimeOperator("TRANSPOSE_CONV", version, [sizes, weights, source, bias], [result], options))
    if result is not output:
        kept = [slice(front, front + size) for front, size in zip(spread.front, spread.size, strict=True)]
        Slice(tuple(kept)).lower(program, [result], output)


@dataclass(frozen=True)
class QuantizedTransposedConvolution(QuantizedOperator):
    """Integer transposed convolution, requantized once by channel.

    Attributes:
        weights: (out, taps over rows, taps over columns, in), a scale an output channel or one.
        bias: float, shape (out,).
        spread: stride, what is kept, activation.
        input: parameters of the input's codes.
        output: parameters of the output's codes.
    """

    weights: QuantizedWeights
    bias: Tensor
    spread: Spread
    input: Affine
    output: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, shape (batch, rows, columns, in), exactly as the reference kernels do."""
        weights = self.weights.as_tensor()
        exact = exact_dtype(weights, self.input)
        sums = self.spread.spread((codes[0] - self.input.zero_point).to(exact), weights.to(exact))
        bias = torch.from_numpy(self.weights.quantize_bias(self.bias, self.input))
        requantized = FixedPointRequantization.of(self.weights, self.input, self.output, self.spread.activation)
        return requantized(sums.to(torch.float64) + bias)

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Requantize in one pass."""
        if self.input.wide:
            return super().fast_kernel(inputs, output)
        weights, activation = self.weights.as_tensor(), self.spread.activation
        factors = FixedPointRequantization.of(self.weights, self.input, self.output, activation).factors
        bias = self.weights.quantize_bias(self.bias, self.input)
        requantize = requantization(factors, bias, step_bounds(output, activation))
        return lambda steps: requantize(self.spread.spread(steps, weights))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        codes = self.weights.quantize_bias(self.bias, self.input)
        bias = RuntimeTensor.bias(codes, self.weights.scales * np.float32(self.input.scale))
        _append(program, [inputs[0], RuntimeTensor.weights(self.weights), bias], output, self.spread)
