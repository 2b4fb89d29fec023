"""Two-dimensional convolution: whole, by groups of channels, or by channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray
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
from qanas.quantization.operators.windows import SAME, VALID, Pad, Pair, Window, padded, with_padding
from qanas.quantization.program import COMMON_VERSIONS, DType, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.simulation.fast import (
    FastKernel,
    fit_float32_by_halves,
    halves,
    requantization,
    wide_requantization,
)

VERSIONS: Mapping[str, Mapping[DType, int]] = {
    "CONV_2D": {"float32": 1, "int8": 3, "int16": 4},
    "DEPTHWISE_CONV_2D": {"float32": 1, "int8": 3, "int16": 5},
}
VERSIONS_INT4_WEIGHTS = {"CONV_2D": 7, "DEPTHWISE_CONV_2D": 6}
"""Up to 6 LiteRT's reference kernel by channel is registered. It takes int4 weights, which the format counts as 7."""


@dataclass(frozen=True)
class Kernel:
    """What a convolution does with its weights, apart from their values.

    Attributes:
        window: where the taps lie, the gaps between them included.
        dilation: rows and columns from one tap to the next.
        groups: parts of the channels that don't see each other; as many as there are input channels: by channel.
        activation: fused.
    """

    window: Window
    dilation: Pair = (1, 1)
    groups: int = 1
    activation: Activation = "none"

    def by_channel(self, channels: int) -> bool:
        """Tell whether each output sees one of several input channels: an operator of its own in the runtime."""
        return self.groups == channels > 1

    def correlate(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """Return sums of products, shape (batch, rows', columns', out), for (batch, rows, columns, in) and weights."""
        return self.correlate_prepared(inputs, weight.permute(0, 3, 1, 2))

    def correlate_prepared(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """Return the same for weights of shape (out, in / groups, rows, columns)."""
        (above, below), (left, right) = self.window.padding
        if (above, left) == (below, right):
            # torch pads on its way through: no copy of the input.
            return self._convolve(inputs, weight, (above, left))
        return self._convolve(padded(inputs, self.window.sample_padding(tuple(inputs.shape[1:])), 0.0), weight, (0, 0))

    def _convolve(self, image: Tensor, weight: Tensor, padding: Pair) -> Tensor:
        stride, dilation = self.window.stride, self.dilation
        sums = F.conv2d(image.permute(0, 3, 1, 2), weight, None, stride, padding, dilation, self.groups)
        return sums.permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Convolution(Operator):
    """``activation(W * x + b)``; shapes (rows, columns, in) to (rows', columns', out).

    Attributes:
        weight: shape (out, taps over rows, taps over columns, in / groups).
        bias: shape (out,).
        kernel: stride, padding, groups, activation.
    """

    weight: Tensor
    bias: Tensor
    kernel: Kernel

    @property
    def activation(self) -> Activation:
        """What is fused."""
        return self.kernel.activation

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (rows', columns', out)."""
        rows, columns = self.kernel.window.positions(inputs[0])
        expected = self.weight.shape[3] * self.kernel.groups
        if inputs[0][2] != expected:
            raise ValueError(f"a convolution of {expected} channels got {inputs[0][2]}")
        return rows, columns, self.weight.shape[0]

    def parameters(self) -> int:
        """Return the number of weights and biases."""
        return self.weight.numel() + self.bias.numel()

    def macs(self, *inputs: Shape) -> int:
        """Return those of the products, at every output position; products with padding count as well."""
        rows, columns, _ = self.output_shape(*inputs)
        return rows * columns * self.weight.numel()

    def with_activation(self, activation: Activation) -> Self:
        """Return the layer with a fused activation."""
        return replace(self, kernel=replace(self.kernel, activation=composed(self.activation, activation)))

    def with_scaling(self, scale: Tensor, offset: Tensor) -> Self | None:
        """Fold ``scale * y + offset``, both of shape (out,), into weights and biases."""
        if self.activation != "none":
            return None
        return replace(self, weight=self.weight * scale[:, None, None, None], bias=self.bias * scale + offset)

    def with_scaled_input(self, scale: Tensor, offset: Tensor) -> Self | None:
        """Return the layer for ``scale * x + offset``, both of shape (in,), in place of x; None where it pads."""
        if any(map(any, self.kernel.window.padding)) and bool(offset.any()):
            return None
        outputs, channels = len(self.weight), self.weight.shape[3]
        # The input channels of each output's group, shape (out, in / groups).
        factors, offsets = (
            values.reshape(self.kernel.groups, channels).repeat_interleave(outputs // self.kernel.groups, 0)
            for values in (scale, offset)
        )
        bias = self.bias + (self.weight.sum((1, 2)) * offsets).sum(1)
        return replace(self, weight=self.weight * factors[:, None, None], bias=bias)

    def with_padding(self, pad: Pad) -> Self | None:
        """Return the layer that puts the zeros around its input by itself, or None where it can't."""
        rows, columns, channels = pad.padding
        if pad.fill != "zero" or any(channels):
            return None
        window = self.kernel.window
        (above, below), (left, right) = window.padding
        padding = ((above + rows[0], below + rows[1]), (left + columns[0], right + columns[1]))
        return replace(self, kernel=replace(self.kernel, window=replace(window, padding=padding)))

    def products(self, weight: Tensor, inputs: Tensor) -> Tensor:
        """Return the correlation, shape (batch, rows, columns, in) to (batch, rows', columns', out)."""
        return self.kernel.correlate(inputs, weight)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, rows, columns, in) to (batch, rows', columns', out)."""
        sums = self.products(self.weight, inputs[0])
        return activate(sums.add_(self.bias), self.activation)

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
        return {"weight": weights.stored_in("int8" if inputs[0].wide else scheme.container)}

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Quantize weights and output."""
        output = Affine.from_range(*ranges.output, bits=scheme.activation_bits)
        weights = self.quantized_weights(inputs, scheme)["weight"]
        avoided = scheme.avoid == "grouped_convolution"
        return QuantizedConvolution(weights, self.bias, self.kernel, inputs[0], output, avoided), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        weights = RuntimeTensor.constant(_stored(self.weight.numpy(), self.kernel))
        _append(program, [inputs[0], weights, RuntimeTensor.constant(self.bias.numpy())], output, self.kernel)


def _stored(weight: NDArray[Any], kernel: Kernel) -> NDArray[Any]:
    """Return weights in the file's order: by channel of shape (1, rows, columns, out), else as they are."""
    by_channel = kernel.by_channel(weight.shape[3] * kernel.groups)
    return np.ascontiguousarray(weight.transpose(3, 1, 2, 0) if by_channel else weight)


def _append(program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor, kernel: Kernel) -> None:
    """Append CONV_2D or DEPTHWISE_CONV_2D for (source, weights, bias), with a PAD in front of it where needed."""
    source, weights, bias = inputs
    shape = source.shape[1:]
    mode = VALID if kernel.window.is_valid(shape) else SAME
    if mode == SAME and not kernel.window.is_same(shape):
        source, mode = with_padding(program, source, kernel.window.sample_padding(shape), "zero"), VALID
    options = {
        "padding": mode,
        "strideH": kernel.window.stride[0],
        "strideW": kernel.window.stride[1],
        "dilationHFactor": kernel.dilation[0],
        "dilationWFactor": kernel.dilation[1],
        "fusedActivationFunction": ACTIVATION_CODES[kernel.activation],
    }
    kind = "CONV_2D"
    if kernel.by_channel(source.shape[3]):
        kind = "DEPTHWISE_CONV_2D"
        options["depthMultiplier"] = output.shape[3] // source.shape[3]
    version = VERSIONS_INT4_WEIGHTS[kind] if weights.dtype == "int4" else VERSIONS[kind][source.dtype]
    program.append(RuntimeOperator(kind, version, [source, weights, bias], [output], options))


CHANNEL_AXIS = 3

SPLIT_VERSIONS: Mapping[DType, int] = {"int8": 2, "int16": 4}

BYTES_OF_PART = 250
"""That a file takes for a convolution, its tensors and what it reads and writes, apart from the weights themselves."""


@dataclass(frozen=True)
class QuantizedConvolution(QuantizedOperator):
    """Integer convolution, requantized once by channel.

    Attributes:
        weights: (out, taps over rows, taps over columns, in / groups), a scale an output channel or one.
        bias: float, shape (out,).
        kernel: stride, padding, groups, activation.
        input: parameters of the input's codes.
        output: parameters of the output's codes.
        avoids_groups: whether the file has it in another way than in groups.
    """

    weights: QuantizedWeights
    bias: Tensor
    kernel: Kernel
    input: Affine
    output: Affine
    avoids_groups: bool = False

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, shape (batch, rows, columns, in), exactly as the reference kernels do."""
        weights = self.weights.as_tensor()
        exact = exact_dtype(weights, self.input)
        sums = self.kernel.correlate((codes[0] - self.input.zero_point).to(exact), weights.to(exact))
        bias = torch.from_numpy(self.weights.quantize_bias(self.bias, self.input))
        requantized = FixedPointRequantization.of(self.weights, self.input, self.output, self.kernel.activation)
        return requantized(sums.to(torch.float64) + bias)

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Keep the weights in the order of torch's kernels for channels-last images."""
        weight = self.weights.as_tensor().permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        factors = FixedPointRequantization.of(self.weights, self.input, self.output, self.kernel.activation).factors
        bias = self.weights.quantize_bias(self.bias, self.input)
        bounds = step_bounds(output, self.kernel.activation)
        if self.input.wide:
            if not fit_float32_by_halves(weight):
                return super().fast_kernel(inputs, output)
            finish = wide_requantization(factors, bias, bounds)
            return lambda steps: finish(*(self.kernel.correlate_prepared(half, weight) for half in halves(steps)))
        requantize = requantization(factors, bias, bounds)
        return lambda steps: requantize(self.kernel.correlate_prepared(steps, weight))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        by_channel = self.kernel.by_channel(inputs[0].shape[3])
        if not self.avoids_groups or by_channel or self.kernel.groups == 1:
            self._append(program, inputs[0], output)
        elif self.weights.codes.size * (self.kernel.groups - 1) < BYTES_OF_PART * self.kernel.groups:
            self._whole().lower(program, inputs, output)
        else:
            self._lower_parts(program, inputs[0], output)

    def _append(self, program: Program, source: RuntimeTensor, output: RuntimeTensor) -> None:
        codes = self.weights.quantize_bias(self.bias, self.input)
        bias = RuntimeTensor.bias(codes, self.weights.scales * np.float32(self.input.scale))
        axis = 3 if self.kernel.by_channel(source.shape[3]) else 0
        stored = replace(self.weights, codes=_stored(self.weights.codes, self.kernel), axis=axis)
        _append(program, [source, RuntimeTensor.weights(stored), bias], output, self.kernel)

    def _whole(self) -> Self:
        """Return the same in one group: with weights of 0 for the channels of other groups."""
        codes, groups = self.weights.codes, self.kernel.groups
        outputs, rows, columns, channels = codes.shape
        whole = np.zeros((groups, outputs // groups, rows, columns, groups, channels), codes.dtype)
        for group, part in enumerate(np.split(codes, groups)):
            whole[group, ..., group, :] = part
        weights = replace(self.weights, codes=whole.reshape(outputs, rows, columns, groups * channels))
        return replace(self, weights=weights, kernel=replace(self.kernel, groups=1))

    def _parts(self) -> list[Self]:
        """Return a convolution for each group."""
        groups = self.kernel.groups
        scales = self.weights.scales
        by_group = np.split(scales, groups) if len(scales) > 1 else [scales] * groups
        return [
            replace(
                self,
                weights=replace(self.weights, codes=np.ascontiguousarray(codes), scales=np.ascontiguousarray(scale)),
                bias=bias,
                kernel=replace(self.kernel, groups=1),
            )
            for codes, scale, bias in zip(
                np.split(self.weights.codes, groups), by_group, self.bias.chunk(groups), strict=True
            )
        ]

    def _lower_parts(self, program: Program, source: RuntimeTensor, output: RuntimeTensor) -> None:
        """Append SPLIT, a convolution for each group, and CONCATENATION."""
        parts = self._parts()
        sources, results = (
            [
                RuntimeTensor((*whole.shape[:3], whole.shape[3] // len(parts)), whole.dtype, whole.quantization)
                for _ in parts
            ]
            for whole in (source, output)
        )
        axis = program.indices([CHANNEL_AXIS])
        options = {"numSplits": len(parts)}
        program.append(RuntimeOperator("SPLIT", SPLIT_VERSIONS[source.dtype], [axis, source], sources, options))
        for part, taken, result in zip(parts, sources, results, strict=True):
            part.lower(program, [taken], result)
        joined = {"axis": CHANNEL_AXIS}
        program.append(RuntimeOperator("CONCATENATION", COMMON_VERSIONS[output.dtype], results, [output], joined))
