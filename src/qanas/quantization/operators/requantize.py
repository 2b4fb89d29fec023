"""From the accumulator's unit to the output's codes, with the fused activation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qanas.quantization.affine import Affine, QuantizedWeights, round_half_away
from qanas.quantization.operators.base import Activation


def activate(values: Tensor, activation: Activation) -> Tensor:
    """Apply an activation function in floating point."""
    return torch.relu(values) if activation == "relu" else values


def clamp_codes(codes: Tensor, output: Affine, activation: Activation) -> Tensor:
    """Saturate codes to what the output type and the fused activation allow."""
    low = max(output.low, output.zero_point) if activation == "relu" else output.low
    return codes.clamp(low, output.high)


@dataclass(frozen=True)
class Requantization:
    """``clamp(round(sum * factor) + zero point)``.

    Attributes:
        factors: input scale x weight scale / output scale, a scalar or one a channel of the last axis.
        output: parameters of the output's codes.
        activation: fused.
    """

    factors: Tensor
    output: Affine
    activation: Activation

    @classmethod
    def of(cls, weights: QuantizedWeights, source: Affine, output: Affine, activation: Activation) -> Requantization:
        """Return the requantization of products of ``source`` and ``weights``."""
        factors = weights.scales.astype(np.float64) * np.float64(np.float32(source.scale)) / output.scale
        return cls(torch.from_numpy(factors.astype(np.float32)), output, activation)

    def __call__(self, sums: Tensor) -> Tensor:
        """Return the output's codes for integer sums, channels last."""
        return clamp_codes(round_half_away(sums * self.factors) + self.output.zero_point, self.output, self.activation)
