"""Channels that must be stored together: all that one channel becomes on its way through a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from qanas.quantization.channel_order.flow import Flow, Numbers


@dataclass(frozen=True)
class Step:
    """A node as far as channels are concerned.

    Attributes:
        name: of its result.
        inputs: names of values.
        size: channels of the result.
        flow: where they come from.
    """

    name: str
    inputs: tuple[str, ...]
    size: int
    flow: Flow


@dataclass(frozen=True)
class Components:
    """The components of all channels.

    A component is what is tied together: a channel of a convolution, the same channel behind a pool, what it is added
    to, and where it is in a slice or a concatenation.

    Attributes:
        of: for each value, the component of every channel.
        signatures: for each component, which values it is in and which places it is read at: components of one
            signature can stand in for each other.
    """

    of: Mapping[str, Numbers]
    signatures: NDArray[np.uint64]


def components_of(steps: Sequence[Step]) -> Components:
    """Return the components of the channels of some steps, given in the order of execution."""
    owners: Numbers = np.arange(sum(step.size for step in steps if not step.flow.parts))
    slots: dict[str, Numbers] = {}
    made = 0
    for step in steps:
        if step.flow.parts:
            given = np.concatenate([slots[name] for name in step.inputs])
            slots[step.name] = given[step.flow.parts[0]]
            for other in step.flow.parts[1:]:
                _unite(owners, slots[step.name], given[other])
        else:
            slots[step.name] = np.arange(made, made + step.size)
            made += step.size
    numbers = np.unique(_roots(owners), return_inverse=True)[1]
    of = {name: numbers[entries] for name, entries in slots.items()}
    return Components(of, _signatures(steps, of, int(numbers.max()) + 1))


def _roots(owners: Numbers) -> Numbers:
    """Return the first slot of every slot's component, for owners that come before what they own."""
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


def _signatures(steps: Sequence[Step], of: Mapping[str, Numbers], count: int) -> NDArray[np.uint64]:
    """Return a sum of random numbers for each component: one for each value and place that it is found at."""
    sums = np.zeros(count, np.uint64)
    twice = np.zeros(count, bool)
    for step in steps:
        here = of[step.name]
        sums[here] += _draw(step.name, "value")
        twice |= np.bincount(here, minlength=count) > 1
        places = [(f"input {number}", name, entry) for number, (name, entry) in enumerate(_reads(step))]
        for role, name, place in (*places, ("output", step.name, step.flow.writes)):
            if place is not None:
                np.add.at(sums, of[name], _numbered(step.name, role, place))
    if twice.any():  # Channels of one value in one component can't be told apart: such a component stays where it is.
        for step in steps:
            here = of[step.name]
            fixed = _numbered(step.name, "fixed", np.arange(len(here)))
            np.add.at(sums, here, np.where(twice[here], fixed, np.uint64(0)))
    return sums


def _reads(step: Step) -> list[tuple[str, Numbers | None]]:
    return list(zip(step.inputs, step.flow.reads, strict=True)) if step.flow.reads else []


def _numbered(name: str, role: str, places: Numbers) -> NDArray[np.uint64]:
    return _draw(name, role) + places.astype(np.uint64) * _draw(name, f"{role}, each")


@cache
def _draw(name: str, role: str) -> np.uint64:
    """Return a number that looks random, always the same one for the same names."""
    return np.uint64(int.from_bytes(blake2b(f"{role}: {name}".encode(), digest_size=8).digest(), "little") | 1)


def alike(one: Components, other: Components) -> bool:
    """Tell whether there are as many components of every signature."""
    return np.array_equal(np.sort(one.signatures), np.sort(other.signatures))


def orders(logical: Components, stored: Components) -> dict[str, Numbers]:
    """Return which logical channel each stored one is, for every value.

    Args:
        logical: of the network as it was.
        stored: of the same values in the network without shuffles; `alike`.
    """
    ours, theirs = (np.argsort(side.signatures, kind="stable") for side in (stored, logical))
    partner = np.empty(len(ours), np.int64)
    partner[ours] = theirs
    found: dict[str, Numbers] = {}
    for name, components in logical.of.items():
        place = np.full(len(partner), -1)
        place[components] = np.arange(len(components))
        order = place[partner[stored.of[name]]]
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
