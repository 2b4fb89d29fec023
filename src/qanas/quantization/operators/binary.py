"""What element-wise operators of two values have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import (
    ACTIVATION_CODES,
    Activation,
    Operator,
    QuantizedOperator,
    composed,
    in_file,
)
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor

VERSION_FLOAT, VERSION_INT8 = 1, 2


@dataclass(frozen=True)
class BinaryOperator(Operator):
    """A function of two values and an activation.

    Attributes:
        activation: fused.
    """

    activation: Activation = "none"

    kind: ClassVar[str]
    """The name of the builtin operator."""

    def with_activation(self, activation: Activation) -> Self:
        """Return the operator with an activation behind the one that it has."""
        return replace(self, activation=composed(self.activation, activation))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the operator; the same for codes and real values."""
        version = VERSION_INT8 if output.dtype == "int8" else VERSION_FLOAT
        options = {"fusedActivationFunction": ACTIVATION_CODES[in_file(self.activation, output)]}
        program.append(RuntimeOperator(self.kind, version, inputs, [output], options))


@dataclass(frozen=True)
class QuantizedBinaryOperator(QuantizedOperator):
    """A function of two values' codes.

    Attributes:
        operator: what is computed, with its activation.
        first: parameters of the first input's codes.
        second: parameters of the second input's codes.
        output: parameters of the output's codes.
    """

    operator: BinaryOperator
    first: Affine
    second: Affine
    output: Affine

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator."""
        self.operator.lower(program, inputs, output)
