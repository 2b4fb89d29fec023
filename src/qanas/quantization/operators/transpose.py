"""The same values with their axes in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from qanas.quantization.affine import Affine, Scheme
from qanas.quantization.operators.base import Operator, QuantizedOperator, Ranges, Shape
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor

VERSION_FLOAT, VERSION_INT8 = 1, 2

MOST_AXES = 6
"""Axes that the kernels transpose, the batch included."""


@dataclass(frozen=True)
class Transpose(Operator):
    """The axes of every sample in another order.

    Attributes:
        order: for each axis of the output, its number in the input; the batch is not counted.
    """

    order: tuple[int, ...]

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the sizes in the new order."""
        if sorted(self.order) != list(range(len(inputs[0]))):
            raise ValueError(f"the order {self.order} of the axes of {inputs[0]}")
        if len(self.order) >= MOST_AXES:
            raise ValueError(f"a transposition of {len(self.order) + 1} axes; {MOST_AXES} are the most")
        return tuple(inputs[0][axis] for axis in self.order)

    def _with_batch(self) -> tuple[int, ...]:
        return (0, *(axis + 1 for axis in self.order))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Transpose; codes and real values alike."""
        return inputs[0].permute(self._with_batch()).contiguous()

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Keep the input's parameters."""
        del ranges, scheme
        return QuantizedTranspose(self), inputs[0]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append TRANSPOSE."""
        version = VERSION_INT8 if output.dtype == "int8" else VERSION_FLOAT
        order = program.indices(self._with_batch())
        program.append(RuntimeOperator("TRANSPOSE", version, [inputs[0], order], [output]))


@dataclass(frozen=True)
class QuantizedTranspose(QuantizedOperator):
    """The same codes with their axes in another order.

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
