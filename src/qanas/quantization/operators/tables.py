"""Any function of one value: its results for all codes, as a table in the file.

No kernel of both runtimes looks codes up by itself, but three operators do it together: codes become whole numbers
(CAST), the smallest of them 0 (ADD), and those the positions of what is taken from the table (GATHER). Every result is
the true one, rounded once. It takes 4 bytes a number twice while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch
from torch import Tensor

from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.requantization import clamp_codes
from qanas.quantization.numbers.rounding import round_half_away
from qanas.quantization.operators.base import Operator, QuantizedOperator, Shape
from qanas.quantization.operators.float_terms import Term, X, relu, rsqrt
from qanas.quantization.operators.functions import look_up
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.simulation.fast import FastKernel, tabulated

INT8, INT32 = 9, 2
"""Types' numbers in the file format."""


@dataclass(frozen=True)
class TabulatedFunction(Operator):
    """``f(x)``, element by element.

    Attributes:
        name: what people call it.
        function: f in torch.
        in_float: what computes it in float32; None where the runtime has nothing for it.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    in_float: Term | None = None

    activation_bits = (8,)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, *shape)."""
        return self.function(inputs[0])

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Tabulate the function; what is no number, or beyond all codes, gets the nearest code."""
        output = Affine.from_range(*ranges.output, bits=scheme.activation_bits)
        source = inputs[0]
        every_code = torch.arange(source.low, source.high + 1, dtype=torch.float64)
        values = _without_gaps(self.function((every_code - source.zero_point) * source.scale))
        codes = round_half_away(torch.nan_to_num(values / output.scale, posinf=1e9, neginf=-1e9)).clamp(-1e9, 1e9)
        table = clamp_codes(codes + output.zero_point, output, "none").to(torch.float32)
        return QuantizedTable(table, output), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operators.

        Raises:
            ValueError: the runtime has none.
        """
        if self.in_float is None:
            raise ValueError(f"{self.name} has no kernel of float32; export it with 8 bits")
        self.in_float.append(program, inputs[0], output)


def _without_gaps(values: Tensor) -> Tensor:
    """Return a function's values, shape (codes,), with the nearest code's where it has none: just below a root's 0."""
    known = (~values.isnan()).nonzero().flatten()
    if len(known) in {0, len(values)}:
        return values
    distances = (torch.arange(len(values))[:, None] - known).abs()
    return values[known[distances.argmin(1)]]


@dataclass(frozen=True)
class InverseRoot(TabulatedFunction):
    """``1 / sqrt(max(x, 0) + epsilon)`` of a mean of squares, which rounding may take below 0.

    Attributes:
        epsilon: more than 0.
    """

    epsilon: float = 1e-5

    @classmethod
    def of(cls, epsilon: float) -> Self:
        """Return the function for an epsilon."""
        in_float = rsqrt(relu(X) + epsilon)
        return cls("an inverse root", partial(_inverse_root, epsilon=epsilon), in_float, epsilon=epsilon)


def _inverse_root(squares: Tensor, epsilon: float) -> Tensor:
    """Return the inverse root of mean squares of any shape."""
    return torch.rsqrt(squares.clamp(min=0.0) + epsilon)


@dataclass(frozen=True)
class QuantizedTable(QuantizedOperator):
    """Codes looked up.

    Attributes:
        values: the output's codes for all codes of the input in order, float32, shape (256,).
        output: parameters of the output's codes.
    """

    values: Tensor
    output: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Look the codes up, shape (batch, *shape)."""
        return look_up(self.values, codes[0])

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Look all codes up that there are."""
        return tabulated(self.forward, inputs[0], output)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append what makes positions of codes, and what takes these from the table."""
        whole, positions = (RuntimeTensor(output.shape, "int32") for _ in range(2))
        types = {"inDataType": INT8, "outDataType": INT32}
        half = program.indices([len(self.values) // 2])
        table = RuntimeTensor(
            (len(self.values),), output.dtype, output.quantization, self.values.numpy().astype(np.int8), 8
        )
        program.append(RuntimeOperator("CAST", 1, [inputs[0]], [whole], types))
        program.append(RuntimeOperator("ADD", 1, [whole, half], [positions]))
        program.append(RuntimeOperator("GATHER", 2, [table, positions], [output], {"axis": 0}))
