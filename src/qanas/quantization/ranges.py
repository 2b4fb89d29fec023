"""Ranges of values: how far codes have to reach, taken from calibration samples that come a few at a time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qanas.core.errors import InputError
from qanas.quantization.scheme import RangeMethod, Scheme

Range = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """How far the values of a node reach.

    Attributes:
        output: what the codes of the node's output have to cover.
        internals: the same for the values inside the operator that `Operator.observe` names.
    """

    output: Range
    internals: Mapping[str, Range]


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
        """Take the next samples, shape (n, ...), and their smallest and largest value."""

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


OUTPUT = ""
"""Stands for a node's output among the names of its internal values."""


class GatheredRanges:
    """The ranges of every node's output, and of the values inside."""

    def __init__(self, scheme: Scheme, samples: int) -> None:
        """Begin.

        Args:
            scheme: how ranges are taken.
            samples: how many there will be.
        """
        self._scheme, self._samples = scheme, samples
        self._gathered: dict[str, dict[str, RangeOf]] = {}

    def add(self, node: str, output: Tensor, internals: Mapping[str, Tensor] | None = None) -> None:
        """Take the values of a node for the next samples.

        Args:
            node: its name.
            output: shape (n, ...).
            internals: what `Operator.observe` returns beside it.

        Raises:
            ValueError: values that are not finite.
        """
        values = {OUTPUT: output, **(internals or {})}
        if node not in self._gathered:
            method = METHODS[self._scheme.of(node).ranges]
            self._gathered[node] = {part: method(f"{node}.{part}" if part else node, self._samples) for part in values}
        for part, value in values.items():
            self._gathered[node][part].add(value)

    def found(self) -> dict[str, Ranges]:
        """Return the ranges of all samples by node."""
        found = {
            node: {part: gathered.found() for part, gathered in parts.items()} for node, parts in self._gathered.items()
        }
        return {node: Ranges(parts.pop(OUTPUT), parts) for node, parts in found.items()}


CHUNK = 1024
"""Samples at a time at most."""

CHUNK_NUMBERS = 1 << 22
"""Numbers of the largest value at a time at most, whatever the size of a sample.

16 MB in float32: what is larger is faster neither in the cache nor in the allocator, which from 32 MB on gives every
value fresh pages. Less than 16 images at a time is slower, too: torch has other kernels for 1 x 1 convolutions then.
"""


def chunks_by_name(samples: Mapping[str, Tensor], largest: int) -> list[dict[str, Tensor]]:
    """Return the samples of several inputs in chunks, as `chunks_of` does.

    Args:
        samples: by the inputs' names, each of shape (n, ...).
        largest: numbers of a sample's largest value.
    """
    parts = zip(*(chunks_of(part, largest) for part in samples.values()), strict=True)
    return [dict(zip(samples, chunk, strict=True)) for chunk in parts]


def joined(chunks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return tensors by name, each of shape (n, ...), for those of chunks of the samples."""
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}


def chunks_of(samples: Tensor, largest: int) -> Sequence[Tensor]:
    """Return samples in chunks, as few and as equal as can be; one without samples where there are none.

    Args:
        samples: shape (n, ...).
        largest: numbers of a sample's largest value.
    """
    most = max(1, min(CHUNK, CHUNK_NUMBERS // largest))
    return torch.tensor_split(samples, max(1, -(-len(samples) // most)))
