"""Constant rows around a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import FastKernel, Operator, QuantizedOperator, Ranges, Shape
from qanas.quantization.program import COMMON_VERSIONS, ITEM_BITS, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme

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
        """Pad in float32."""
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
        """Pad."""
        return padded(codes[0], self.pad.padding, float(self.code))

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Pad steps."""
        del inputs
        return lambda steps: padded(steps, self.pad.padding, float(self.code - output.zero_point))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.pad.lower(program, inputs, output)
