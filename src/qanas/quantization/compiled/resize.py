"""Bilinear interpolation of codes in steps of 2^-10 of a pixel, rounded once, as the reference kernel does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qanas.core.compilation import entry_point

Floats = NDArray[np.float32]
Lines = NDArray[np.int64]

FINE = 1 << 10


@entry_point("void(f4[:, :, :, ::1], i8[:, ::1], i8[:, ::1], f4, f4[:, :, :, ::1])")
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
                    size = np.floor(abs(code) + 0.5)
                    resized[sample, y, x, channel] = np.float32((-size if code < 0 else size) - zero_point)
