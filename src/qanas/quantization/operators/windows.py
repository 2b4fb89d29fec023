"""Windows that move over height and width: where they lie, the padding around a value, and pools."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.requantization import exact_dtype
from qanas.quantization.numbers.rounding import divide_half_away
from qanas.quantization.operators.base import Operator, QuantizedOperator, Shape
from qanas.quantization.program import COMMON_VERSIONS, ITEM_BITS, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.simulation.fast import FastKernel

Fill = Literal["zero", "lowest"]
LOWEST_FLOAT = float(np.finfo(np.float32).min)
FLOAT_FILLS: Mapping[Fill, float] = {"zero": 0.0, "lowest": LOWEST_FLOAT}

Padding = tuple[tuple[int, int], ...]
"""Rows before and behind, an entry for each axis of the sample."""


def padded(values: Tensor, padding: Padding, fill: float) -> Tensor:
    """Return (batch, *shape) with rows of ``fill`` around each sample."""
    # torch counts axes from the last one.
    amounts = [rows for pair in reversed(padding) for rows in pair]
    return F.pad(values, amounts, value=fill)


def code_of(fill: Fill, affine: Affine) -> int:
    """Return the code that stands for a fill."""
    return affine.zero_point if fill == "zero" else affine.low


def append_pad(program: Program, source: RuntimeTensor, padding: Padding, fill: Fill, output: RuntimeTensor) -> None:
    """Append PAD, whose value is 0, or PADV2 with a stored one."""
    version = COMMON_VERSIONS[source.dtype]
    amounts = program.indices([(0, 0), *padding])
    if fill == "zero":
        program.append(RuntimeOperator("PAD", version, [source, amounts], [output]))
        return
    if source.dtype == "float32":
        value = RuntimeTensor.constant(np.array([LOWEST_FLOAT], np.float32))
    else:
        lowest = np.array([np.iinfo(source.dtype).min], source.dtype)
        # The kernel demands the input's own parameters.
        value = RuntimeTensor((1,), source.dtype, source.quantization, lowest, ITEM_BITS[source.dtype])
    program.append(RuntimeOperator("PADV2", version, [source, amounts, value], [output]))


def with_padding(program: Program, source: RuntimeTensor, padding: Padding, fill: Fill) -> RuntimeTensor:
    """Return ``source`` padded, through a PAD where there is anything to pad."""
    if not any(map(any, padding)):
        return source
    sizes = [size + sum(rows) for size, rows in zip(source.shape[1:], padding, strict=True)]
    output = RuntimeTensor((source.shape[0], *sizes), source.dtype, source.quantization)
    append_pad(program, source, padding, fill, output)
    return output


@dataclass(frozen=True)
class Pad(Operator):
    """A value with constant rows around it.

    Attributes:
        padding: rows before and behind, an entry for each axis of the sample.
        fill: ``zero``, or ``lowest``: the smallest number there is, which no maximum takes.
    """

    parameters_from = "input"

    padding: Padding
    fill: Fill = "zero"

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the larger shape."""
        if len(self.padding) != len(inputs[0]):
            raise ValueError(f"padding of {len(self.padding)} axes for the shape {inputs[0]}")
        if min(rows for pair in self.padding for rows in pair) < 0:
            raise ValueError(f"the padding {self.padding}; it must not be negative: take a slice instead")
        return tuple(size + before + behind for size, (before, behind) in zip(inputs[0], self.padding, strict=True))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Pad in float32, shape (batch, *shape)."""
        return padded(inputs[0], self.padding, FLOAT_FILLS[self.fill])

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Keep the input's parameters."""
        del ranges, scheme
        return QuantizedPad(self, code_of(self.fill, inputs[0])), inputs[0]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator; the same for codes and real values."""
        append_pad(program, inputs[0], self.padding, self.fill, output)


@dataclass(frozen=True)
class QuantizedPad(QuantizedOperator):
    """Codes with constant rows around them.

    Attributes:
        pad: how many.
        code: what they are.
    """

    pad: Pad
    code: int

    def forward(self, *codes: Tensor) -> Tensor:
        """Pad codes, shape (batch, *shape)."""
        return padded(codes[0], self.pad.padding, float(self.code))

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Pad steps."""
        del inputs
        return lambda steps: padded(steps, self.pad.padding, float(self.code - output.zero_point))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.pad.lower(program, inputs, output)


