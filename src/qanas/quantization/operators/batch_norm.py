"""Batch norm with fixed statistics: a scale and an offset a channel, folded into the layer before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, Self

import torch
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import Operator, Ranges, Shape
from qanas.quantization.program import Program, RuntimeTensor
from qanas.quantization.scheme import Scheme


@dataclass(frozen=True)
class BatchNorm(Operator):
    """``scale * x + offset`` over the last axis. Exists only until `qanas.quantization.fold` has folded it.

    Attributes:
        weight: learned factors, shape (channels,).
        bias: learned offsets, shape (channels,).
        mean: of the inputs, shape (channels,).
        variance: likewise.
        epsilon: added to the variance.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor
    epsilon: float

    @property
    def scale(self) -> Tensor:
        """What inputs are multiplied by, shape (channels,)."""
        return torch.rsqrt(self.variance + self.epsilon) * self.weight

    @property
    def offset(self) -> Tensor:
        """What is added then, shape (channels,)."""
        return self.bias - self.mean * self.scale

    def with_statistics_of(self, inputs: Tensor) -> tuple[Self, Tensor]:
        """Return the batch norm with the statistics of some inputs, and its outputs for them.

        Args:
            inputs: shape (batch, *shape); statistics are over all axes but the last.
        """
        channels_second = inputs.movedim(-1, 1)
        outputs, mean, inverse_deviation = torch.native_batch_norm(
            channels_second, self.weight, self.bias, None, None, training=True, momentum=0.0, eps=self.epsilon
        )
        # A variance that rounding takes below 0 is that of a constant.
        variance = (inverse_deviation.reciprocal().square() - self.epsilon).clamp(min=0.0)
        return replace(self, mean=mean, variance=variance), outputs.movedim(1, -1)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        if inputs[0][-1] != len(self.mean):
            raise ValueError(f"a batch norm of {len(self.mean)} channels got {inputs[0][-1]}")
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
