"""Values that LiteRT keeps in one place in memory although one of them is changed there before the others are read.

LiteRT lets RESHAPE give out the memory that it reads, and sums, differences and products write into that of an input
that nothing else reads. Where a sum is given out in another shape, and a second sum writes into that, the first one is
gone for whoever reads it later (LiteRT 2.3, in codes and in float32; TFLite Micro copies). A copy in between keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qanas.quantization.graph import Graph, Node
from qanas.quantization.operators.arithmetic import BinaryOperator, WithConstant
from qanas.quantization.operators.masked_softmax import MaskedSoftmax
from qanas.quantization.operators.rescaling import HardSigmoid
from qanas.quantization.operators.shapes import Reshape, Slice

IN_PLACE = (BinaryOperator, WithConstant, HardSigmoid, MaskedSoftmax)
"""What begins with a sum or a product, which writes into the memory of an input, where nothing else reads that."""


def without_overwritten(graph: Graph) -> Graph:
    """Put a copy in front of every operator that would write over a value which is read later in another shape."""
    if not any(isinstance(node.operator, Reshape) for node in graph.nodes):
        return graph
    made = {node.name: node for node in graph.nodes}
    uses = graph.uses
    last_read = {name: place for place, node in enumerate(graph.nodes) for name in node.inputs}
    last_read |= dict.fromkeys(graph.outputs, len(graph.nodes))
    same: dict[str, list[str]] = {}
    for name in made:
        same.setdefault(_source(name, made), []).append(name)

    nodes: list[Node] = []
    for place, node in enumerate(graph.nodes):
        inputs = []
        for name in node.inputs:
            source = _source(name, made)
            others = [other for other in same.get(source, ()) if other != name]
            overwritten = (
                isinstance(node.operator, IN_PLACE)
                and source != name
                and uses[name] == 1
                and source in made
                and isinstance(made[source].operator, IN_PLACE)
                and any(last_read.get(other, -1) > place for other in others)
            )
            if overwritten:
                copy = Slice((slice(None),) * len(graph.shapes[name]))
                nodes.append(Node(f"{name}_kept", copy, (name,)))
                name = f"{name}_kept"  # noqa: PLW2901 - what is read in its place
            inputs.append(name)
        nodes.append(node if node.inputs == tuple(inputs) else replace(node, inputs=tuple(inputs)))
    return graph if len(nodes) == len(graph.nodes) else replace(graph, nodes=tuple(nodes))


def _source(name: str, made: Mapping[str, Node]) -> str:
    """Return the value that another one is a shape of."""
    while name in made and isinstance(made[name].operator, Reshape):
        name = made[name].inputs[0]
    return name
