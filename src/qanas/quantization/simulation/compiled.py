"""Compiled loops, one pass over memory each: from sums to codes, sums of two values, tables, LSTM steps, resizes.

Codes are "steps" here: float32, the zero point subtracted. Rounding is that of the integer kernels, bit by bit, in
float64: first to a fine grid, exact ties up, then to whole steps, exact ties away from zero. The second rounding is
written as ``floor(x * fine_step + 0.5)`` with a fine step that is `AWAY` times its power of two: that moves ties, and
nothing else, away from zero. Loops are what LLVM turns into vector instructions without reordering any sum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qanas.core.compilation import entry_point, inlined
from qanas.quantization import numbers
from qanas.quantization.numbers.rounding import round_half_away_number

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

round_half_away = inlined(round_half_away_number)


@entry_point("void(f4[::1], f8[::1], f8[::1], f8[::1], f8, f8)")
def requantize(sums: Floats, factors: Doubles, offsets: Doubles, fine_steps: Doubles, low: float, high: float) -> None:
    """Replace integer sums by steps of the output: ``clamp(round(floor(sum * factor + offset) * fine_step))``.

    Args:
        sums: changed; shape (positions * channels,), channels last.
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
        upper: sums of products with the upper halves of the codes, changed; shape (positions * channels,).
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
        left: steps of the first scale, shape (values,), as the other two.
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
        steps: what is looked up, shape (values,).
        table: an entry a code, shape (codes,).
        offset: from a step to its position in the table.
        found: the entries, written.
    """
    for n in range(len(steps)):
        found[n] = table[np.int64(steps[n]) + offset]


@entry_point("void(f4[::1], f4, f4, f4)", numbers)
def quantize(values: Floats, scale: float, low: float, high: float) -> None:
    """Replace real values by steps, divided in float32 and rounded with ties away from zero.

    Args:
        values: changed, shape (values,).
        scale: of a step.
        low: the lowest step.
        high: the highest one.
    """
    half = np.float32(0.5)
    for n in range(len(values)):
        values[n] = min(max(round_half_away(values[n] / scale, half), low), high)


Words = NDArray[np.int16]

LOW, HIGH = -32768.0, 32767.0
LOWEST_CODE, HIGHEST_CODE = np.float32(LOW), np.float32(HIGH)


@inlined
def _saturated(value: float) -> float:
    """Return a number clamped to 16 bits."""
    return min(max(value, LOW), HIGH)


@inlined
def _position(code: np.float32) -> int:
    """Return where a table has a code, clamped to 16 bits; all in float32."""
    return int(min(max(code, LOWEST_CODE), HIGHEST_CODE) - LOWEST_CODE)


@entry_point("void(f4[:, ::1], f4[:, :], i2[::1], i2[::1], i2[::1], f8[::1], f4[:, ::1], f4[:, ::1])")
def step_lstm(
    recurrent: Floats,
    projected: Floats,
    logistic: Words,
    tanh: Words,
    tanh_of_cell: Words,
    constants: Doubles,
    cell: Floats,
    hidden: Floats,
) -> None:
    """Compute the next cell and hidden states, every rounding that of the kernel.

    Args:
        recurrent: the hidden state's share of the gates' codes, shape (batch, 4 * units), order i, f, g, o.
        projected: the inputs' share.
        logistic: table over all gate codes, entry 2^15 that of 0; of 16 bits, so that all three fit the cache.
        tanh: the same of tanh.
        tanh_of_cell: the same, over all codes of the cell.
        constants: from products to the cell's codes: of what is kept and of what is written; from products to the
            hidden state's steps: factor and fine step; lowest and highest step of the hidden state.
        cell: codes, shape (batch, units), changed.
        hidden: steps, written.
    """
    to_kept, to_written, factor, fine_step = constants[0], constants[1], constants[2], constants[3]
    lowest, highest = constants[4], constants[5]
    batch, units = cell.shape
    for row in range(batch):
        for n in range(units):
            i = logistic[_position(recurrent[row, n] + projected[row, n])]
            f = logistic[_position(recurrent[row, units + n] + projected[row, units + n])]
            g = tanh[_position(recurrent[row, 2 * units + n] + projected[row, 2 * units + n])]
            o = logistic[_position(recurrent[row, 3 * units + n] + projected[row, 3 * units + n])]
            kept = _saturated(np.floor(np.float64(f) * cell[row, n] * to_kept + 0.5))
            written = _saturated(np.floor(np.float64(i) * g * to_written + 0.5))
            state = _saturated(kept + written)
            cell[row, n] = state
            squashed = tanh_of_cell[_position(np.float32(state))]
            value = np.floor(np.floor(np.float64(o) * squashed * factor + 0.5) * fine_step + 0.5)
            hidden[row, n] = min(max(value, lowest), highest)


Lines = NDArray[np.int64]

FINE = 1 << 10


@entry_point("void(f4[:, :, :, ::1], i8[:, ::1], i8[:, ::1], f4, f4[:, :, :, ::1])", numbers)
def interpolate(steps: Floats, rows: Lines, columns: Lines, zero_point: float, resized: Floats) -> None:
    """Interpolate; codes are rounded, not steps: ties go away from the code 0.

    Args:
        steps: shape (batch, height, width, channels).
        rows: for each row of the output the two that it lies between, and 2^10 times the second one's weight.
        columns: the same of columns.
        zero_point: from steps to codes.
        resized: steps, written.
    """
    batch, height, width, channels = resized.shape
    for sample in range(batch):
        for y in range(height):
            above, below, down = steps[sample, rows[0, y]], steps[sample, rows[1, y]], np.float64(rows[2, y])
            for x in range(width):
                left, right, aside = columns[0, x], columns[1, x], np.float64(columns[2, x])
                for channel in range(channels):
                    first = above[left, channel] * (FINE - aside) + above[right, channel] * aside
                    second = below[left, channel] * (FINE - aside) + below[right, channel] * aside
                    code = (first * (FINE - down) + second * down) / (FINE * FINE) + zero_point
                    resized[sample, y, x, channel] = np.float32(round_half_away(code, 0.5) - zero_point)
