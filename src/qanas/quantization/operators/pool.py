"""Largest and average value in a window."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import FastKernel, Operator, QuantizedOperator, Ranges, Shape
from qanas.quantization.operators.pad import FLOAT_FILLS, Fill, code_of, padded, with_padding
from qanas.quantization.operators.requantize import exact_dtype
from qanas.quantization.operators.window import SAME, VALID, Window
from qanas.quantization.program import COMMON_VERSIONS, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme


class _Pool(Operator):
    """What is common to both: the kernels rescale nothing, so the output has the input's parameters."""

    parameters_from = "input"

    window: Window

    kind: ClassVar[str]
    fill: ClassVar[Fill]

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (height', width', channels)."""
        return (*self.window.positions(inputs[0]), inputs[0][-1])

    def padded(self, values: Tensor, fill: float) -> Tensor:
        """Return (batch, channels, height, width) with the padding that is read."""
        padding = self.window.sample_padding(tuple(values.shape[1:]))
        return padded(values, padding, fill).permute(0, 3, 1, 2)

    @abstractmethod
    def needs_pad(self, shape: Shape) -> bool:
        """Tell whether the kernel's own paddings are not enough."""

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator, a padding in front where needed; the same for codes and real values."""
        source, shape = inputs[0], inputs[0].shape[1:]
        mode = VALID if self.window.is_valid(shape) else SAME
        if self.needs_pad(shape):
            source, mode = with_padding(program, source, self.window.sample_padding(shape), self.fill), VALID
        options = {
            "padding": mode,
            "strideH": self.window.stride[0],
            "strideW": self.window.stride[1],
            "filterHeight": self.window.size[0],
            "filterWidth": self.window.size[1],
        }
        program.append(RuntimeOperator(self.kind, COMMON_VERSIONS[source.dtype], [source], [output], options))


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The largest value of each channel in a window; padding is smaller than anything.

    Attributes:
        window: which.
    """

    window: Window

    kind = "MAX_POOL_2D"
    fill = "lowest"

    def needs_pad(self, shape: Shape) -> bool:
        """Tell whether the padding is not SAME."""
        return not (self.window.is_valid(shape) or self.window.is_same(shape))

    def largest(self, values: Tensor, fill: float) -> Tensor:
        """Return the largest values, (batch, height', width', channels)."""
        pooled = F.max_pool2d(self.padded(values, fill), self.window.size, self.window.stride)
        return pooled.permute(0, 2, 3, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return self.largest(inputs[0], FLOAT_FILLS[self.fill])

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Keep the input's parameters."""
        del ranges, scheme
        return QuantizedMaxPool(self, code_of(self.fill, inputs[0])), inputs[0]


@dataclass(frozen=True)
class QuantizedMaxPool(QuantizedOperator):
    """The largest code.

    Attributes:
        pool: of which window.
        fill: the padding's code.
    """

    pool: MaxPool
    fill: int

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes."""
        return self.pool.largest(codes[0], float(self.fill))

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Compare steps."""
        del inputs
        return lambda steps: self.pool.largest(steps, float(self.fill - output.zero_point))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.pool.lower(program, inputs, output)


@dataclass(frozen=True)
class AveragePool(_Pool):
    """The average of each channel in a window.

    Attributes:
        window: which.
        counts_padding: whether the zeros of the padding count (torch's default) or only what lies on the value.
    """

    window: Window
    counts_padding: bool = field(default=True, kw_only=True)

    kind = "AVERAGE_POOL_2D"
    fill = "zero"

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (height', width', channels).

        Raises:
            ValueError: padding that the kernels can't leave out of the average.
        """
        shape = super().output_shape(*inputs)
        if not self.counts_padding and not (self.window.is_valid(inputs[0]) or self.window.is_same(inputs[0])):
            raise ValueError(
                f"an average over {self.window} without its padding, on {inputs[0]}; "
                "count the padding, or pad as TensorFlow's SAME does"
            )
        return shape

    def needs_pad(self, shape: Shape) -> bool:
        """Tell whether there is padding to be counted: the kernel leaves it out."""
        return self.counts_padding and not self.window.is_valid(shape)

    def sums(self, values: Tensor, fill: float) -> Tensor:
        """Return the sums, (batch, height', width', channels)."""
        pooled = F.avg_pool2d(self.padded(values, fill), self.window.size, self.window.stride, divisor_override=1)
        return pooled.permute(0, 2, 3, 1)

    def counts(self, shape: Shape) -> Tensor:
        """Return how many values are averaged, (1, height', width', 1)."""
        return self.sums(torch.ones(1, *shape[:2], 1), 1.0 if self.counts_padding else 0.0)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return self.sums(inputs[0], 0.0) / self.counts(tuple(inputs[0].shape[1:]))

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Keep the input's parameters."""
        del ranges, scheme
        return QuantizedAveragePool(self, inputs[0]), inputs[0]


@dataclass(frozen=True)
class QuantizedAveragePool(QuantizedOperator):
    """The average code, to the nearest.

    Attributes:
        pool: of which window.
        input: parameters of the input's codes, and of the output's.
    """

    pool: AveragePool
    input: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes: sums are exact, and the division rounds as in C, ties away from zero."""
        fill = code_of(self.pool.fill, self.input) if self.pool.counts_padding else 0
        whole = codes[0].to(exact_dtype(torch.ones(1, prod(self.pool.window.size)), self.input))
        sums = self.pool.sums(whole, float(fill))
        counts = self.pool.counts(tuple(codes[0].shape[1:]))
        nudged = sums + torch.copysign(torch.floor(counts / 2), sums)
        return torch.div(nudged.to(torch.int64), counts.to(torch.int64), rounding_mode="trunc").to(torch.float32)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.pool.lower(program, inputs, output)
