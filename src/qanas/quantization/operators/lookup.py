"""Functions of one value: a table of every code's result says all of an integer kernel."""

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
from qanas.quantization.program import COMMON_VERSIONS, DType, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme

Codes = NDArray[np.int64]


class ElementwiseFunction(Operator):
    """A function of one value, element by element."""

    kind: ClassVar[str]
    """The builtin operator."""

    versions: ClassVar[Mapping[DType, int]] = COMMON_VERSIONS

    @abstractmethod
    def table(self, source: Affine, output: Affine) -> NDArray[Any]:
        """Return the kernel's output for every code of the input, in order: whole numbers, not yet clipped."""

    def options(self) -> Mapping[str, float]:
        """Return the fields of the operator's option table."""
        return {}

    def output_affine(self, source: Affine, ranges: Ranges) -> Affine:
        """Return the parameters of the output: those of its range, unless the kernel demands others."""
        return with_reachable_scale(Affine.from_range(*ranges.output, bits=source.bits), source.scale)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Tabulate the kernel."""
        del scheme
        output = self.output_affine(inputs[0], ranges)
        return QuantizedFunction(self, code_table(self.table(inputs[0], output), output)), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator; the same for codes and real values."""
        version = self.versions[output.dtype]
        program.append(RuntimeOperator(self.kind, version, inputs, [output], self.options()))


def steps_from_zero(source: Affine) -> Codes:
    """Return code - zero point for every code, in order."""
    return np.arange(source.low, source.high + 1, dtype=np.int64) - source.zero_point


def code_table(codes: NDArray[Any], output: Affine) -> Tensor:
    """Return whole numbers, clipped to what codes there are, as a table for `look_up`."""
    return torch.from_numpy(np.clip(codes, output.low, output.high).astype(np.float32))


def look_up(table: Tensor, codes: Tensor) -> Tensor:
    """Return the entries for codes in float32, of a table over all of them; half of them are negative."""
    return table.take((codes + len(table) // 2).to(torch.int64))


@dataclass(frozen=True)
class QuantizedFunction(QuantizedOperator):
    """A function of codes.

    Attributes:
        function: which.
        values: the output's codes for all codes of the input in order, float32.
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
        self.function.lower(program, inputs, output)
