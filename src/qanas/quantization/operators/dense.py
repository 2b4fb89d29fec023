"""Fully connected layer, and the factors and offsets by channel that are folded into layers around them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.quantization.numbers.affine import Affine, QuantizedWeights
from qanas.quantization.numbers.requantization import Activation, Requantization, activate, composed, exact_dtype
from qanas.quantization.operators.base import ACTIVATION_CODES, Operator, QuantizedOperator, Shape
from qanas.quantization.program import DType, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.simulation.fast import HALF, FastKernel, fit_float32_by_halves, halves

VERSIONS: Mapping[DType, int] = {"float32": 1, "int8": 4, "int16": 7}
VERSION_INT4_WEIGHTS, VERSION_BY_CHANNEL = 10, 12


@dataclass(frozen=True)
class Dense(Operator):
    """``activation(W x + b)`` over the last axis.

    Attributes:
        weight: shape (outputs, features).
        bias: shape (outputs,).
        activation: fused.
    """

    weight: Tensor
    bias: Tensor
    activation: Activation = "none"

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (..., outputs)."""
        if inputs[0][-1] != self.weight.shape[1]:
            raise ValueError(f"a dense layer of {self.weight.shape[1]} features got {inputs[0][-1]}")
        return (*inputs[0][:-1], self.weight.shape[0])

    def parameters(self) -> int:
        """Return outputs * (features + 1)."""
        return self.weight.numel() + self.bias.numel()

    def macs(self, *inputs: Shape) -> int:
        """Return those of the matrix product, at every position of the leading axes."""
        positions = 1
        for size in inputs[0][:-1]:
            positions *= size
        return positions * self.weight.numel()

    def with_activation(self, activation: Activation) -> Self:
        """Return the layer with a fused activation."""
        return replace(self, activation=composed(self.activation, activation))

    def with_scaling(self, scale: Tensor, offset: Tensor) -> Self | None:
        """Fold ``scale * y + offset``, both of shape (outputs,), into weights and biases."""
        if self.activation != "none":
            return None
        return replace(self, weight=self.weight * scale[:, None], bias=self.bias * scale + offset)

    def with_scaled_input(self, scale: Tensor, offset: Tensor) -> Self:
        """Return the layer for ``scale * x + offset``, both of shape (features,), in place of x."""
        return replace(self, weight=self.weight * scale, bias=self.bias + self.weight @ offset)

    def products(self, weight: Tensor, inputs: Tensor) -> Tensor:
        """Return the matrix product, shape (batch, ..., features) to (batch, ..., outputs)."""
        return F.linear(inputs, weight)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, ..., features) to (batch, ..., outputs)."""
        return activate(F.linear(inputs[0], self.weight, self.bias), self.activation)

    def quantized_weights(self, inputs: Sequence[Affine], scheme: Scheme) -> Mapping[str, QuantizedWeights]:
        """Quantize the weights, with one scale where the scheme leaves it to the kernel.

        Those with a scale an output stay in int8: TFLite Micro's kernel takes no others.
        """
        weights = QuantizedWeights.from_float(
            self.weight,
            scheme.weight_bits,
            groups=scheme.groups(of_kernel=1, channels=len(self.weight)),
            kind=scheme.scales,
            bias=self.bias,
            source=inputs[0],
        )
        return {"weight": weights.stored_in("int8" if weights.groups > 1 or inputs[0].wide else scheme.container)}

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Quantize weights and output."""
        output = Affine.from_range(*ranges.output, bits=scheme.activation_bits)
        weights = self.quantized_weights(inputs, scheme)["weight"]
        return QuantizedDense(weights, self.bias, inputs[0], output, self.activation), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        weights, bias = (RuntimeTensor.constant(array.numpy()) for array in (self.weight, self.bias))
        append_dense(program, self, [inputs[0], weights, bias], output)

    def version(self, dtype: DType) -> int:
        """Return the operator's version for values of a type."""
        return VERSIONS[dtype]


def append_dense(
    program: Program, layer: Dense | QuantizedDense, inputs: Sequence[RuntimeTensor], output: RuntimeTensor
) -> None:
    """Append FULLY_CONNECTED for (source, weights, bias)."""
    options = {"fusedActivationFunction": ACTIVATION_CODES[layer.activation]}
    if len(output.shape) > 2:  # noqa: PLR2004 - batch and outputs: what the operator gives without this option
        options["keepNumDims"] = True
    program.append(RuntimeOperator("FULLY_CONNECTED", layer.version(output.dtype), inputs, [output], options))


def _sums_by_halves(steps: Tensor, weights: Tensor) -> Tensor:
    """Return sums of products, float64, of steps of 16 bits, shape (..., features), and weights (outputs, features)."""
    upper, lower = (F.linear(half, weights).to(torch.float64) for half in halves(steps))
    return upper.mul_(HALF).add_(lower)


