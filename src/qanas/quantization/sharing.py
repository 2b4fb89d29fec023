"""Values that must have one scale and zero point: those that are put side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from qanas.quantization.graph import Graph, Node
from qanas.quantization.operators.concatenate import Concatenate


def with_shared_parameters(graph: Graph) -> Graph:
    """Let what is put side by side be computed in the result's parameters, where nothing else needs it in its own.

    The runtime's concatenation rescales nothing, and a rescaling of its own (QUANTIZE) costs time, memory and a
    rounding. Which values share is a matter of the graph alone, not of ranges: costs from shapes stay exact.
    """
    by_name = {node.name: node for node in graph.nodes}
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    uses[graph.output] += 1
    owners: dict[str, str] = {}
    nodes: dict[str, Node] = dict(by_name)
    # From the last one: a concatenation that is part of another one's input shares that one's parameters.
    for node in reversed(graph.nodes):
        if isinstance(node.operator, Concatenate):
            owner = owners.get(node.name, node.name)
            sources = [_source(name, by_name, uses) for name in node.inputs]
            owners |= {source: owner for source in sources if source is not None}
            operator = replace(node.operator, shared=tuple(source is not None for source in sources))
            nodes[node.name] = replace(node, operator=operator)
    return replace(graph, nodes=tuple(nodes.values()), shared=owners)


def _source(name: str, nodes: Mapping[str, Node], uses: Mapping[str, int]) -> str | None:
    """Return the node that decides on a value's parameters, or None where others depend on them."""
    while name in nodes and uses[name] == 1:
        operator = nodes[name].operator
        if operator.parameters_from == "range":
            return name
        if operator.parameters_from == "kernel":
            return None
        name = nodes[name].inputs[0]
    return None
