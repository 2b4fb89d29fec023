"""Logistic and tanh on int8: the kernels tabulate the true functions in float32, unlike those of 16 bits in an LSTM."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.affine import Affine
from qanas.quantization.operators.base import Ranges
from qanas.quantization.operators.lookup import ElementwiseFunction, steps_from_zero

Reals = NDArray[np.float32]


class _Sigmoid(ElementwiseFunction):
    """What is common to both: output parameters that the kernel demands."""

    parameters_from = "kernel"

    demanded: ClassVar[Affine]

    @abstractmethod
    def true_values(self, values: Reals) -> Reals:
        """Return the function in float32."""

    def output_affine(self, source: Affine, ranges: Ranges) -> Affine:
        """Return the kernel's parameters."""
        del source, ranges
        # An object a value: values of one kind are equal by demand, yet only identical ones share bytes in the file.
        return Affine(self.demanded.scale, self.demanded.zero_point)

    def table(self, source: Affine, output: Affine) -> NDArray[Any]:
        """Round as the kernel does, in float32, ties away from zero."""
        values = np.float32(source.scale) * steps_from_zero(source).astype(np.float32)
        scaled = (self.true_values(values) * np.float32(1.0 / output.scale)).astype(np.float64)
        return np.copysign(np.floor(np.abs(scaled) + 0.5), scaled) + output.zero_point


@dataclass(frozen=True)
class Logistic(_Sigmoid):
    """``1 / (1 + exp(-x))``."""

    kind = "LOGISTIC"
    demanded = Affine(1.0 / 256.0, -128)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return torch.sigmoid(inputs[0])

    def true_values(self, values: Reals) -> Reals:
        """Return the function, the exponential rounded to float32 as the C library does."""
        with np.errstate(over="ignore"):
            exponentials = np.exp(-values.astype(np.float64)).astype(np.float32)
        return np.float32(1.0) / (np.float32(1.0) + exponentials)


@dataclass(frozen=True)
class Tanh(_Sigmoid):
    """The hyperbolic tangent."""

    kind = "TANH"
    demanded = Affine(1.0 / 128.0, 0)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return torch.tanh(inputs[0])

    def true_values(self, values: Reals) -> Reals:
        """Return the function, from exp(x) - 1 in float32 as most C libraries do (Sun's fdlibm).

        Libraries differ in the last bit, and so may a code: 2 of 4.4 million did with glibc 2.36.
        """
        one, two, sizes = np.float32(1.0), np.float32(2.0), np.abs(values)
        small, large = _expm1(-two * sizes), _expm1(two * sizes)
        return np.copysign(np.where(sizes < one, -small / (small + two), one - two / (large + two)), values)


def _expm1(values: Reals) -> Reals:
    with np.errstate(over="ignore"):
        return np.expm1(values.astype(np.float64)).astype(np.float32)
