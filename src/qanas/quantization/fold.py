"""What an operator can take over from its neighbours: a batch norm, a ReLU, zeros around its input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from qanas.quantization.graph import Graph, Node
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.batch_norm import BatchNorm
from qanas.quantization.operators.conv import Convolution
from qanas.quantization.operators.pad import Pad
from qanas.quantization.operators.relu import ReLU


def fold_batch_norm(before: Operator, after: Operator) -> Operator | None:
    """Return ``before`` with a batch norm behind it folded in, or None where it isn't one or can't be.

    With scale s = gamma / sqrt(var + eps) and offset t = beta - s mean, ``s (W x + b) + t`` is
    ``(s W) x + (s b + t)`` (Jacob et al. 2018): exact but for rounding in float32.
    """
    return before.with_scaling(after.scale, after.offset) if isinstance(after, BatchNorm) else None


def fuse_activation(before: Operator, after: Operator) -> Operator | None:
    """Return ``before`` with a ReLU behind it fused, or None where it isn't one or can't be."""
    return before.with_activation(after.activation) if isinstance(after, ReLU) else None


def merge_padding(graph: Graph) -> Graph:
    """Let convolutions pad by themselves where zeros were put around their input.

    The runtime's SAME padding then costs nothing, in time and in memory; other paddings become PAD again.
    """
    by_name = {node.name: node for node in graph.nodes}
    nodes = []
    for node in graph.nodes:
        before = by_name.get(node.inputs[0])
        if before is not None and isinstance(before.operator, Pad) and isinstance(node.operator, Convolution):
            operator = node.operator.with_padding(before.operator)
            if operator is not None:
                by_name[node.name] = replace(node, operator=operator, inputs=before.inputs)
        nodes.append(by_name[node.name])
    needed = {name for node in nodes for name in node.inputs} | {graph.output}
    return replace(graph, nodes=tuple(node for node in nodes if node.name in needed))


def absorbed(graph: Graph, merged: Callable[[Operator, Operator], Operator | None]) -> Graph:
    """Merge each node into the one before it, where that feeds nothing else and ``merged`` gives an operator."""
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    uses[graph.output] += 1
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        before = nodes.get(inputs[0])
        if before is not None and uses[node.inputs[0]] == 1:
            operator = merged(before.operator, node.operator)
            if operator is not None:
                nodes[before.name] = replace(before, operator=operator)
                renamed[node.name] = before.name
                continue
        nodes[node.name] = replace(node, inputs=inputs)
    return replace(graph, nodes=tuple(nodes.values()), output=renamed.get(graph.output, graph.output))
