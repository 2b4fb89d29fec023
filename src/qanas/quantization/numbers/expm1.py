"""exp(x) - 1 in float32 to the last bit as most devices' C libraries compute it: the algorithm of Sun's fdlibm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float32]

ONE, TWO, HALF = np.float32(1.0), np.float32(2.0), np.float32(0.5)
THREE, SIX, QUARTER = np.float32(3.0), np.float32(6.0), np.float32(0.25)

LN2_HIGH, LN2_LOW = np.float32(6.9313812256e-01), np.float32(9.0580006145e-06)
"""ln 2 in two parts: whole multiples of the first one are exact."""

INVERSE_LN2 = np.float32(1.4426950216)

COEFFICIENTS = tuple(
    map(np.float32, (-3.3333335072e-02, 1.5873016091e-03, -7.9365076090e-05, 4.0082177293e-06, -2.0109921195e-07))
)

HALF_LN2, ONE_AND_A_HALF_LN2 = np.uint32(0x3EB17218).view(np.float32), np.uint32(0x3F851592).view(np.float32)
"""The borders between which ln 2 is taken off once, as the code compares them."""

LARGEST, SMALLEST = np.float32(88.0), np.float32(2.0**-25)

WHOLE_BITS, FEW_BITS = 56, 23
"""From powers of two above 56 on, and for negative ones, 1 is taken off at the end; below 23, in the middle."""


def expm1(values: Reals) -> Reals:
    """Return exp(x) - 1 for values of any shape, to 88; each operation is rounded to float32 as it is there."""
    x = np.clip(values, -LARGEST, LARGEST).astype(np.float32)
    powers = _powers(x)
    t = powers.astype(np.float32)
    high, low = (x - t * LN2_HIGH).astype(np.float32), (t * LN2_LOW).astype(np.float32)
    reduced = np.where(powers == 0, x, high - low)
    lost = np.where(powers == 0, np.float32(0.0), (high - reduced) - low)
    half = HALF * reduced
    squares = reduced * half
    series = np.full_like(x, COEFFICIENTS[-1])
    for coefficient in reversed(COEFFICIENTS[:-1]):
        series = coefficient + squares * series
    series = ONE + squares * series
    t = THREE - series * half
    error = squares * ((series - t) / (SIX - reduced * t))
    small = reduced - (reduced * error - squares)
    error = (reduced * (error - lost) - lost) - squares
    found = np.where(powers == 0, small, _scaled(reduced, error, powers))
    result: Reals = np.where(np.abs(x) < SMALLEST, x, found)
    return result


def _powers(x: Reals) -> NDArray[np.int32]:
    """Return the multiples of ln 2 that are taken off, any shape."""
    sizes = np.abs(x)
    rounded = np.trunc(INVERSE_LN2 * x + np.copysign(HALF, x))
    once = np.copysign(ONE, x)
    found = np.where(sizes <= HALF_LN2, np.float32(0.0), np.where(sizes < ONE_AND_A_HALF_LN2, once, rounded))
    return found.astype(np.int32)


def _scaled(x: Reals, error: Reals, powers: NDArray[np.int32]) -> Reals:
    """Return (1 + x - error) 2^power - 1, by the power as the code tells cases apart; all of one shape."""
    down = np.ldexp(ONE, -np.clip(powers, -126, 126)).astype(np.float32)
    whole = np.ldexp(ONE - (error - x), powers) - ONE
    few = np.ldexp((ONE - down) - (error - x), powers)
    many = np.ldexp((x - (error + down)) + ONE, powers)
    once = np.where(x < -QUARTER, -TWO * (error - (x + HALF)), ONE + TWO * (x - error))
    conditions = [powers == -1, powers == 1, (powers < -1) | (powers > WHOLE_BITS), powers < FEW_BITS]
    found: Reals = np.select(conditions, [HALF * (x - error) - HALF, once, whole, few], many).astype(np.float32)
    return found
