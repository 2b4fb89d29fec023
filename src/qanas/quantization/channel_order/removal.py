"""Takes shuffles out of a graph where an order of the channels can be found that makes them needless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qanas.quantization.channel_order.flow import Numbers, channels_of
from qanas.quantization.channel_order.reordered import reordered
from qanas.quantization.channel_order.search import Found, found_orders
from qanas.quantization.channel_order.shuffles import Shuffle, shuffles_of
from qanas.quantization.channel_order.steps import Steps, linked
from qanas.quantization.graph import Graph, Node
from qanas.quantization.operators.slice import Slice


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
            if not found.orders.keys().isdisjoint((node.name, *node.inputs)):
                operator = reordered(operator, [order_of(name) for name in node.inputs], order_of(node.name))
            nodes.append(Node(node.name, operator, tuple(renamed.get(name, name) for name in node.inputs)))
    return replace(graph, nodes=tuple(nodes), output=renamed.get(graph.output, graph.output))
