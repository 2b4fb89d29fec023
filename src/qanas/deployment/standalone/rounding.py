"""Factors as the C kernels have them: multipliers and shifts, for products that are rounded twice, or once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qanas.quantization.numbers.functions import multiplier_and_power
from qanas.quantization.numbers.rounding import round_half_away_array

LOWEST_EXPONENT = -31
"""Smaller factors make every number 0."""

LOWER_BITS = 26
"""Of a double's 53 bits, the other 27 are the upper ones: products of either with a sum fit 64 bits."""

LARGEST_SHIFT = 62


def multiplier_and_exponent(factor: float) -> tuple[int, int]:
    """Return what `rescale.c` takes for a factor.

    >>> multiplier_and_exponent(0.75), multiplier_and_exponent(2.0**-40)
    ((1610612736, 0), (0, 0))
    """
    multiplier, exponent = multiplier_and_power(factor)
    return (multiplier, exponent) if exponent >= LOWEST_EXPONENT else (0, 0)


def multipliers_and_exponents(factors: Sequence[float] | NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Return the multipliers of factors, and their exponents."""
    pairs = [multiplier_and_exponent(float(factor)) for factor in factors]
    return [multiplier for multiplier, _ in pairs], [exponent for _, exponent in pairs]


@dataclass(frozen=True)
class Once:
    """A factor as `scale_once.c` has it, all 53 bits of a double: ``(upper * 2^26 + lower) / 2^(26 + shift)``.

    Attributes:
        upper: 27 bits.
        lower: 26 bits.
        shift: 1 to 62.
    """

    upper: int
    lower: int
    shift: int

    @classmethod
    def of(cls, factor: float) -> Once:
        """Return a factor; 0 for one that makes every sum of 32 bits 0.

        >>> Once.of(0.75)
        Once(upper=100663296, lower=0, shift=27)
        """
        mantissa, exponent = np.frexp(factor)
        whole, shift = int(mantissa * 2.0**53), 53 - int(exponent) - LOWER_BITS
        return cls(whole >> LOWER_BITS, whole & ((1 << LOWER_BITS) - 1), shift) if shift <= LARGEST_SHIFT else ZERO

    def __call__(self, sums: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rounded products of sums below 2^32, any shape, as `scale_once.c` does."""
        sizes = np.abs(sums).astype(np.uint64)
        fine = sizes * np.uint64(self.upper) + (sizes * np.uint64(self.lower) >> np.uint64(LOWER_BITS))
        steps = (fine + (np.uint64(1) << np.uint64(self.shift - 1))) >> np.uint64(self.shift)
        signed: NDArray[np.int64] = np.sign(sums) * steps.astype(np.int64)
        return signed

    def rounds_as_double(self, factor: float, largest: int, codes: tuple[int, int]) -> bool:
        """Tell whether no sum is rounded to another code than in double precision.

        Both are monotone: they are one where they agree at the whole numbers around every step of the output.

        Args:
            factor: the same, as a double.
            largest: the largest size of sums.
            codes: the lowest and the highest one, counted from the zero point.
        """
        if not 1 <= self.shift <= LARGEST_SHIFT or largest * factor >= 2.0**31 or largest >= 2**31:
            return False
        borders = np.arange(codes[0], codes[1] + 1, dtype=np.float64) - 0.5
        near = np.floor(borders / factor)[:, None] + np.arange(-1, 3)
        sums = np.unique(np.clip(near, -float(largest), float(largest))).astype(np.int64)
        wanted = np.clip(round_half_away_array(sums.astype(np.float64) * factor), *codes)
        return bool(np.array_equal(np.clip(self(sums), *codes), wanted))


ZERO = Once(0, 0, 1)
