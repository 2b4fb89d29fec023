"""Ranges of values: how far codes have to reach, taken from calibration samples."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from qanas.core.errors import InputError

RangeMethod = Literal["min_max", "moving_average", "percentile"]
"""``min_max``: the smallest and the largest value, so that no calibration sample saturates. ``moving_average``: that of
the batches' smallest and largest values, in the samples' order (Jacob et al. 2018). ``percentile``: all values but a
few outliers on either side."""

Range = tuple[float, float]

BATCH = 64
"""Samples of one step of the moving average."""

KEPT = 0.95
"""Weight of what was before in each step of the moving average."""

OUTLIERS = 1e-4
"""Share of the values that lies outside on either side, rounded down: fewer than 10,000 values have none."""


def check_samples(samples: Tensor, input_shape: tuple[int, ...], source: str) -> None:
    """Refuse calibration samples that ranges can't be taken from.

    Args:
        samples: shape (n, *input_shape).
        input_shape: what the network takes.
        source: where they come from, for the message.

    Raises:
        InputError: there are none, their shape is another, a value is not finite, or all values are the same.
    """
    if len(samples) == 0:
        raise InputError(f"{source}: no calibration samples; give some hundreds, like those that the network will see")
    if tuple(samples.shape[1:]) != input_shape:
        raise InputError(
            f"{source}: calibration samples have shape {tuple(samples.shape[1:])}, but the network takes {input_shape}"
        )
    if not bool(torch.isfinite(samples).all()):
        raise InputError(f"{source}: calibration samples have values that are NaN or infinite; remove or replace them")
    low, high = _extent(samples)
    if low == high:
        raise InputError(f"{source}: every value of the calibration samples is {low:g}; give samples that differ")


def range_of(name: str, values: Tensor, method: RangeMethod) -> Range:
    """Return a value's range.

    Args:
        name: of the value, for the message.
        values: shape (n, ...).
        method: how it is taken.

    Raises:
        ValueError: values that are not finite.
    """
    low, high = _extent(values)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} reaches from {low} to {high}: it can't be quantized")
    if method == "moving_average":
        return _moving_average(values)
    if method == "percentile":
        return _without_outliers(values)
    return low, high


def _extent(values: Tensor) -> Range:
    low, high = (float(bound) for bound in torch.aminmax(values))
    return low, high


def _moving_average(values: Tensor) -> Range:
    batches = [_extent(batch) for batch in torch.split(values, BATCH)]
    low, high = batches[0]
    for batch_low, batch_high in batches[1:]:
        low = KEPT * low + (1.0 - KEPT) * batch_low
        high = KEPT * high + (1.0 - KEPT) * batch_high
    return low, high


def _without_outliers(values: Tensor) -> Range:
    flat = values.flatten()
    left_out = int(OUTLIERS * flat.numel())
    low = flat.kthvalue(left_out + 1).values
    high = flat.kthvalue(flat.numel() - left_out).values
    return float(low), float(high)
