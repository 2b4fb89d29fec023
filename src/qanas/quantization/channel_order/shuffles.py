"""Channel shuffles of a graph: reshapes and transpositions that together only reorder the channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from qanas.quantization.channel_order.flow import Numbers, channels_of
from qanas.quantization.graph import Graph, Node
from qanas.quantization.operators.base import Shape
from qanas.quantization.operators.reshape import Reshape
from qanas.quantization.operators.transpose import Transpose


@dataclass(frozen=True)
class Shuffle:
    """A reordering of channels.

    Attributes:
        nodes: names of the nodes that it consists of; the last one is its result.
        source: the value whose channels are reordered.
        order: for each channel of the result, its number in the source.
    """

    nodes: tuple[str, ...]
    source: str
    order: Numbers

    @property
    def result(self) -> str:
        """The name of the reordered value."""
        return self.nodes[-1]


def shuffles_of(graph: Graph) -> list[Shuffle]:
    """Return the shuffles of a graph, in the order of execution."""
    if not any(isinstance(node.operator, Transpose) for node in graph.nodes):
        return []
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    uses[graph.output] += 1
    only_user = {name: node for node in graph.nodes for name in node.inputs if uses[name] == 1}
    shuffles: list[Shuffle] = []
    taken: set[str] = set()
    for node in graph.nodes:
        if node.name not in taken and _moves(node):
            chain = [node]
            while (after := only_user.get(chain[-1].name)) is not None and _moves(after):
                chain.append(after)
            found = _longest(graph, chain)
            if found is not None:
                shuffles.append(found)
                taken.update(found.nodes)
    return shuffles


def _moves(node: Node) -> bool:
    return isinstance(node.operator, Reshape | Transpose)


def _longest(graph: Graph, chain: Sequence[Node]) -> Shuffle | None:
    """Return the shuffle that most of a chain's first nodes make up, None where none do."""
    source = chain[0].inputs[0]
    for length in range(len(chain), 0, -1):
        nodes = chain[:length]
        if any(isinstance(node.operator, Transpose) for node in nodes):
            order = _order(graph.shapes[source], nodes)
            if order is not None:
                return Shuffle(tuple(node.name for node in nodes), source, order)
    return None


def _order(shape: Shape, nodes: Sequence[Node]) -> Numbers | None:
    """Return the order of channels that nodes put out for a shape, None where they do anything else."""
    places = torch.arange(prod(shape)).reshape(1, *shape)
    for node in nodes:
        places = node.operator.forward(places)
    if tuple(places.shape[1:]) != shape:
        return None
    channels = channels_of(shape)
    moved = places.reshape(-1, channels).numpy()
    order: Numbers = moved[0].astype(np.int64)
    return order if np.array_equal(moved, np.arange(len(moved))[:, None] * channels + order) else None
