"""1 x k convolution over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.layers.conv import Conv1xK, correlate
from qanas.quantization.affine import Affine, QuantizedWeights
from qanas.quantization.operators.base import (
    ACTIVATION_CODES,
    Activation,
    Operator,
    QuantizedOperator,
    Ranges,
    Shape,
)
from qanas.quantization.operators.requantize import FixedPointRequantization, activate
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor, SymmetricQuantization
from qanas.quantization.scheme import Scheme

VALID = 1
"""The padding's number in the file format."""

VERSION_FLOAT, VERSION_INT8 = 1, 3
PAD_VERSION_FLOAT, PAD_VERSION_INT8 = 1, 2

EXACT_IN_FLOAT32 = 2.0**24
"""Whole numbers up to this are exact in float32, whatever the order in which they are added."""


@dataclass(frozen=True)
class Window:
    """Where the taps of a convolution over time lie.

    Attributes:
        stride: steps of time between two outputs.
        dilation: steps of time between two taps.
        left_padding: zeros in front of the sequence.
    """

    stride: int
    dilation: int
    left_padding: int

    def outputs(self, time: int, taps: int) -> int:
        """Return the number of outputs for ``time`` inputs."""
        return (time + self.left_padding - (taps - 1) * self.dilation - 1) // self.stride + 1

    def correlate(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """Return sums of products, (batch, ..., time', out), for (batch, ..., time, in) and (out, in, k)."""
        return correlate(inputs, weight, self.stride, self.dilation, self.left_padding)


@dataclass(frozen=True)
class Convolution(Operator):
    """``activation(W * x + b)`` over time; shapes (time, in) to (time', out), with or without a 1 in front.

    Attributes:
        weight: shape (out, in, k).
        bias: shape (out,).
        window: where the taps lie.
        activation: fused.
    """

    weight: Tensor
    bias: Tensor
    window: Window
    activation: Activation = "none"

    modules = (Conv1xK,)

    @classmethod
    def from_module(cls, module: nn.Module) -> Self:
        """Take the weights of a `Conv1xK`."""
        assert isinstance(module, Conv1xK)  # noqa: S101 - narrows the type that `modules` promises
        window = Window(module.stride, module.dilation, module.left_padding)
        bias = module.bias if module.bias is not None else torch.zeros_like(module.weight[:, 0, 0])
        return cls(module.weight.detach(), bias.detach(), window)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (..., time', out)."""
        *leading, time, channels = inputs[0]
        if leading not in ([], [1]):
            raise ValueError(f"a convolution over time got {inputs[0]}; it takes (time, channels), (1, time, channels)")
        if channels != self.weight.shape[1]:
            raise ValueError(f"a convolution of {self.weight.shape[1]} channels got {channels}")
        outputs = self.window.outputs(time, self.weight.shape[2])
        if outputs < 1:
            raise ValueError(f"a convolution of {self.weight.shape[2]} taps has no output on {time} steps")
        return (*leading, outputs, self.weight.shape[0])

    def parameters(self) -> int:
        """Return out * (in * k + 1)."""
        return self.weight.numel() + self.bias.numel()

    def macs(self, *inputs: Shape) -> int:
        """Return those of the products, at every output step."""
        return self.window.outputs(inputs[0][-2], self.weight.shape[2]) * self.weight.numel()

    def with_activation(self, activation: Activation) -> Self:
        """Return the layer with a fused activation."""
        return replace(self, activation=activation)

    def with_scaling(self, scale: Tensor, offset: Tensor) -> Self | None:
        """Fold ``scale * y + offset`` into weights and biases."""
        if self.activation != "none":
            return None
        return replace(self, weight=self.weight * scale[:, None, None], bias=self.bias * scale + offset)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return activate(self.window.correlate(inputs[0], self.weight) + self.bias, self.activation)

    def quantized_weights(self, inputs: Sequence[Affine], scheme: Scheme) -> Mapping[str, QuantizedWeights]:
        """Quantize the weights, with a scale an output channel where the scheme leaves it to the kernel."""
        channels = len(self.weight)
        weights = QuantizedWeights.from_float(
            self.weight,
            scheme.weight_bits,
            groups=scheme.groups(of_kernel=channels, channels=channels),
            kind=scheme.scales,
            bias=self.bias,
            input_scale=inputs[0].scale,
        )
        return {"weight": weights}

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Quantize weights and output."""
        output = Affine.from_range(*ranges.output)
        weights = self.quantized_weights(inputs, scheme)["weight"]
        return QuantizedConvolution(weights, self.bias, self.window, inputs[0], output, self.activation), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        weights = RuntimeTensor.constant(_stored(self.weight.numpy()))
        bias = RuntimeTensor.constant(self.bias.numpy())
        _append(program, inputs[0], weights, bias, output, self.window, self.activation)


def _stored(weight: NDArray[Any]) -> NDArray[Any]:
    """Return (out, in, k) weights in the file's order (out, 1, k, in)."""
    return np.ascontiguousarray(weight.transpose(0, 2, 1)[:, None])


def _append(
    program: Program,
    source: RuntimeTensor,
    weights: RuntimeTensor,
    bias: RuntimeTensor,
    output: RuntimeTensor,
    window: Window,
    activation: Activation,
) -> None:
    """Append CONV_2D on (1, 1, time, channels), with a PAD in front and RESHAPEs around it where needed."""
    quantized = source.dtype == "int8"
    source = program.reshaped(source, (1, 1, *source.shape[-2:]))
    if window.left_padding:
        padding = program.indices([[0, 0], [0, 0], [window.left_padding, 0], [0, 0]])
        time, channels = source.shape[-2:]
        padded = RuntimeTensor((1, 1, time + window.left_padding, channels), source.dtype, source.quantization)
        version = PAD_VERSION_INT8 if quantized else PAD_VERSION_FLOAT
        program.append(RuntimeOperator("PAD", version, [source, padding], [padded]))
        source = padded
    shape = (1, 1, *output.shape[-2:])
    wide = output if output.shape == shape else RuntimeTensor(shape, output.dtype, output.quantization)
    options = {
        "padding": VALID,
        "strideH": 1,
        "strideW": window.stride,
        "dilationHFactor": 1,
        "dilationWFactor": window.dilation,
        "fusedActivationFunction": ACTIVATION_CODES[activation],
    }
    version = VERSION_INT8 if quantized else VERSION_FLOAT
    program.append(RuntimeOperator("CONV_2D", version, [source, weights, bias], [wide], options))
    if wide is not output:
        program.append(RuntimeOperator("RESHAPE", 1, [wide, program.indices(output.shape)], [output]))


@dataclass(frozen=True)
class QuantizedConvolution(QuantizedOperator):
    """Integer convolution, requantized once by channel.

    Attributes:
        weights: (out, in, k), a scale an output channel or one.
        bias: float, shape (out,).
        window: where the taps lie.
        input: parameters of the input's codes.
        output: parameters of the output's codes.
        activation: fused.
    """

    weights: QuantizedWeights
    bias: Tensor
    window: Window
    input: Affine
    output: Affine
    activation: Activation

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, exactly as the reference kernels do."""
        weights = self.weights.as_tensor()
        largest = float(weights.abs().sum((1, 2)).max()) * (self.input.high - self.input.low)
        exact = torch.float32 if largest < EXACT_IN_FLOAT32 else torch.float64
        sums = self.window.correlate((codes[0] - self.input.zero_point).to(exact), weights.to(exact))
        bias = torch.from_numpy(self.weights.quantize_bias(self.bias, self.input.scale))
        requantized = FixedPointRequantization.of(self.weights, self.input, self.output, self.activation)
        return requantized(sums.to(torch.float64) + bias)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        codes = self.weights.quantize_bias(self.bias, self.input.scale)
        scales = SymmetricQuantization.with_scales(self.weights.scales * np.float32(self.input.scale))
        bias = RuntimeTensor(codes.shape, "int32", scales, codes, 32)
        stored = QuantizedWeights(_stored(self.weights.codes), self.weights.scales, self.weights.bits)
        _append(program, inputs[0], RuntimeTensor.weights(stored), bias, output, self.window, self.activation)