SAME, VALID = 0, 1
"""The paddings' numbers in the file format."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A window that moves over height and width.

    Attributes:
        size: rows and columns that it covers, counted with the gaps of a dilation.
        stride: rows and columns from one position to the next.
        padding: rows above and below, columns left and right.
    """

    size: Pair
    stride: Pair
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))

    def positions(self, shape: Shape) -> Pair:
        """Return the number of positions along height and width.

        Raises:
            ValueError: a value that isn't (height, width, channels), or is smaller than the window.
        """
        if len(shape) != 3:  # noqa: PLR2004 - height, width, channels
            raise ValueError(f"a window over {shape}; it takes (height, width, channels)")
        height, width = (self._positions(shape[axis], axis) for axis in (0, 1))
        if min(height, width) < 1:
            padded = f", padded by {self.padding}" if any(map(any, self.padding)) else ""
            raise ValueError(
                f"a window of {self.size[0]} x {self.size[1]} on {shape[0]} x {shape[1]} values of {shape[2]} channels"
                f"{padded}: pool or stride less in front of it, or give larger inputs"
            )
        return height, width

    def _positions(self, size: int, axis: int) -> int:
        return (size + sum(self.padding[axis]) - self.size[axis]) // self.stride[axis] + 1

    def read_padding(self, shape: Shape) -> tuple[Pair, Pair]:
        """Return the padding without what lies behind the last position: nobody reads it."""
        above_below, left_right = (
            (
                self.padding[axis][0],
                max(0, (count - 1) * self.stride[axis] + self.size[axis] - shape[axis] - self.padding[axis][0]),
            )
            for axis, count in enumerate(self.positions(shape))
        )
        return above_below, left_right

    def is_same(self, shape: Shape) -> bool:
        """Tell whether this is TensorFlow's SAME: ceil(size / stride) positions, of the padding half in front."""
        return all(
            count == -(-shape[axis] // self.stride[axis]) and before == (before + behind) // 2
            for axis, (count, (before, behind)) in enumerate(
                zip(self.positions(shape), self.read_padding(shape), strict=True)
            )
        )

    def is_valid(self, shape: Shape) -> bool:
        """Tell whether no padding is read."""
        return not any(map(any, self.read_padding(shape)))

    def sample_padding(self, shape: Shape) -> Padding:
        """Return the padding that is read, an entry for each axis of the sample."""
        return (*self.read_padding(shape), (0, 0))


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
        """Return values with the padding that is read, in the shape (batch, channels, height, width)."""
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
        """Return the largest values, shape (batch, height', width', channels), of (batch, height, width, channels)."""
        pooled = F.max_pool2d(self.padded(values, fill), self.window.size, self.window.stride)
        return pooled.permute(0, 2, 3, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, height, width, channels)."""
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
        """Compute on codes, shape (batch, height, width, channels)."""
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
        """Return the sums, shape (batch, height', width', channels), of (batch, height, width, channels)."""
        pooled = F.avg_pool2d(self.padded(values, fill), self.window.size, self.window.stride, divisor_override=1)
        return pooled.permute(0, 2, 3, 1)

    def counts(self, shape: Shape) -> Tensor:
        """Return how many values are averaged, shape (1, height', width', 1)."""
        return self.sums(torch.ones(1, *shape[:2], 1), 1.0 if self.counts_padding else 0.0)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, height, width, channels)."""
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
        """Compute on codes, shape (batch, height, width, channels): exact sums, rounded once, ties away from zero."""
        fill = code_of(self.pool.fill, self.input) if self.pool.counts_padding else 0
        whole = codes[0].to(exact_dtype(torch.ones(1, prod(self.pool.window.size)), self.input))
        sums = self.pool.sums(whole, float(fill))
        counts = self.pool.counts(tuple(codes[0].shape[1:]))
        return divide_half_away(sums, counts).to(torch.float32)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.pool.lower(program, inputs, output)