@dataclass(frozen=True)
class QuantizedDense(QuantizedOperator):
    """Integer matrix product, requantized once.

    Attributes:
        weights: (outputs, features), one scale or one an output.
        bias: float, shape (outputs,).
        input: parameters of the input's codes.
        output: parameters of the output's codes.
        activation: fused.
    """

    weights: QuantizedWeights
    bias: Tensor
    input: Affine
    output: Affine
    activation: Activation

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, shape (batch, ..., features), exactly as the reference kernels do."""
        weights = self.weights.as_tensor()
        exact = exact_dtype(weights, self.input)
        sums = F.linear((codes[0] - self.input.zero_point).to(exact), weights.to(exact))
        bias = torch.from_numpy(self.weights.quantize_bias(self.bias, self.input))
        return Requantization.of(self.weights, self.input, self.output, self.activation)(sums.to(torch.float64) + bias)

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Sum in float32, and round as `forward` does."""
        weights = self.weights.as_tensor()
        if self.input.wide and not fit_float32_by_halves(weights):
            return super().fast_kernel(inputs, output)
        bias = torch.from_numpy(self.weights.quantize_bias(self.bias, self.input)).to(torch.float64)
        requantize = Requantization.of(self.weights, self.input, self.output, self.activation)
        if self.input.wide:
            return lambda steps: requantize(_sums_by_halves(steps, weights).add_(bias))
        return lambda steps: requantize(F.linear(steps, weights).to(torch.float64) + bias).sub_(output.zero_point)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        append_dense(program, self, [inputs[0], *self.constants()], output)

    def constants(self) -> tuple[RuntimeTensor, RuntimeTensor]:
        """Return weights and biases to be stored."""
        bias = self.weights.quantize_bias(self.bias, self.input)
        stored = RuntimeTensor.bias(bias, self.weights.scales * np.float32(self.input.scale))
        return RuntimeTensor.weights(self.weights), stored

    def version(self, dtype: DType) -> int:
        """Return the operator's version for values of a type."""
        if self.weights.groups > 1:
            return VERSION_BY_CHANNEL
        return VERSION_INT4_WEIGHTS if self.weights.container == "int4" else VERSIONS[dtype]


class Scaling(Operator):
    """``scale * x + offset`` over the last axis. Exists only until `qanas.quantization.passes.folding` is done."""

    @property
    @abstractmethod
    def scale(self) -> Tensor:
        """What inputs are multiplied by, shape (channels,)."""

    @property
    @abstractmethod
    def offset(self) -> Tensor:
        """What is added then, shape (channels,)."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        if inputs[0][-1] != len(self.scale):
            raise ValueError(f"factors of {len(self.scale)} channels got {inputs[0][-1]}")
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, ..., channels)."""
        return inputs[0] * self.scale + self.offset

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> NoReturn:
        """Refuse: a graph has none left."""
        raise NotImplementedError("factors by channel are folded before anything is quantized")

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> NoReturn:
        """Refuse: a graph has none left."""
        raise NotImplementedError("factors by channel are folded before anything is lowered")


@dataclass(frozen=True)
class FixedScaling(Scaling):
    """Learned factors and offsets that no statistics stand behind: those of a layer norm.

    Attributes:
        factors: shape (channels,).
        offsets: shape (channels,).
    """

    factors: Tensor
    offsets: Tensor

    @property
    def scale(self) -> Tensor:
        """What inputs are multiplied by, shape (channels,)."""
        return self.factors

    @property
    def offset(self) -> Tensor:
        """What is added then, shape (channels,)."""
        return self.offsets


@dataclass(frozen=True)
class BatchNorm(Scaling):
    """A batch norm over the last axis, with fixed statistics.

    Attributes:
        weight: learned factors, shape (channels,).
        bias: learned offsets, shape (channels,).
        mean: of the inputs, shape (channels,).
        variance: likewise.
        epsilon: added to the variance.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor
    epsilon: float

    @property
    def scale(self) -> Tensor:
        """What inputs are multiplied by, shape (channels,)."""
        return torch.rsqrt(self.variance + self.epsilon) * self.weight

    @property
    def offset(self) -> Tensor:
        """What is added then, shape (channels,)."""
        return self.bias - self.mean * self.scale

    def with_statistics_of(self, inputs: Tensor) -> tuple[Self, Tensor]:
        """Return the batch norm with the statistics of some inputs, and its outputs for them.

        Args:
            inputs: shape (batch, *shape); statistics are over all axes but the last.
        """
        channels_second = inputs.movedim(-1, 1)
        outputs, mean, inverse_deviation = torch.native_batch_norm(
            channels_second, self.weight, self.bias, None, None, training=True, momentum=0.0, eps=self.epsilon
        )
        # A variance that rounding takes below 0 is that of a constant.
        variance = (inverse_deviation.reciprocal().square() - self.epsilon).clamp(min=0.0)
        return replace(self, mean=mean, variance=variance), outputs.movedim(1, -1)
