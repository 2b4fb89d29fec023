"""Channels that must be stored together: all that one channel becomes on its way through a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import blake2b
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from qanas.quantization.passes.channel_flow import Flow, Numbers, Step

Draws = NDArray[np.uint64]
"""Numbers that look random; sums go round at 2^64."""


@dataclass(frozen=True)
class Ties:
    """Which channels of some steps are tied together.

    Attributes:
        slots: for each value, a number for every channel.
        owners: for each of these numbers, another one that is tied to it, the number itself where none came before.
    """

    slots: Mapping[str, Numbers]
    owners: Numbers

    @classmethod
    def none(cls) -> Ties:
        """Return those of no steps."""
        return cls({}, np.arange(0))

    def followed_by(self, steps: Sequence[Step]) -> Ties:
        """Return those that there are after more steps, given in the order of execution."""
        made = len(self.owners)
        owners = np.append(self.owners, made + np.arange(sum(step.size for step in steps if not step.flow.parts)))
        slots = dict(self.slots)
        for step in steps:
            if step.flow.parts:
                given = np.concatenate([slots[name] for name in step.inputs])
                slots[step.name] = given[step.flow.parts[0]]
                for other in step.flow.parts[1:]:
                    _unite(owners, slots[step.name], given[other])
            else:
                slots[step.name] = np.arange(made, made + step.size)
                made += step.size
        return Ties(slots, owners)


@dataclass(frozen=True)
class Roles:
    """What channels are there for, as sums of random numbers: one for the value, one for each place it is read at.

    Attributes:
        values: names, in the order in which their channels follow each other in what is below.
        sums: of every channel.
        places: a random number for every channel, by which it differs from all others.
        steps: for each channel, the number of the step that it is put out by.
    """

    values: tuple[str, ...]
    sums: Draws
    places: Draws
    steps: Numbers


@dataclass(frozen=True)
class Components:
    """The components of all channels.

    A component is what is tied together: a channel of a convolution, the same channel behind a pool, what it is added
    to, and where it is in a slice or a concatenation.

    Attributes:
        ties: between the channels.
        numbers: for each slot, its component.
        signatures: for each component, which values it is in and which places it is read at: components of one
            signature can stand in for each other.
    """

    ties: Ties
    numbers: Numbers
    signatures: Draws

    @classmethod
    def of(cls, ties: Ties, roles: Roles) -> Components:
        """Return the components of some steps.

        Args:
            ties: between their channels.
            roles: of the channels.
        """
        first = _roots(ties.owners)
        numbers = (np.cumsum(first == np.arange(len(first))) - 1)[first]
        here = numbers[np.concatenate([ties.slots[name] for name in roles.values])]
        sums = np.zeros(int(numbers.max()) + 1, np.uint64)
        np.add.at(sums, here, roles.sums)
        # Channels of one value in one component can't be told apart: such a component stays where it is.
        visits = np.sort(roles.steps * len(sums) + here)
        twice = np.zeros(len(sums), bool)
        twice[visits[1:][visits[1:] == visits[:-1]] % len(sums)] = True
        if twice.any():
            np.add.at(sums, here, np.where(twice[here], roles.places, np.uint64(0)))
        return cls(ties, numbers, sums)

    def of_value(self, name: str) -> Numbers:
        """Return the component of every channel of a value, shape (channels,)."""
        found: Numbers = self.numbers[self.ties.slots[name]]
        return found

    @cached_property
    def sorted_signatures(self) -> Draws:
        """The signatures in order, shape (components,)."""
        return np.sort(self.signatures)


def roles_at(steps: Sequence[Step], ends: Sequence[int]) -> list[Roles]:
    """Return the roles that channels have in the first steps.

    Args:
        steps: in the order of execution.
        ends: for each result, how many steps it is about; not descending.
    """
    sizes = [step.size for step in steps]
    starts = dict(zip((step.name for step in steps), accumulate(sizes, initial=0), strict=False))
    parts = {step.name: slice(starts[step.name], starts[step.name] + step.size) for step in steps}
    sums = np.repeat(np.array([_draw(step.name, "value") for step in steps], np.uint64), sizes)
    places = np.concatenate([_numbered(step.name, "fixed", np.arange(step.size)) for step in steps])
    numbers = np.repeat(np.arange(len(steps)), sizes)
    found: list[Roles] = []
    for start, end in zip((0, *ends), ends, strict=False):
        for step in steps[start:end]:
            reads = [(f"input {number}", name, entry) for number, (name, entry) in enumerate(_reads(step))]
            for role, name, place in (*reads, ("output", step.name, step.flow.writes)):
                if place is not None:
                    sums[parts[name]] += _numbered(step.name, role, place)
        size = sum(sizes[:end])
        names = tuple(step.name for step in steps[:end])
        found.append(Roles(names, sums[:size].copy(), places[:size], numbers[:size]))
    return found


def _roots(owners: Numbers) -> Numbers:
    """Return the first slot of every slot's component, shape (slots,), for owners that come before what they own."""
    while not np.array_equal(above := owners[owners], owners):
        owners = above
    return owners


