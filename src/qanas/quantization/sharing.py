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
    deciding = _Deciding(by_name, uses)
    owners: dict[str, str] = {}
    nodes: dict[str, Node] = dict(by_name)
    # From the last one: a concatenation that is part of another one's input shares that one's parameters.
    for node in reversed(graph.nodes):
        if isinstance(node.operator, Concatenate):
            owner = owners.get(node.name, node.name)
            sources = [deciding.source(name) for name in node.inputs]
            owners |= {source: owner for source in sources if source is not None}
            operator = replace(node.operator, shared=tuple(source is not None for source in sources))
            nodes[node.name] = replace(node, operator=operator)
    return replace(graph, nodes=tuple(nodes.values()), shared=owners)


class _Deciding:
    """Which nodes decide on the parameters of values."""

    def __init__(self, nodes: Mapping[str, Node], uses: Mapping[str, int]) -> None:
        """Look at nodes in the order of execution, the last ones after those that they depend on."""
        self.nodes, self.uses = nodes, uses
        self.wholes: dict[str, str] = {}
        for name, node in nodes.items():
            self.wholes[name] = self._whole(node)

    def source(self, name: str) -> str | None:
        """Return the node that decides on a value's parameters, or None where others depend on them."""
        while name in self.nodes and self.uses[name] == 1:
            node = self.nodes[name]
            if node.operator.parameters_from == "range":
                return name if self.wholes[name] == name else None
            if node.operator.parameters_from == "kernel":
                return None
            name = node.inputs[0]
        return None

    def _whole(self, node: Node) -> str:
        """Return the value that a node's result has its parameters from, be it the result itself.

        Parts of one value side by side keep that one's parameters where it is not theirs to decide: what they are
        part of takes one operator to rescale, each by itself one of its own.
        """
        wholes = [self.wholes.get(name, name) for name in node.inputs]
        if node.operator.parameters_from == "input":
            return wholes[0]
        together = isinstance(node.operator, Concatenate) and len(set(wholes)) == 1
        return wholes[0] if together and all(self.source(name) is None for name in node.inputs) else node.name
