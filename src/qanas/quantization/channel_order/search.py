"""The search for ways to split channels, and for an order in which they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

import numpy as np

from qanas.quantization.channel_order.components import Components, Step, Ties, alike, fits, orders, roles_at
from qanas.quantization.channel_order.flow import Numbers
from qanas.quantization.channel_order.steps import Split, Steps

MOST_TRIES = 128
"""Ways of splitting that are looked at; the networks at hand need fewer than 4 a shuffle."""

Slices = Mapping[str, slice]


@dataclass(frozen=True)
class Found:
    """A way to do without shuffles.

    Attributes:
        orders: for each value, the logical channel that each stored one is, where that is another one than before.
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
        self.roles = roles_at(steps.steps, self.ends)

    def run(self) -> Found | None:
        """Return the first way that is found."""
        return self._continued(0, {}, Ties.none())

    def _continued(self, decided: int, slices: dict[str, slice], before: Ties) -> Found | None:
        """Return a way that begins with decisions on the first splits, if there is one.

        Args:
            decided: how many splits are decided on.
            slices: as which slices.
            before: of the channels stored in front of the last one's.
        """
        if next(self.tries) > MOST_TRIES:
            return None
        stored = before.followed_by([self._stored(step, slices) for step in self._between(decided)])
        logical, components = self.logical[decided], Components.of(stored, self.roles[decided])
        if not alike(logical, components):
            return None
        if decided == len(self.all.splits):
            return self._checked(Found(orders(logical, components), slices))
        for way in ways_to_split(self.all.splits[decided]):
            result = self._continued(decided + 1, {**slices, **way}, stored)
            if result is not None:
                return result
        return None

    def _checked(self, found: Found) -> Found | None:
        """Return what is found, if every channel is where it is needed."""
        if all(fits(step, self._stored(step, found.slices).flow, found.orders) for step in self.all.steps):
            others = {name: order for name, order in found.orders.items() if (order != np.arange(len(order))).any()}
            return replace(found, orders=others)
        return None

    @cached_property
    def logical(self) -> list[Components]:
        """The components of the network as it was, before each split and at the end."""
        ties = Ties.none()
        found: list[Components] = []
        for number, roles in enumerate(self.roles):
            ties = ties.followed_by(self._between(number))
            found.append(Components.of(ties, roles))
        return found

    def _between(self, number: int) -> Sequence[Step]:
        """Return the steps from the split before one to that one."""
        return self.all.steps[self.ends[number - 1] if number else 0 : self.ends[number]]

    def _place(self, split: Split) -> int:
        """Return the number of the step of a split's first slice."""
        names = {name for name, _ in split.slices}
        return next(number for number, step in enumerate(self.all.steps) if step.name in names)

    def _stored(self, step: Step, slices: Slices) -> Step:
        """Return what a step does with stored channels."""
        if step.name in self.all.shuffles:
            return replace(step, flow=replace(step.flow, parts=(np.arange(step.size),)))
        if step.name in slices:
            parts = (np.arange(self._sizes[step.inputs[0]])[slices[step.name]],)
            return replace(step, flow=replace(step.flow, parts=parts))
        return step

    @cached_property
    def _sizes(self) -> Mapping[str, int]:
        return {step.name: step.size for step in self.all.steps}
