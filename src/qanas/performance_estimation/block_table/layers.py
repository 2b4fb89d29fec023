"""The layers of a block's supernet as graphs, and what each of them costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qanas.core.errors import InputError
from qanas.hardware.costs import ADDITIVE_COLUMNS, ADDITIVE_COSTS, Blueprint, costs_of
from qanas.quantization.numbers.affine import WeightBits
from qanas.quantization.operators.base import Shape
from qanas.quantization.passes.batch_statistics import UnfoldedGraph
from qanas.quantization.passes.folding import folded
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace_unfolded
from qanas.supernet.block_supernet import BlockSupernet

Path = tuple[int, ...]
"""The option of every layer."""

Prefix = tuple[int, ...]
"""The options of the first layers of a path."""

Row = tuple[WeightBits, Path]
"""A row of a table: a path through a block with weights of some bits."""


def positions_by_bits(rows: Sequence[Row]) -> Mapping[WeightBits, list[int]]:
    """Return the positions of the rows of each of the bits."""
    positions: dict[WeightBits, list[int]] = defaultdict(list)
    for position, (bits, _) in enumerate(rows):
        positions[bits].append(position)
    return positions


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

    def costs(self, rows: Sequence[Row]) -> dict[str, NDArray[np.float64]]:
        """Return the additive costs of rows, by name: sums over the layers."""
        totals = np.empty((len(rows), len(ADDITIVE_COSTS)))
        for bits, chosen in positions_by_bits(rows).items():
            paths = np.array([rows[position][1] for position in chosen])
            totals[chosen] = sum(self._option_costs(layer, bits)[paths[:, layer]] for layer in range(self.depth))
        return {name: totals[:, column] for column, name in enumerate(ADDITIVE_COLUMNS)}

    def _option_costs(self, layer: int, bits: WeightBits) -> NDArray[np.float64]:
        """Return the costs of every option of a layer, shape (options, costs)."""
        costs = []
        for unfolded in self.graphs[layer]:
            graph = folded(unfolded.graph)
            blueprint = Blueprint(graph, QuantizedGraph.from_shapes(graph, self.with_bits(bits)))
            costs.append(list(costs_of(blueprint, ADDITIVE_COSTS).values()))
        return np.array(costs)
