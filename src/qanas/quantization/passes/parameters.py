"""Which values have one scale and zero point, and of how many bits their codes are.

Values that are put side by side share their parameters. An operator's inputs and output have the same bits, and
QUANTIZE stands between others: no kernel takes codes of 8 bits and gives some of 16, or the other way round, but for
QUANTIZE. So a layer's bits are those between which it computes, and a value that is there in other bits is rescaled
once for all that need it so. What has no weights and isn't named (a sum of a block's values, say) goes on in the bits
that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qanas.quantization.graph import Graph, Node
from qanas.quantization.numbers.affine import ActivationBits
from qanas.quantization.operators.rescaling import Quantize
from qanas.quantization.operators.shapes import Concatenate
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme, UnsupportedSchemeError, covers


def with_shared_parameters(graph: Graph) -> Graph:
    """Let what is put side by side be computed in the result's parameters, where nothing else needs it in its own.

    The runtime's concatenation rescales nothing, and a rescaling of its own (QUANTIZE) costs time, memory and a
    rounding. Which values share is a matter of the graph alone, not of ranges: costs from shapes stay exact.
    """
    by_name = {node.name: node for node in graph.nodes}
    deciding = _Deciding(by_name, graph.uses)
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


@dataclass(frozen=True)
class Widened:
    """A graph in which every operator's inputs and output have the same bits.

    Attributes:
        graph: with QUANTIZE between values of different bits.
        bits: of every value.
        origins: for each QUANTIZE that was put in, the value that it rescales.
    """

    graph: Graph
    bits: Mapping[str, ActivationBits]
    origins: Mapping[str, str]

    def scheme(self, scheme: Scheme, name: str) -> Scheme:
        """Return what holds for a node."""
        return replace(scheme.of(name), activation_bits=self.bits[name])

    def ranges(self, ranges: Mapping[str, Ranges]) -> Mapping[str, Ranges]:
        """Return the ranges of every value, given those of the graph without the QUANTIZEs that were put in."""
        if not self.origins:
            return ranges
        own = {name: ranges[name] for name in self.graph.shapes if name not in self.origins}
        return own | {name: Ranges(ranges[origin].output, {}) for name, origin in self.origins.items()}


def with_equal_widths(graph: Graph, scheme: Scheme) -> Widened:
    """Put QUANTIZE where an operator has other bits than its input.

    Raises:
        UnsupportedSchemeError: an operator has no kernel of these bits.
    """
    bits: dict[str, ActivationBits] = {name: scheme.of(name).activation_bits for name in graph.inputs}
    nodes: list[Node] = []
    origins: dict[str, str] = {}
    for node in graph.nodes:
        wanted = _bits_of(node, [bits[source] for source in node.inputs], scheme)
        _check_kernel(node, wanted)
        sources = []
        for source in node.inputs:
            name = source if bits[source] == wanted else f"{source}_int{wanted}"
            if name not in bits:
                nodes.append(Node(name, Quantize(), (source,)))
                bits[name], origins[name] = wanted, source
            sources.append(name)
        bits[node.name] = wanted
        nodes.append(replace(node, inputs=tuple(sources)))
    if not origins:
        return Widened(graph, bits, origins)
    # What is put side by side may have other producers now.
    return Widened(with_shared_parameters(replace(graph, nodes=tuple(nodes))), bits, origins)


def _bits_of(node: Node, given: Sequence[ActivationBits], scheme: Scheme) -> ActivationBits:
    """Return the bits that an operator computes in, for those of its inputs."""
    operator = node.operator
    if operator.parameters_from == "input" and given[0] in operator.activation_bits:
        return given[0]
    named = scheme.fixes("activation_bits", node.name)
    if named or operator.tensors() or len(set(given)) > 1 or given[0] not in operator.activation_bits:
        return scheme.of(node.name).activation_bits
    return given[0]


def lacking_kernels(graph: Graph, scheme: Scheme) -> Mapping[str, Node]:
    """Return the nodes that have no kernel of the scheme's bits, by name, but those of layers that have none at all.

    Such a layer was named by mistake, and `with_equal_widths` refuses it.
    """
    named = [layer for layer, own in scheme.layers.items() if "activation_bits" in own]
    lacking = {
        node.name: node
        for node in graph.nodes
        if scheme.of(node.name).activation_bits not in node.operator.activation_bits
    }
    mistaken = [
        layer for layer in named if all(node.name in lacking for node in graph.nodes if covers(layer, node.name))
    ]
    return {
        name: node
        for name, node in lacking.items()
        if name not in named and not any(covers(layer, name) for layer in mistaken)
    }


def _check_kernel(node: Node, bits: ActivationBits) -> None:
    known = node.operator.activation_bits
    if bits not in known:
        kind = type(node.operator).__name__
        raise UnsupportedSchemeError(
            f"{node.name}: activation_bits = {bits}: the runtime's {kind} has no such kernel; "
            f"give this layer activation_bits = {known[0]}"
        )
