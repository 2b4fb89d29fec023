"""Functions of one value: 256 codes in, so a table of 256 codes says all of an int8 kernel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import FastKernel, Operator, QuantizedOperator, Ranges, Shape
from qanas.quantization.operators.fast import tabulated
from qanas.quantization.operators.requantize import with_reachable_scale
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme

VERSION_FLOAT, VERSION_INT8 = 1, 2

LOWEST, HIGHEST = -128, 127

Codes = NDArray[np.int64]


class ElementwiseFunction(Operator):
    """A function of one value, element by element."""

    kind: ClassVar[str]
    """The builtin operator."""

    version_int8: ClassVar[int] = VERSION_INT8

    @abstractmethod
    def table(self, source: Affine, output: Affine) -> NDArray[Any]:
        """Return the kernel's output for the input codes -128, ..., 127: whole numbers, not yet clipped to int8."""

    def options(self) -> Mapping[str, float]:
        """Return the fields of the operator's option table."""
        return {}

    def output_affine(self, source: Affine, ranges: Ranges) -> Affine:
        """Return the parameters of the output: those of its range, unless the kernel demands others."""
        return with_reachable_scale(Affine.from_range(*ranges.output), source.scale)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Tabulate the kernel."""
        del scheme
        output = self.output_affine(inputs[0], ranges)
        return QuantizedFunction(self, code_table(self.table(inputs[0], output))), output

    def append(self, program: Program, version: int, source: RuntimeTensor, output: RuntimeTensor) -> None:
        """Append the operator."""
        program.append(RuntimeOperator(self.kind, version, [source], [output], self.options()))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        self.append(program, VERSION_FLOAT, inputs[0], output)


def steps_from_zero(source: Affine) -> Codes:
    """Return code - zero point for the codes -128, ..., 127."""
    return np.arange(LOWEST, HIGHEST + 1, dtype=np.int64) - source.zero_point


def code_table(codes: NDArray[Any]) -> Tensor:
    """Return whole numbers, clipped to int8, as a table for `look_up`."""
    return torch.from_numpy(np.clip(codes, LOWEST, HIGHEST).astype(np.float32))


def look_up(table: Tensor, codes: Tensor) -> Tensor:
    """Return the table's entries for int8 codes in float32."""
    return table.take((codes - LOWEST).to(torch.int64))


@dataclass(frozen=True)
class QuantizedFunction(QuantizedOperator):
    """A function of codes.

    Attributes:
        function: which.
        values: the output's codes for the codes -128, ..., 127, float32.
    """

    function: ElementwiseFunction
    values: Tensor

    def forward(self, *codes: Tensor) -> Tensor:
        """Look the codes up."""
        return look_up(self.values, codes[0])

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Look all codes up that there are."""
        return tabulated(self.forward, inputs[0], output)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        self.function.append(program, self.function.version_int8, inputs[0], output)
