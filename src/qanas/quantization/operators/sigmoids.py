"""Logistic and tanh: the kernels of 8 bits tabulate the true functions in float32, those of 16 bits interpolate.

Neither is what the kernel of an LSTM does.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.quantization.affine import BYTE_BITS, Affine
from qanas.quantization.operators.base import Ranges
from qanas.quantization.operators.lookup import Codes, ElementwiseFunction, steps_from_zero
from qanas.quantization.scheme import UnsupportedSchemeError

Reals = NDArray[np.float32]

LARGEST_POSITION = 255
"""The last entry of the table that kernels of 16 bits interpolate in; beyond it they saturate."""

ONE = (1 << 16) - 1
"""What they saturate to, in Q0.16."""

LARGEST_STEP = 5.0
"""Of their input: larger ones overflow 32 bits."""

NEAR = 1e-3
"""How far a logarithm may be from a whole number."""

LONGEST_SHIFT = 30
"""That they scale their input by."""


class _Sigmoid(ElementwiseFunction):
    """What is common to both: output parameters that the kernel demands."""

    parameters_from = "kernel"

    demanded: ClassVar[Mapping[int, Affine]]
    """The output's parameters, by its bits."""

    @abstractmethod
    def true_values(self, values: Reals) -> Reals:
        """Return the function in float32."""

    def output_affine(self, source: Affine, ranges: Ranges) -> Affine:
        """Return the kernel's parameters.

        Raises:
            UnsupportedSchemeError: inputs that overflow in the kernel of 16 bits.
        """
        del ranges
        if source.wide and source.scale > LARGEST_STEP:
            raise UnsupportedSchemeError(
                f"inputs in steps of {source.scale:g}; the kernel of 16 bits takes {LARGEST_STEP:g} at most; "
                f"give this layer activation_bits = {BYTE_BITS}"
            )
        # An object a value: values of one kind are equal by demand, yet only identical ones share bytes in the file.
        return replace(self.demanded[source.bits])

    @abstractmethod
    def interpolated(self, source: Affine) -> Codes:
        """Return the results of the kernel of 16 bits, for every code."""

    def table(self, source: Affine, output: Affine) -> NDArray[Any]:
        """Round as the kernel does."""
        return self.interpolated(source) if source.wide else self._rounded(source, output)

    def _rounded(self, source: Affine, output: Affine) -> NDArray[Any]:
        """Round in float32, ties away from zero."""
        values = np.float32(source.scale) * steps_from_zero(source).astype(np.float32)
        scaled = (self.true_values(values) * np.float32(1.0 / output.scale)).astype(np.float64)
        return np.copysign(np.floor(np.abs(scaled) + 0.5), scaled) + output.zero_point


@dataclass(frozen=True)
class Logistic(_Sigmoid):
    """``1 / (1 + exp(-x))``."""

    kind = "LOGISTIC"
    demanded: ClassVar[Mapping[int, Affine]] = {8: Affine(1.0 / 256.0, -128), 16: Affine(1.0 / 32768.0, 0, 16)}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return torch.sigmoid(inputs[0])

    def interpolated(self, source: Affine) -> Codes:
        """Interpolate between steps of 1/24; see `LOGISTIC_TABLE`."""
        fine = _fine_steps(source, exponents=(-12,))
        saturated = np.abs(fine) >> 9 >= LARGEST_POSITION
        found = np.where(saturated, (ONE >> 1) << 10, _interpolated(np.abs(fine), 9))
        return np.where(fine >= 0, found + (1 << 9), (1 << 25) - found + (1 << 9) - 1) >> 10

    def true_values(self, values: Reals) -> Reals:
        """Return the function, the exponential rounded to float32 as the C library does."""
        with np.errstate(over="ignore"):
            exponentials = np.exp(-values.astype(np.float64)).astype(np.float32)
        return np.float32(1.0) / (np.float32(1.0) + exponentials)


@dataclass(frozen=True)
class Tanh(_Sigmoid):
    """The hyperbolic tangent."""

    kind = "TANH"
    demanded: ClassVar[Mapping[int, Affine]] = {8: Affine(1.0 / 128.0, 0), 16: Affine(1.0 / 32768.0, 0, 16)}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32."""
        return torch.tanh(inputs[0])

    def interpolated(self, source: Affine) -> Codes:
        """Interpolate in the logistic function's table: tanh(x) = 2 logistic(2 x) - 1."""
        fine = _fine_steps(source, exponents=(-12, -11))
        saturated = np.abs(fine) >> 8 >= LARGEST_POSITION
        found = np.where(saturated, ONE << 8, _interpolated(np.abs(fine), 8))
        return np.where(fine >= 0, found - (1 << 23) + (1 << 7), (1 << 23) - found + (1 << 7) - 1) >> 8

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


def _logistic_table() -> Codes:
    """Return the kernels' table: entries are raised by half of what lines between them lack in the middle."""
    positions = np.arange(2 * LARGEST_POSITION + 1) / 48.0
    values = 65536.0 / (1.0 + np.exp(-positions))
    ends, middles = values[::2], values[1::2]
    lacking = middles - (ends[:-1] + ends[1:]) / 2.0
    return np.append(np.floor(ends[:-1] + lacking / 2.0 + 0.5), ONE).astype(np.int64)


LOGISTIC_TABLE = _logistic_table()
"""The logistic function of 0, 1/24, ..., 255/24 in Q0.16."""


def _interpolated(fine: Codes, bits: int) -> Codes:
    """Return the logistic function in Q0.(16 + bits) of numbers in steps of 2^-bits / 24, 0 to 255/24."""
    lower = np.minimum(fine >> bits, LARGEST_POSITION - 1)
    first, second = LOGISTIC_TABLE[lower], LOGISTIC_TABLE[lower + 1]
    interpolated: Codes = (first << bits) + (fine - (lower << bits)) * (second - first)
    return interpolated


def _fine_steps(source: Affine, exponents: Sequence[int]) -> Codes:
    """Return every code in steps of 2^-12 / 3.

    Args:
        source: parameters of the codes.
        exponents: of the powers of two that the kernel takes scales for that are near them.
    """
    logarithm = math.log2(source.scale)
    exponent = round(logarithm)
    multiplier, shift = 3.0 * 2.0 ** (12 + exponent), 0
    if exponent not in exponents or abs(logarithm - exponent) >= NEAR:
        multiplier = 3.0 * 2.0**12 * source.scale
        while multiplier <= (2.0**15 - 1.0) / 2.0 and shift <= LONGEST_SHIFT:
            multiplier, shift = 2.0 * multiplier, shift + 1
    return (steps_from_zero(source) * int(multiplier) + ((1 << shift) >> 1)) >> shift
