"""The same values with their axes in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import Operator, QuantizedMove, QuantizedOperator, Ranges, Shape
from qanas.quantization.program import DType, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme

VERSIONS: Mapping[DType, int] = {"float32": 1, "int8": 2, "int16": 5}

MOST_AXES = 6
"""Axes that the kernels transpose, the batch included."""


@dataclass(frozen=True)
class Transpose(Operator):
    """Axes in another order.

    Attributes:
        axes: for each axis of the output's sample, that of the input's sample.
    """

    parameters_from = "input"

    axes: tuple[int, ...]

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the sizes in the new order."""
        if sorted(self.axes) != list(range(len(inputs[0]))):
            raise ValueError(f"the order of axes {self.axes} for the shape {inputs[0]}")
        if len(self.axes) >= MOST_AXES:
            raise ValueError(f"a transposition of {len(self.axes) + 1} axes; the runtime has {MOST_AXES} at most")
        return tuple(inputs[0][axis] for axis in self.axes)

    @property
    def batched_axes(self) -> tuple[int, ...]:
        """The order with the batch in front, which stays there."""
        return (0, *(axis + 1 for axis in self.axes))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Transpose; codes and real values alike."""
        return inputs[0].permute(self.batched_axes)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Keep the input's parameters."""
        del ranges, scheme
        return QuantizedTranspose(self), inputs[0]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append TRANSPOSE."""
        order = program.indices(self.batched_axes)
        program.append(RuntimeOperator("TRANSPOSE", VERSIONS[output.dtype], [inputs[0], order], [output]))


@dataclass(frozen=True)
class QuantizedTranspose(QuantizedMove):
    """Codes with their axes in another order.

    Attributes:
        transpose: which.
    """

    transpose: Transpose

    def forward(self, *codes: Tensor) -> Tensor:
        """Transpose."""
        return self.transpose.forward(*codes)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.transpose.lower(program, inputs, output)
