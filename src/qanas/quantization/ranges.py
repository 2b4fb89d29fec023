"""Ranges of values: how far codes have to reach, taken from calibration samples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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


class RangeOf(ABC):
    """The range of one value, from samples that come a few at a time; however many, it is that of all at once."""

    def __init__(self, name: str, samples: int) -> None:
        """Begin.

        Args:
            name: of the value, for the message.
            samples: how many there will be.
        """
        self.name, self.samples = name, samples

    def add(self, values: Tensor) -> None:
        """Take the value of the next samples.

        Args:
            values: shape (n, ...).

        Raises:
            ValueError: values that are not finite.
        """
        low, high = _extent(values)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"{self.name} reaches from {low} to {high}: it can't be quantized")
        self._take(values, (low, high))

    @abstractmethod
    def _take(self, values: Tensor, extent: Range) -> None:
        """Take the next samples and their smallest and largest value."""

    @abstractmethod
    def found(self) -> Range:
        """Return the range of all samples."""


class MinMax(RangeOf):
    """``min_max``."""

    def __init__(self, name: str, samples: int) -> None:
        """Begin."""
        super().__init__(name, samples)
        self.extent: Range = (math.inf, -math.inf)

    def _take(self, values: Tensor, extent: Range) -> None:
        del values
        self.extent = _both(self.extent, extent)

    def found(self) -> Range:
        """Return the range of all samples."""
        return self.extent


class MovingAverage(RangeOf):
    """``moving_average``; samples may come in any number, batches are the same."""

    def __init__(self, name: str, samples: int) -> None:
        """Begin."""
        super().__init__(name, samples)
        self.taken = 0
        self.batches: list[Range] = []

    def _take(self, values: Tensor, extent: Range) -> None:
        del extent
        missing = -self.taken % BATCH
        if missing:
            self.batches[-1] = _both(self.batches[-1], _extent(values[:missing]))
        self.batches += [_extent(batch) for batch in torch.split(values[missing:], BATCH) if len(batch)]
        self.taken += len(values)

    def found(self) -> Range:
        """Return the range of all samples."""
        low, high = self.batches[0]
        for batch_low, batch_high in self.batches[1:]:
            low = KEPT * low + (1.0 - KEPT) * batch_low
            high = KEPT * high + (1.0 - KEPT) * batch_high
        return low, high


class Percentile(RangeOf):
    """``percentile``: of all that came, only what may still be an outlier is kept."""

    def __init__(self, name: str, samples: int) -> None:
        """Begin."""
        super().__init__(name, samples)
        self.smallest = self.largest = torch.empty(0)

    def _take(self, values: Tensor, extent: Range) -> None:
        del extent
        kept = int(OUTLIERS * (values.numel() // len(values) * self.samples)) + 1
        flat = values.flatten()
        few = min(kept, len(flat))
        self.smallest = _extremes([self.smallest, flat.topk(few, largest=False).values], kept, largest=False)
        self.largest = _extremes([self.largest, flat.topk(few).values], kept, largest=True)

    def found(self) -> Range:
        """Return the range of all samples."""
        return float(self.smallest.max()), float(self.largest.min())


METHODS: Mapping[RangeMethod, type[RangeOf]] = {
    "min_max": MinMax,
    "moving_average": MovingAverage,
    "percentile": Percentile,
}


def _extremes(parts: Sequence[Tensor], kept: int, *, largest: bool) -> Tensor:
    together = torch.cat(list(parts))
    return together.topk(min(kept, len(together)), largest=largest).values


def _both(one: Range, other: Range) -> Range:
    return (min(one[0], other[0]), max(one[1], other[1]))


def _extent(values: Tensor) -> Range:
    low, high = (float(bound) for bound in torch.aminmax(values))
    return low, high
