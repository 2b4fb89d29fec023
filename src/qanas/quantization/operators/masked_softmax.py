"""Softmax of scores of which a mask lets only some through (attention that looks back, padding at known places)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.arithmetic import Add, WithConstant
from qanas.quantization.operators.base import Operator, QuantizedOperator, Shape
from qanas.quantization.operators.reductions import Softmax
from qanas.quantization.program import Program, RuntimeTensor, TensorQuantization
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.simulation.fast import FastKernel

BLOCKED = -1e9
"""What is added to a score that doesn't count, in float32."""

FAR = 6.0
"""How far below the largest score of a row all that don't count may add up to: exp(-6) of it, less than a step of the
result."""


@dataclass(frozen=True)
class MaskedSoftmax(Operator):
    """``softmax(x + m)`` over the last axis, m 0 or minus infinity.

    In codes, a sum takes what doesn't count to the smallest code, and that lies as far below the largest score of any
    row as it has to, no farther: steps stay fine.

    Attributes:
        allowed: what counts, bool, repeated along axes of size 1 and leading ones that it lacks.
    """

    parameters_from = "kernel"

    allowed: Tensor

    def tensors(self) -> Mapping[str, Tensor]:
        """Return none: training leaves the mask as it is."""
        return {}

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return Softmax().output_shape(self._masking(BLOCKED).output_shape(*inputs))

    def _masking(self, offset: float) -> WithConstant:
        """Return the sum with an offset where nothing counts."""
        return WithConstant(Add(), torch.where(self.allowed, 0.0, offset))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32, shape (batch, ..., keys)."""
        return torch.softmax(self._masking(BLOCKED).forward(inputs[0]), -1)

    def observe(self, *inputs: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return each row's largest score, and what is far below it, as the scores that codes have to cover."""
        largest = self._masking(BLOCKED).forward(inputs[0]).amax(-1)
        reach = FAR + math.log(inputs[0].shape[-1])
        return self.forward(*inputs), {"scores": torch.stack([largest, largest - reach])}

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Quantize the sum, which saturates, and the softmax behind it."""
        low, high = ranges.internals["scores"]
        offset = min(low - max(inputs[0].span[1], high), -1.0)
        masking, scores = self._masking(offset).quantize(inputs, Ranges((low, high), {}), scheme)
        softmax, output = Softmax().quantize([scores], ranges, scheme)
        return QuantizedMaskedSoftmax(masking, scores, softmax), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operators."""
        scores = RuntimeTensor(output.shape, output.dtype)
        self._masking(BLOCKED).lower(program, inputs, scores)
        Softmax().lower(program, [scores], output)


@dataclass(frozen=True)
class QuantizedMaskedSoftmax(QuantizedOperator):
    """Both integer operators.

    Attributes:
        masking: the sum.
        scores: parameters of its codes.
        softmax: of them.
    """

    masking: QuantizedOperator
    scores: Affine
    softmax: QuantizedOperator

    def forward(self, *codes: Tensor) -> Tensor:
        """Compute on codes, shape (batch, ..., keys)."""
        return self.softmax.forward(self.masking.forward(*codes))

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Compute one behind the other."""
        masked = self.masking.fast_kernel(inputs, self.scores)
        shares = self.softmax.fast_kernel([self.scores], output)
        return lambda steps: shares(masked(steps))

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append both."""
        between = RuntimeTensor(output.shape, output.dtype, TensorQuantization.of(self.scores))
        self.masking.lower(program, inputs, between)
        self.softmax.lower(program, [between], output)
