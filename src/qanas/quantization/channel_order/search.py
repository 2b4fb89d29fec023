"""The search for ways to split channels, and for an order in which they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

import numpy as np

from qanas.quantization.channel_order.components import Components, Step, alike, components_of, fits, orders
from qanas.quantization.channel_order.flow import Flow, Numbers
from qanas.quantization.channel_order.steps import Split, Steps

MOST_TRIES = 128
"""Ways of splitting that are looked at; the networks at hand need fewer than 4 a shuffle."""

Slices = Mapping[str, slice]


@dataclass(frozen=True)
class Found:
    """A way to do without shuffles.

    Attributes:
        orders: for each value, the logical channel that each stored one is.
        slices: the channels that slices take of what is stored, where they are other ones than before.
    """

    orders: Mapping[str, Numbers]
    slices: Slices


def found_orders(steps: Steps) -> Found | None:
    """Return a way to do without shuffles, None where none is found."""
    return _Search(steps).run()


def ways_to_split(split: Split) -> Iterator[Slices]:
    """Return slices that split stored channels into parts of the same sizes.

    They are the present ones; and, where parts are equal, these in the opposite order, or interleaved.

    >>> halves = Split(4, (("a", range(2)), ("b", range(2, 4))))
    >>> [(way["a"], way["b"]) for way in ways_to_split(halves)][2]
    (slice(0, 4, 2), slice(1, 4, 2))
    """
    yield {name: slice(taken.start, taken.stop, taken.step) for name, taken in split.slices}
    lengths = {len(taken) for _, taken in split.slices}
    length = min(lengths)
    parts = split.size // length
    numbers = {name: _number(taken, split.size) for name, taken in split.slices}
    if len(lengths) > 1 or parts < 2 or any(number is None for number in numbers.values()):  # noqa: PLR2004 - no part
        return
    placed = {name: number for name, number in numbers.items() if number is not None}
    opposite = {name: parts - 1 - number for name, number in placed.items()}
    yield {name: slice(number * length, (number + 1) * length, 1) for name, number in opposite.items()}
    for chosen in (placed, opposite):
        yield {name: slice(number, split.size, parts) for name, number in chosen.items()}


def _number(taken: range, size: int) -> int | None:
    """Return which one of equal parts side by side, or interleaved, some channels are."""
    if size % len(taken):
        return None
    if taken.step == 1 and taken.start % len(taken) == 0:
        return taken.start // len(taken)
    return taken.start if taken.step == size // len(taken) else None


class _Search:
    """Splits are decided on one after the other; what can't be is given up at the first split where that shows."""

    def __init__(self, steps: Steps) -> None:
        self.all = steps
        self.tries = count()
        self.ends = [self._place(split) for split in steps.splits] + [len(steps.steps)]

    def run(self) -> Found | None:
        """Return the first way that is found."""
        return self._continued(0, {})

    def _continued(self, decided: int, slices: dict[str, slice]) -> Found | None:
        """Return a way that begins with decisions on the first splits, if there is one."""
        if next(self.tries) > MOST_TRIES:
            return None
        stored = [replace(step, flow=self._stored(step, slices)) for step in self.all.steps[: self.ends[decided]]]
        logical, components = self.logical[decided], components_of(stored)
        if not alike(logical, components):
            return None
        if decided == len(self.all.splits):
            found = orders(logical, components)
            fitting = all(fits(step, after.flow, found) for step, after in zip(self.all.steps, stored, strict=True))
            return Found({name: order for name, order in found.items() if len(order)}, slices) if fitting else None
        for way in ways_to_split(self.all.splits[decided]):
            result = self._continued(decided + 1, {**slices, **way})
            if result is not None:
                return result
        return None

    @cached_property
    def logical(self) -> list[Components]:
        """The components of the network as it was, before each split and at the end."""
        return [components_of(self.all.steps[:end]) for end in self.ends]

    def _place(self, split: Split) -> int:
        """Return the number of the step of a split's first slice."""
        names = {name for name, _ in split.slices}
        return next(number for number, step in enumerate(self.all.steps) if step.name in names)

    def _stored(self, step: Step, slices: Slices) -> Flow:
        """Return what a step does with stored channels."""
        if step.name in self.all.shuffles:
            return replace(step.flow, parts=(np.arange(step.size),))
        if step.name in slices:
            return replace(step.flow, parts=(np.arange(self._sizes[step.inputs[0]])[slices[step.name]],))
        return step.flow

    @cached_property
    def _sizes(self) -> Mapping[str, int]:
        return {step.name: step.size for step in self.all.steps}
