"""Rounding to the nearest whole number, ties away from zero, as the runtimes do (torch and NumPy round ties to even).

One function for each kind of number that is rounded. All add a half to the size, in the type of the values, and cut.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floating = TypeVar("Floating", np.float32, np.float64)

AWAY = 1.0 + 2.0**-40
"""Makes ``floor(x * AWAY + 0.5)`` round ties away from zero, and nothing else to another number.

Larger than 1 by less than what lies between a tie and its neighbours on any grid that matters, 2^-24 or coarser."""


def round_half_away(values: Tensor) -> Tensor:
    """Round real values, any shape."""
    return torch.copysign(torch.floor(values.abs() + 0.5), values)


def round_half_away_array(values: NDArray[Floating]) -> NDArray[Floating]:
    """Round real values, any shape."""
    rounded: NDArray[Floating] = np.copysign(np.floor(np.abs(values) + values.dtype.type(0.5)), values)
    return rounded


def round_half_away_number(value: float, half: float | np.float32) -> float:
    """Round one real value: what compiled code inlines.

    Args:
        value: float32 or float64.
        half: 1/2 in the same type.
    """
    size: float = np.floor(abs(value) + half)
    return -size if value < 0 else size


def halve(values: NDArray[np.int64], times: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Divide whole numbers, any shape, by 2^times, once or more (a number, or one for each value)."""
    rounded: NDArray[np.int64] = np.sign(values) * ((np.abs(values) + (1 << (np.asarray(times) - 1))) >> times)
    return rounded


def divide_half_away(sums: Tensor, counts: Tensor) -> Tensor:
    """Divide whole numbers in a floating-point type by positive ones.

    Args:
        sums: any shape.
        counts: a shape that repeats to it.

    Returns:
        The rounded quotients, int64.
    """
    nudged = sums + torch.copysign(torch.floor(counts / 2), sums)
    return torch.div(nudged.to(torch.int64), counts.to(torch.int64), rounding_mode="trunc")
