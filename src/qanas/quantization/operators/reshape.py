"""The same values in another shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import Operator, QuantizedMove, QuantizedOperator, Ranges, Shape
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme


def append_reshape(program: Program, source: RuntimeTensor, output: RuntimeTensor) -> None:
    """Append RESHAPE."""
    program.append(RuntimeOperator("RESHAPE", 1, [source, program.indices(output.shape)], [output]))


@dataclass(frozen=True)
class Reshape(Operator):
    """The stored numbers of a sample under another shape; none is moved.

    Attributes:
        shape: of one sample of the output.
    """

    parameters_from = "input"

    shape: Shape

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape."""
        if prod(inputs[0]) != prod(self.shape):
            raise ValueError(f"a reshape from {inputs[0]} to {self.shape}")
        return self.shape

    def forward(self, *inputs: Tensor) -> Tensor:
        """Reshape every sample; codes and real values alike."""
        return inputs[0].reshape(len(inputs[0]), *self.shape)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Keep the input's parameters."""
        del ranges, scheme
        return QuantizedReshape(self), inputs[0]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append RESHAPE."""
        append_reshape(program, inputs[0], output)


@dataclass(frozen=True)
class QuantizedReshape(QuantizedMove):
    """The same codes in another shape.

    Attributes:
        reshape: which.
    """

    reshape: Reshape

    def forward(self, *codes: Tensor) -> Tensor:
        """Reshape."""
        return self.reshape.forward(*codes)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.reshape.lower(program, inputs, output)
