"""Factors as the C kernels have them: multipliers and shifts, for products that are rounded twice, or once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qanas.quantization.numbers.functions import multiplier_and_power
from qanas.quantization.numbers.rounding import round_half_away_array

LOWEST_EXPONENT = -31
"""Smaller factors make every number 0."""

PRODUCT_BITS = 62
"""Of a sum and its multiplier."""


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


def rounded_once(
    factors: NDArray[np.float64], largest: Sequence[int], codes: tuple[int, int]
) -> tuple[list[int], int] | None:
    """Return multipliers and the shift that `scale_once.c` takes, or None where none rounds as double precision does.

    Both are monotone: they are one where they agree at the whole numbers on either side of every step of the output.

    Args:
        factors: shape (n,).
        largest: the largest size of the sums that each is for.
        codes: the lowest and the highest one, counted from the zero point.
    """
    bits = max(int(size).bit_length() for size in largest)
    _, exponents = np.frexp(factors)
    shift = min(PRODUCT_BITS - bits - int(exponents.max()), PRODUCT_BITS)
    if shift < 1 or float(np.max(factors * np.array(largest, np.float64))) >= 2.0**31:
        return None
    multipliers = [int(np.rint(factor * 2.0**shift)) for factor in factors]
    borders = np.arange(codes[0], codes[1] + 1, dtype=np.float64) - 0.5
    for factor, multiplier, size in zip(factors, multipliers, largest, strict=True):
        near = np.floor(borders / factor)[:, None] + np.arange(-1, 3)
        sums = np.unique(np.clip(near, -float(size), float(size))).astype(np.int64)
        wanted = np.clip(round_half_away_array(sums.astype(np.float64) * factor), *codes)
        products = np.abs(sums) * np.int64(multiplier)
        found = np.sign(sums) * ((products + (np.int64(1) << (shift - 1))) >> shift)
        if not np.array_equal(np.clip(found, *codes), wanted):
            return None
    return multipliers, shift
