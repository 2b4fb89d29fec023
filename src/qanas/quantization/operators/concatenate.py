"""Values side by side along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import FastKernel, Operator, QuantizedOperator, Ranges, Shape
from qanas.quantization.operators.fast import tabulated
from qanas.quantization.operators.quantize import append_quantize, requantized
from qanas.quantization.operators.requantize import with_reachable_scale
from qanas.quantization.program import COMMON_VERSIONS, Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.scheme import Scheme


@dataclass(frozen=True)
class Concatenate(Operator):
    """Values side by side.

    Attributes:
        axis: of the sample, counted from 0.
        shared: for each input, whether whoever computes it takes the output's parameters, so that nothing is left to
            rescale; empty where that is not known (`qanas.quantization.sharing` finds out).
    """

    axis: int
    shared: tuple[bool, ...] = ()

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape whose size along the axis is the sum of all."""
        first = inputs[0]
        if not 0 <= self.axis < len(first):
            raise ValueError(f"a concatenation along axis {self.axis} of the shape {first}")
        if len({(*shape[: self.axis], 0, *shape[self.axis + 1 :]) for shape in inputs}) > 1:
            raise ValueError(f"a concatenation along axis {self.axis} of {' and '.join(map(str, inputs))}")
        return (*first[: self.axis], sum(shape[self.axis] for shape in inputs), *first[self.axis + 1 :])

    def forward(self, *inputs: Tensor) -> Tensor:
        """Concatenate; codes of one scale and real values alike."""
        return torch.cat(inputs, self.axis + 1)

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Bring all inputs to the output's parameters; the kernel itself rescales nothing.

        Inputs that share one object of parameters need no rescaling, and the output shares it, too: equal by
        construction, not by chance, so that the file's size depends on shapes alone.
        """
        if any(self.shared):
            output = inputs[self.shared.index(True)]
        elif all(affine is inputs[0] for affine in inputs):
            output = inputs[0]
        else:
            coarsest = max(affine.scale for affine in inputs)
            output = with_reachable_scale(Affine.from_range(*ranges.output, bits=scheme.activation_bits), coarsest)
        return QuantizedConcatenate(self, tuple(inputs), output), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append CONCATENATION; the same for codes and real values."""
        version, options = COMMON_VERSIONS[output.dtype], {"axis": self.axis + 1}
        program.append(RuntimeOperator("CONCATENATION", version, inputs, [output], options))


@dataclass(frozen=True)
class QuantizedConcatenate(QuantizedOperator):
    """Codes side by side.

    Attributes:
        concatenate: along which axis.
        inputs: parameters of the inputs' codes; rescaled are those that are not the output's object.
        output: parameters of the output's codes.
    """

    concatenate: Concatenate
    inputs: tuple[Affine, ...]
    output: Affine

    def forward(self, *codes: Tensor) -> Tensor:
        """Rescale and concatenate."""
        return self.concatenate.forward(
            *(
                part if affine is self.output else requantized(part, affine, self.output)
                for part, affine in zip(codes, self.inputs, strict=True)
            )
        )

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Rescale by tables."""
        rescaled = [
            None
            if affine is self.output
            else tabulated(partial(requantized, source=affine, output=self.output), affine, output)
            for affine in inputs
        ]

        def kernel(*steps: Tensor) -> Tensor:
            pairs = zip(steps, rescaled, strict=True)
            return self.concatenate.forward(*(part if rescale is None else rescale(part) for part, rescale in pairs))

        return kernel

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator, QUANTIZE in front where needed."""
        parts = []
        for source, affine in zip(inputs, self.inputs, strict=True):
            part = source
            if affine is not self.output:
                part = RuntimeTensor(source.shape, source.dtype, output.quantization)
                append_quantize(program, source, part)
            parts.append(part)
        self.concatenate.lower(program, parts, output)
