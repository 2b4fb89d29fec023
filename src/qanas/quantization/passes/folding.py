"""The passes that a traced graph goes through, in their order, and those by which operators take over their neighbours.

A batch norm, a ReLU or zeros around an input become part of an operator. What has to do with the order of channels is
in `channel_order`, with common scales and bits in `parameters`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from qanas.quantization.graph import Graph, Node, UnsupportedNetworkError
from qanas.quantization.operators.arithmetic import Add, Multiply, WithConstant
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.convolution import Convolution, Kernel
from qanas.quantization.operators.dense import Dense, Scaling
from qanas.quantization.operators.rescaling import ReLU
from qanas.quantization.operators.windows import Pad, Window
from qanas.quantization.passes.channel_order import without_shuffles
from qanas.quantization.passes.masks import fuse_mask, masks_alone
from qanas.quantization.passes.one_memory import without_overwritten
from qanas.quantization.passes.parameters import with_shared_parameters


def fold_batch_norm(before: Operator, after: Operator) -> Operator | None:
    """Return ``before`` with factors by channel (a batch norm) behind it folded in, or None where it can't be.

    With scale s = gamma / sqrt(var + eps) and offset t = beta - s mean, ``s (W x + b) + t`` is
    ``(s W) x + (s b + t)`` (Jacob et al. 2018): exact but for rounding in float32.
    """
    return before.with_scaling(after.scale, after.offset) if isinstance(after, Scaling) else None


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
    """Fold every batch norm into the operator before it, or into the one behind it, or make it one of its own."""
    return by_themselves(folded_forward(absorbed(graph, fold_batch_norm)))


def folded_forward(graph: Graph) -> Graph:
    """Fold batch norms into dense layers, and convolutions that don't pad, where nothing else takes them.

    ``W (s x + t) + b`` is ``(W s) x + (W t + b)``: padding, which is 0 behind the batch norm, isn't 0 in front of it.
    """
    uses = graph.uses
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        before = nodes.get(node.inputs[0])
        nodes[node.name] = node
        if before is None or uses[before.name] > 1 or not isinstance(before.operator, Scaling):
            continue
        if isinstance(node.operator, Dense | Convolution):
            operator = node.operator.with_scaled_input(before.operator.scale, before.operator.offset)
            if operator is not None:
                del nodes[before.name]
                origin = _origin_of_both(before, node)
                nodes[node.name] = replace(node, operator=operator, inputs=before.inputs, origin=origin)
    return replace(graph, nodes=tuple(nodes.values()))


IMAGE_AXES = 3
"""Of a value that convolutions take: rows, columns, channels."""


def by_themselves(graph: Graph) -> Graph:
    """Make operators of the batch norms that are left.

    Of images, a convolution by channel, whose factors have a scale each; of other values, a product and a sum.
    """
    nodes: list[Node] = []
    for node in graph.nodes:
        if not isinstance(node.operator, Scaling):
            nodes.append(node)
            continue
        scale, offset = node.operator.scale, node.operator.offset
        if len(graph.shapes[node.name]) == IMAGE_AXES and len(scale) > 1:
            kernel = Kernel(Window((1, 1), (1, 1)), groups=len(scale))
            nodes.append(replace(node, operator=Convolution(scale.reshape(-1, 1, 1, 1), offset, kernel)))
            continue
        product = f"{node.name}_scaled"
        nodes.append(Node(product, WithConstant(Multiply(), scale), node.inputs))
        nodes.append(Node(node.name, WithConstant(Add(), offset), (product,)))
    return replace(graph, nodes=tuple(nodes))


def fuse_activations(graph: Graph) -> Graph:
    """Fuse every ReLU into the operator before it, where it can be."""
    return absorbed(graph, fuse_activation)


def fuse_masks(graph: Graph) -> Graph:
    """Let every softmax take in the mask in front of it.

    Raises:
        UnsupportedNetworkError: a mask of minus infinity stands in front of something else.
    """
    graph = absorbed(graph, fuse_mask)
    for node in graph.nodes:
        if masks_alone(node.operator):
            raise UnsupportedNetworkError(
                f"{node.name}: minus infinity with no softmax right behind it; mask scores right in front of a softmax"
            )
    return graph


Pass = Callable[[Graph], Graph]

PASSES: Mapping[Literal["unfolded", "folded"], tuple[Pass, ...]] = {
    "unfolded": (merge_padding,),
    "folded": (
        fold_batch_norms,
        fuse_activations,
        fuse_masks,
        without_shuffles,
        without_overwritten,
        with_shared_parameters,
    ),
}
"""What is done to a graph, in this order: right after tracing, and before it is quantized.

In between, batch norms are operators of their own, whose statistics can be replaced. Quantization itself begins with
`parameters.with_equal_widths`, which needs a scheme."""


def unfolded(graph: Graph) -> Graph:
    """Return a traced graph with batch norms and activations by themselves, padding merged."""
    return _passed(graph, PASSES["unfolded"])


def folded(graph: Graph) -> Graph:
    """Return a graph whose batch norms are folded, activations fused and channel shuffles left out where possible."""
    return _passed(graph, PASSES["folded"])


def _passed(graph: Graph, passes: Sequence[Pass]) -> Graph:
    for one in passes:
        graph = one(graph)
    return graph
