"""Leaky ReLU: each side of zero has a factor of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.lookup import Codes, ElementwiseFunction, steps_from_zero
from qanas.quantization.operators.requantize import FixedPoint, float32_factor
from qanas.quantization.program import DType


def _rescaled(steps: Codes, factor: float) -> NDArray[np.float64]:
    """Return steps of the input as whole steps of the output."""
    rescaled: NDArray[np.float64] = FixedPoint.of(factor)(torch.from_numpy(steps.astype(np.float64))).numpy()
    return rescaled


@dataclass(frozen=True)
class LeakyReLU(ElementwiseFunction):
    """``x`` above zero, ``slope * x`` below.

    Attributes:
        slope: below zero, 0 or more.
    """

    slope: float

    kind = "LEAKY_RELU"
    versions: ClassVar[Mapping[DType, int]] = {"float32": 1, "int8": 2, "int16": 2}

    def __post_init__(self) -> None:
        """Refuse slopes that older kernels can't have."""
        if self.slope < 0.0:
            raise ValueError(f"a leaky ReLU of slope {self.slope}; it must be 0 or more")

    def options(self) -> Mapping[str, float]:
        """Return the slope."""
        return {"alpha": self.slope}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return F.leaky_relu(inputs[0], self.slope)

    def table(self, source: Affine, output: Affine) -> NDArray[Any]:
        """Rescale both sides of zero by factors of their own."""
        steps = steps_from_zero(source)
        above = _rescaled(steps, float32_factor([source.scale], output.scale))
        below = _rescaled(steps, float32_factor([source.scale, self.slope], output.scale))
        return np.where(steps >= 0, above, below) + output.zero_point