def _unite(owners: Numbers, one: Numbers, other: Numbers) -> None:
    for pair in zip(one.tolist(), other.tolist(), strict=True):
        first, second = sorted(_root(owners, slot) for slot in pair)
        owners[second] = first


def _root(owners: Numbers, slot: int) -> int:
    while owners[slot] != slot:
        slot = int(owners[slot])
    return slot


def _reads(step: Step) -> list[tuple[str, Numbers | None]]:
    return list(zip(step.inputs, step.flow.reads, strict=True)) if step.flow.reads else []


def _numbered(name: str, role: str, places: Numbers) -> Draws:
    return _draw(name, role) + places.astype(np.uint64) * _draw(name, f"{role}, each")


@cache
def _draw(name: str, role: str) -> np.uint64:
    """Return a number that looks random, always the same one for the same names."""
    return np.uint64(int.from_bytes(blake2b(f"{role}: {name}".encode(), digest_size=8).digest(), "little") | 1)


def alike(one: Components, other: Components) -> bool:
    """Tell whether there are as many components of every signature."""
    return np.array_equal(one.sorted_signatures, other.sorted_signatures)


def orders(logical: Components, stored: Components) -> dict[str, Numbers]:
    """Return which logical channel each stored one is, for every value, shape (channels,).

    Args:
        logical: of the network as it was.
        stored: of the same values in the network without shuffles; `alike`.
    """
    ours, theirs = (np.argsort(side.signatures, kind="stable") for side in (stored, logical))
    partner = np.empty(len(ours), np.int64)
    partner[ours] = theirs
    found: dict[str, Numbers] = {}
    for name in logical.ties.slots:
        components = logical.of_value(name)
        place = np.full(len(partner), -1)
        place[components] = np.arange(len(components))
        order = place[partner[stored.of_value(name)]]
        again = np.bincount(components, minlength=len(partner))[components] > 1
        found[name] = np.where(again, np.arange(len(order)), order)
    return found


def fits(step: Step, stored: Flow, found: Mapping[str, Numbers]) -> bool:
    """Tell whether orders of values agree with a node: with its flow in the network as it was, and as stored.

    The signatures say so, but for components that are alike by chance or tied in a ring; here every channel is
    looked at.
    """
    order = found[step.name]
    if not np.array_equal(np.sort(order), np.arange(step.size)):
        return False
    starts = np.cumsum([0, *(len(found[name]) for name in step.inputs)])
    inputs = [found[name] + start for name, start in zip(step.inputs, starts[:-1], strict=True)]
    together = np.concatenate(inputs) if inputs else order
    if not all(
        np.array_equal(together[part], was[order]) for part, was in zip(stored.parts, step.flow.parts, strict=True)
    ):
        return False
    places = [(found[name], place) for name, place in _reads(step)]
    places.append((order, step.flow.writes))
    return all(place is None or np.array_equal(place[entries], place) for entries, place in places)
