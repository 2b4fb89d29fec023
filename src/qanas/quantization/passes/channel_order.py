"""Channel shuffles as another order of the weights: no number is moved for them.

A shuffle between layers with weights only says anew which channel is which. Without it, the layers before emit their
channels in an order that suits all that follows, and the layers behind take their weights in that order. What splits
the channels between them stays a slice, every second channel instead of the first half.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

import numpy as np
import torch
from torch import Tensor

from qanas.quantization.graph import Graph, Node
from qanas.quantization.operators.arithmetic import WithConstant
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.convolution import Convolution
from qanas.quantization.operators.dense import Dense
from qanas.quantization.operators.shapes import Slice
from qanas.quantization.passes.channel_flow import (
    Numbers,
    Shuffle,
    Split,
    Step,
    Steps,
    channels_of,
    linked,
    shuffles_of,
)
from qanas.quantization.passes.channel_ties import Components, Ties, alike, fits, orders, roles_at

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


def reordered(operator: Operator, inputs: Sequence[Numbers], output: Numbers) -> Operator:
    """Return an operator for inputs and an output in another order.

    Args:
        operator: what is computed on logical channels.
        inputs: for each input, the logical channel that each stored one is, shape (channels,).
        output: likewise.
    """
    match operator:
        case Convolution():
            weight = _taken(operator.weight, output)
            if not operator.kernel.by_channel(len(inputs[0])):
                weight = _with_inputs(weight, inputs[0], operator.kernel.groups)
            return replace(operator, weight=weight, bias=_taken(operator.bias, output))
        case Dense():
            weight = _with_inputs(_taken(operator.weight, output), inputs[0], groups=1)
            return replace(operator, weight=weight, bias=_taken(operator.bias, output))
        case WithConstant() if operator.constant.ndim and operator.constant.shape[-1] == len(output) > 1:
            return replace(operator, constant=operator.constant[..., torch.from_numpy(output)])
    return operator


def _taken(weight: Tensor, order: Numbers) -> Tensor:
    return weight[torch.from_numpy(order)]


def _with_inputs(weight: Tensor, order: Numbers, groups: int) -> Tensor:
    """Return weights of shape (out, ..., in / groups), input channels in another order within their groups."""
    within = torch.from_numpy(order.reshape(groups, -1) % weight.shape[-1])
    parts = weight.chunk(groups)
    return torch.cat([part[..., entries] for part, entries in zip(parts, within, strict=True)])


def without_shuffles(graph: Graph) -> Graph:
    """Return a graph that computes the same, shuffles left out where the channels can be stored accordingly.

    Shuffles that need each other are left out together or not at all: behind the ones that stay, channels are in
    torch's order, moved by a transposition.

    Args:
        graph: batch norms folded, parameters not shared yet.
    """
    for together in linked(graph, shuffles_of(graph)):
        found = found_orders(Steps.of(graph, together))
        if found is not None:
            graph = _rewritten(graph, together, found)
    return graph


def _rewritten(graph: Graph, shuffles: Sequence[Shuffle], found: Found) -> Graph:
    left_out = {name for shuffle in shuffles for name in shuffle.nodes}

    def order_of(name: str) -> Numbers:
        order = found.orders.get(name)
        return np.arange(channels_of(graph.shapes[name])) if order is None else order

    renamed: dict[str, str] = {}
    for shuffle in shuffles:
        renamed[shuffle.result] = renamed.get(shuffle.source, shuffle.source)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name not in left_out:
            operator = node.operator
            if node.name in found.slices and isinstance(operator, Slice):
                operator = replace(operator, indices=(*operator.indices[:-1], found.slices[node.name]))
            origin = node.origin
            if not found.orders.keys().isdisjoint((node.name, *node.inputs)):
                origin = ""  # in another order, they may be no other node's any more
                operator = reordered(operator, [order_of(name) for name in node.inputs], order_of(node.name))
            nodes.append(Node(node.name, operator, tuple(renamed.get(name, name) for name in node.inputs), origin))
    return replace(graph, nodes=tuple(nodes), outputs=tuple(renamed.get(name, name) for name in graph.outputs))
