"""One time step of the integer LSTM behind its matrix product."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qanas.core.compilation import entry_point, inlined

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
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
def step(
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
