"""Batch norm after training: a scale and an offset a channel, folded into the layer before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import Operator, Ranges, Shape
from qanas.quantization.program import Program, RuntimeTensor
from qanas.quantization.scheme import Scheme


@dataclass(frozen=True)
class BatchNorm(Operator):
    """``scale * x + offset`` over the last axis. Exists only until `qanas.quantization.fold` has folded it.

    Attributes:
        scale: shape (channels,).
        offset: shape (channels,).
    """

    scale: Tensor
    offset: Tensor

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        if inputs[0][-1] != len(self.scale):
            raise ValueError(f"a batch norm of {len(self.scale)} channels got {inputs[0][-1]}")
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return inputs[0] * self.scale + self.offset

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> NoReturn:
        """Refuse: a graph has none left."""
        raise NotImplementedError("a batch norm is folded before anything is quantized")

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> NoReturn:
        """Refuse: a graph has none left."""
        raise NotImplementedError("a batch norm is folded before anything is lowered")
