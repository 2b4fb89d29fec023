"""The same values in another shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import torch
from torch import Tensor, nn

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import Operator, QuantizedOperator, Ranges, Shape
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme


class _Reshape(Operator):
    """What is common to all: only the output's shape differs."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Reshape every sample; codes and real values alike."""
        return inputs[0].reshape(len(inputs[0]), *self.output_shape(tuple(inputs[0].shape[1:])))

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Keep the input's parameters."""
        del ranges, scheme
        return QuantizedReshape(self), inputs[0]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append RESHAPE."""
        program.append(RuntimeOperator("RESHAPE", 1, [inputs[0], program.indices(output.shape)], [output]))


@dataclass(frozen=True)
class Flatten(_Reshape):
    """All values of a sample on one axis."""

    modules = (nn.Flatten,)
    functions = (torch.flatten,)

    @classmethod
    def from_module(cls, module: nn.Module) -> Self:
        """Take an `nn.Flatten` of whole samples."""
        assert isinstance(module, nn.Flatten)  # noqa: S101 - narrows the type that `modules` promises
        return cls.from_call(module.start_dim, module.end_dim)

    @classmethod
    def from_call(cls, *arguments: Any) -> Self:  # noqa: ANN401 - whatever the traced code passed
        """Take ``torch.flatten(x, 1)``."""
        if arguments not in ((1,), (1, -1)):
            raise ValueError(f"flatten with {arguments}; flatten whole samples: torch.flatten(x, 1)")
        return cls()

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the number of values."""
        return (prod(inputs[0]),)


@dataclass(frozen=True)
class Unsqueeze(_Reshape):
    """A further axis of size 1.

    Attributes:
        axis: of the sample, where the new one is.
    """

    axis: int

    functions = (torch.unsqueeze,)

    @classmethod
    def from_call(cls, *arguments: Any) -> Self:  # noqa: ANN401 - whatever the traced code passed
        """Take ``torch.unsqueeze(x, axis)`` with an axis behind the batch, counted from the front."""
        if len(arguments) != 1 or not isinstance(arguments[0], int) or arguments[0] < 1:
            raise ValueError(f"unsqueeze with {arguments}; give the new axis as a number from 1: the batch stays first")
        return cls(arguments[0] - 1)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape with the new axis."""
        if self.axis > len(inputs[0]):
            raise ValueError(f"a new axis at {self.axis + 1} of a value of {len(inputs[0]) + 1} axes")
        return (*inputs[0][: self.axis], 1, *inputs[0][self.axis :])


@dataclass(frozen=True)
class QuantizedReshape(QuantizedOperator):
    """The same codes in another shape.

    Attributes:
        reshape: which.
    """

    reshape: Operator

    def forward(self, *codes: Tensor) -> Tensor:
        """Reshape."""
        return self.reshape.forward(*codes)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator."""
        self.reshape.lower(program, inputs, output)
