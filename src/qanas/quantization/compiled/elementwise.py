"""One pass over memory each: from sums to codes, sums of two values, tables.

Codes are "steps" here: float32, the zero point subtracted. Rounding is that of the integer kernels, bit by bit, in
float64: first to a fine grid, exact ties up, then to whole steps, exact ties away from zero. The second rounding is
written as ``floor(x * fine_step + 0.5)`` with a fine step that is `AWAY` times its power of two: that moves ties, and
nothing else, away from zero. Loops are what LLVM turns into vector instructions without reordering any sum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qanas.core.compilation import entry_point

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

AWAY = 1.0 + 2.0**-40
"""Larger than 1 by less than what lies between a tie and its neighbours on any grid that matters, 2^-24 or coarser."""


@entry_point("void(f4[::1], f8[::1], f8[::1], f8[::1], f8, f8)")
def requantize(sums: Floats, factors: Doubles, offsets: Doubles, fine_steps: Doubles, low: float, high: float) -> None:
    """Replace integer sums by steps of the output: ``clamp(round(floor(sum * factor + offset) * fine_step))``.

    Args:
        sums: changed; channels last, any number of positions.
        factors: to the fine grid, by channel, repeated as often as one likes: that makes short inner loops long.
        offsets: bias times factor + 1/2, repeated alike.
        fine_steps: of the fine grid in steps of the output, times `AWAY`, repeated alike.
        low: the lowest step of the output.
        high: the highest one.
    """
    period = len(factors)
    for start in range(0, len(sums), period):
        part = sums[start : start + period]
        for n in range(len(part)):
            value = np.floor(np.floor(np.float64(part[n]) * factors[n] + offsets[n]) * fine_steps[n] + 0.5)
            value = max(value, low)
            value = min(value, high)
            part[n] = np.float32(value)


@entry_point("void(f4[::1], f4[::1], f8[::1], f8[::1], f8, f8)")
def requantize_halves(
    upper: Floats, lower: Floats, factors: Doubles, offsets: Doubles, low: float, high: float
) -> None:
    """Replace ``upper`` by ``clamp(floor((256 * upper + lower) * factor + offset))``: 16-bit codes, in halves.

    Args:
        upper: sums of products with the upper halves of the codes, changed; channels last, any number of positions.
        lower: the same with the lower halves.
        factors: to the output's steps, by channel, repeated as often as one likes.
        offsets: bias times factor + 1/2, repeated alike.
        low: the lowest step of the output.
        high: the highest one.
    """
    period = len(factors)
    for start in range(0, len(upper), period):
        part, other = upper[start : start + period], lower[start : start + period]
        for n in range(len(part)):
            total = np.float64(part[n]) * 256.0 + np.float64(other[n])
            value = np.floor(total * factors[n] + offsets[n])
            value = max(value, low)
            value = min(value, high)
            part[n] = np.float32(value)


@entry_point("void(f4[::1], f4[::1], f8[::1], f4[::1])")
def add(left: Floats, right: Floats, constants: Doubles, total: Floats) -> None:
    """Add steps of two scales: each is brought to a fine grid first, and the sum to the output's steps.

    Args:
        left: steps of the first scale.
        right: steps of the second scale.
        constants: factor and fine step of the left, of the right, and of the sum; lowest and highest step.
        total: steps of the output, written.
    """
    left_factor, left_step, right_factor, right_step = constants[0], constants[1], constants[2], constants[3]
    factor, step, low, high = constants[4], constants[5], constants[6], constants[7]
    for n in range(len(total)):
        fine = np.floor(np.floor(np.float64(left[n]) * left_factor + 0.5) * left_step + 0.5)
        fine += np.floor(np.floor(np.float64(right[n]) * right_factor + 0.5) * right_step + 0.5)
        value = np.floor(np.floor(fine * factor + 0.5) * step + 0.5)
        value = max(value, low)
        value = min(value, high)
        total[n] = np.float32(value)


@entry_point("void(f4[::1], f4[::1], i8, f4[::1])")
def look_up(steps: Floats, table: Floats, offset: int, found: Floats) -> None:
    """Write the table's entry for every step.

    Args:
        steps: what is looked up.
        table: an entry a code.
        offset: from a step to its position in the table.
        found: the entries, written.
    """
    for n in range(len(steps)):
        found[n] = table[np.int64(steps[n]) + offset]


@entry_point("void(f4[::1], f4, f4, f4)")
def quantize(values: Floats, scale: float, low: float, high: float) -> None:
    """Replace real values by steps, divided in float32 and rounded with ties away from zero.

    Args:
        values: changed.
        scale: of a step.
        low: the lowest step.
        high: the highest one.
    """
    half = np.float32(0.5)
    for n in range(len(values)):
        scaled = values[n] / scale
        size = np.floor(abs(scaled) + half)
        values[n] = min(max(-size if scaled < 0 else size, low), high)
