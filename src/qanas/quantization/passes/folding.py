"""The passes that a traced graph goes through, in their order, and those by which operators take over their neighbours.

A batch norm, a ReLU or zeros around an input become part of an operator. What has to do with the order of channels is
in `channel_order`, with common scales and bits in `parameters`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from qanas.quantization.graph import Graph, Node, UnsupportedNetworkError
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.convolution import Convolution
from qanas.quantization.operators.dense import BatchNorm
from qanas.quantization.operators.rescaling import ReLU
from qanas.quantization.operators.windows import Pad
from qanas.quantization.passes.channel_order import without_shuffles
from qanas.quantization.passes.parameters import with_shared_parameters


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
    needed = {name for node in nodes for name in node.inputs} | set(graph.outputs)
    return replace(graph, nodes=tuple(node for node in nodes if node.name in needed))


def absorbed(graph: Graph, merged: Callable[[Operator, Operator], Operator | None]) -> Graph:
    """Merge each node into the one before it, where that feeds nothing else and ``merged`` gives an operator."""
    uses = graph.uses
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        before = nodes.get(inputs[0])
        if before is not None and uses[node.inputs[0]] == 1:
            operator = merged(before.operator, node.operator)
            if operator is not None:
                nodes[before.name] = replace(before, operator=operator, origin=_origin_of_both(before, node))
                renamed[node.name] = before.name
                continue
        nodes[node.name] = replace(node, inputs=inputs)
    outputs = tuple(renamed.get(name, name) for name in graph.outputs)
    return replace(graph, nodes=tuple(nodes.values()), outputs=outputs)


def _origin_of_both(before: Node, after: Node) -> str:
    """Return where the weights of two merged nodes come from: those of one operator may differ by what is folded in."""
    if not after.operator.tensors():
        return before.origin
    return f"{before.origin}, {after.origin}" if before.origin and after.origin else ""


def fold_batch_norms(graph: Graph) -> Graph:
    """Fold every batch norm into the operator before it.

    Raises:
        UnsupportedNetworkError: a batch norm with nothing to fold it into.
    """
    graph = absorbed(graph, fold_batch_norm)
    for node in graph.nodes:
        if isinstance(node.operator, BatchNorm):
            raise UnsupportedNetworkError(
                f"{node.name}: this batch norm can't be folded; put it right behind a convolution or a linear "
                "layer whose output nothing else takes"
            )
    return graph


def fuse_activations(graph: Graph) -> Graph:
    """Fuse every ReLU into the operator before it, where it can be."""
    return absorbed(graph, fuse_activation)


Pass = Callable[[Graph], Graph]

PASSES: Mapping[Literal["unfolded", "folded"], tuple[Pass, ...]] = {
    "unfolded": (merge_padding,),
    "folded": (fold_batch_norms, fuse_activations, without_shuffles, with_shared_parameters),
}
"""What is done to a graph, in this order: right after tracing, and before it is quantized.

In between, batch norms are operators of their own, whose statistics can be replaced. Quantization itself begins with
`parameters.with_equal_widths`, which needs a scheme."""


def unfolded(graph: Graph) -> Graph:
    """Return a traced graph with batch norms and activations by themselves, padding merged."""
    return _passed(graph, PASSES["unfolded"])


def folded(graph: Graph) -> Graph:
    """Return a graph whose batch norms are folded, activations fused and channel shuffles left out where they can be.

    Raises:
        UnsupportedNetworkError: a batch norm with nothing to fold it into.
    """
    return _passed(graph, PASSES["folded"])


def _passed(graph: Graph, passes: Sequence[Pass]) -> Graph:
    for one in passes:
        graph = one(graph)
    return graph
