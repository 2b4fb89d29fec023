"""The layers of a block's supernet as graphs, and what each of them costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from qanas.core.errors import InputError
from qanas.hardware.costs import costs_of
from qanas.quantization.affine import WeightBits
from qanas.quantization.batch_statistics import UnfoldedGraph
from qanas.quantization.operators.base import Shape
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import folded, trace_unfolded
from qanas.supernet.block_supernet import BlockSupernet

ADDITIVE_COSTS: tuple[str, ...] = (
    "weight_bytes",
    "packed_weight_bytes",
    "macs",
    "float_weight_bytes",
    "float_packed_weight_bytes",
    "float_macs",
)
"""Costs of a network that are the sums of its layers' costs."""


@dataclass(frozen=True)
class BlockLayers:
    """Every option of every layer of a block as a graph whose batch norms are not folded yet.

    Attributes:
        graphs: of each option of each layer.
        scheme: how the network is quantized, but for the bits of the block's weights.
    """

    graphs: tuple[tuple[UnfoldedGraph, ...], ...]
    scheme: Scheme

    @classmethod
    def of(cls, supernet: BlockSupernet, input_shape: Shape, scheme: Scheme) -> BlockLayers:
        """Trace a supernet.

        Args:
            supernet: of the block.
            input_shape: of a sample of the block's input.
            scheme: for the whole network; what it has by layer is for names that the block's graphs don't have.

        Raises:
            InputError: a scheme with overrides by layer.
        """
        if scheme.layers:
            raise InputError("quantization.layers: a block-wise search has bits by block; leave it out")
        graphs = []
        for options in supernet.options:
            graphs.append(tuple(UnfoldedGraph(trace_unfolded(option, input_shape)) for option in options))
            # All options put out the same shape; the next layer takes it in.
            input_shape = graphs[-1][0].graph.network_output_shape
        return cls(tuple(graphs), scheme)

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.graphs)

    @property
    def options(self) -> tuple[int, ...]:
        """How many options each layer has."""
        return tuple(len(graphs) for graphs in self.graphs)

    def with_bits(self, bits: WeightBits) -> Scheme:
        """Return the scheme with other bits of weights."""
        return replace(self.scheme, weight_bits=bits)

    @cached_property
    def _costs(self) -> dict[tuple[int, int, int], Mapping[str, float]]:
        return {}

    def option_costs(self, layer: int, option: int, bits: WeightBits) -> Mapping[str, float]:
        """Return the additive costs of one option."""
        place = (layer, option, bits)
        if place not in self._costs:
            graph = folded(self.graphs[layer][option].graph)
            costs = costs_of(graph, QuantizedGraph.from_shapes(graph, self.with_bits(bits)))
            self._costs[place] = {name: costs[name] for name in ADDITIVE_COSTS}
        return self._costs[place]

    def path_costs(self, path: Sequence[int], bits: WeightBits) -> dict[str, float]:
        """Return the additive costs of a path."""
        parts = [self.option_costs(layer, option, bits) for layer, option in enumerate(path)]
        return {name: sum(part[name] for part in parts) for name in ADDITIVE_COSTS}
