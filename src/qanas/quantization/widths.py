"""Bits of values: those of an operator's inputs and output are the same, and QUANTIZE stands between others.

No kernel takes codes of 8 bits and gives some of 16, or the other way round, but for QUANTIZE. So a layer's bits are
those between which it computes, and a value that is there in other bits is rescaled once for all that need it so.
What has no weights and isn't named (a sum of a block's values, say) goes on in the bits that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qanas.quantization.affine import ActivationBits
from qanas.quantization.graph import INPUT, Graph, Node
from qanas.quantization.operators.base import Ranges
from qanas.quantization.operators.quantize import Quantize
from qanas.quantization.scheme import Scheme, UnsupportedSchemeError
from qanas.quantization.sharing import with_shared_parameters


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
    bits: dict[str, ActivationBits] = {INPUT: scheme.of(INPUT).activation_bits}
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
    if operator.parameters_from == "input":
        return given[0]
    named = scheme.fixes("activation_bits", node.name)
    if named or operator.tensors() or len(set(given)) > 1 or given[0] not in operator.activation_bits:
        return scheme.of(node.name).activation_bits
    return given[0]


def _check_kernel(node: Node, bits: ActivationBits) -> None:
    known = node.operator.activation_bits
    if bits not in known:
        kind = type(node.operator).__name__
        raise UnsupportedSchemeError(
            f"{node.name}: activation_bits = {bits}: the runtime's {kind} has no such kernel; "
            f"give this layer activation_bits = {known[0]}"
        )
