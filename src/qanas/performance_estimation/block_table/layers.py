"""The layers of a block: the samples that they are scored on, their graphs and costs, their codes as quantized."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.core.errors import InputError
from qanas.hardware.costs import ADDITIVE_COSTS, Blueprint, CostModel, costs_of
from qanas.quantization.graph import Graph
from qanas.quantization.numbers.affine import Affine, WeightBits
from qanas.quantization.operators.base import Shape
from qanas.quantization.passes.batch_statistics import UnfoldedGraph
from qanas.quantization.passes.folding import folded
from qanas.quantization.quantized_graph import Evaluator, GraphQuantizer, QuantizedGraph
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace_unfolded
from qanas.supernet.block_supernet import BlockSupernet
from qanas.supernet.distillation import NoiseToSignal
from qanas.supernet.teacher_features import BlockFeatures
from qanas.training.trainer import channels_last

CHUNK_NUMBERS = 1 << 16
"""Numbers of a block's input that are computed at a time: with what a layer makes of them they fit into a cache."""


@dataclass(frozen=True)
class ScoredSamples:
    """The teacher's features on held-out samples, cut into chunks.

    Attributes:
        chunks: inputs and targets.
        noise: with the variances of the teacher's outputs over all held-out samples.
    """

    chunks: tuple[BlockFeatures, ...]
    noise: NoiseToSignal

    @classmethod
    def of(cls, features: BlockFeatures, noise: NoiseToSignal, chosen: Sequence[int] | None = None) -> ScoredSamples:
        """Cut some of the samples into chunks, in memory of their own.

        Args:
            features: all held-out samples.
            noise: of all of them.
            chosen: positions of the samples, in the order in which they are scored; None for all.
        """
        positions = torch.arange(len(features)) if chosen is None else torch.tensor(list(chosen))
        size = chunk_size(features)
        chunks = tuple(
            BlockFeatures(channels_last(features.inputs[part]), channels_last(features.outputs[part]))
            for part in torch.split(positions, size)
        )
        return cls(chunks, noise)

    def ratios(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the noise-to-signal ratio of every sample, float64, shape (samples,).

        Args:
            outputs: of each chunk, real values, shape (samples, channels, height, width).
        """
        pairs = zip(outputs, self.chunks, strict=True)
        return torch.cat([self.noise(values, chunk.outputs) for values, chunk in pairs]).to(torch.float64)


def chunk_size(features: BlockFeatures) -> int:
    """Return how many samples of a block are computed at a time."""
    return max(1, CHUNK_NUMBERS // features.inputs[0].numel())


Path = tuple[int, ...]
"""The option of every layer."""

Prefix = tuple[int, ...]
"""The options of the first layers of a path."""

Bits = tuple[WeightBits, ...]
"""The bits of every layer's weights."""


class Row(NamedTuple):
    """A row of a table: a path through a block, and the bits of its layers' weights.

    Attributes:
        bits: of every layer.
        path: the option of every layer.
    """

    bits: Bits
    path: Path

    @classmethod
    def alike(cls, bits: WeightBits, path: Path) -> Row:
        """Return the row whose layers all have the same bits.

        >>> Row.alike(8, (0, 2))
        Row(bits=(8, 8), path=(0, 2))
        """
        return cls((bits,) * len(path), path)


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
            raise InputError("quantization.layers: bits of blocks and layers are searched; leave it out")
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

    def costs(
        self, rows: Sequence[Row], models: Sequence[CostModel] = ADDITIVE_COSTS
    ) -> dict[str, NDArray[np.float64]]:
        """Return additive costs of rows, by name, shape (rows,): sums over the layers."""
        bits, paths = np.array([row.bits for row in rows]), np.array([row.path for row in rows])
        totals = np.zeros((len(rows), len(models)))
        for layer in range(self.depth):
            for width in np.unique(bits[:, layer]):
                chosen = np.flatnonzero(bits[:, layer] == width)
                own = self._option_costs(layer, int(width), models)  # type: ignore[arg-type]
                totals[chosen] += own[paths[chosen, layer]]
        return {model.measure.column: totals[:, place] for place, model in enumerate(models)}

    def _option_costs(self, layer: int, bits: WeightBits, models: Sequence[CostModel]) -> NDArray[np.float64]:
        """Return the costs of every option of a layer, shape (options, costs)."""
        costs = []
        for unfolded in self.graphs[layer]:
            graph = folded(unfolded.graph)
            blueprint = Blueprint(graph, QuantizedGraph.from_shapes(graph, self.with_bits(bits)))
            costs.append(list(costs_of(blueprint, models).values()))
        return np.array(costs)


@dataclass(frozen=True)
class Codes:
    """The values at a border between layers, as they ship.

    Attributes:
        affine: their parameters.
        chunks: steps from the zero point, shape (samples, channels, height, width) each.
    """

    affine: Affine
    chunks: tuple[Tensor, ...]

    @classmethod
    def of_input(cls, affine: Affine, samples: ScoredSamples) -> Self:
        """Quantize the block's input."""
        return cls(affine, tuple(affine.quantize(chunk.inputs).sub_(affine.zero_point) for chunk in samples.chunks))

    def dequantized(self) -> list[Tensor]:
        """Return the real values, shape (samples, channels, height, width) each."""
        return [steps * self.affine.scale for steps in self.chunks]


@dataclass(frozen=True)
class QuantizedLayer:
    """An option of a layer, prepared for many chunks.

    Attributes:
        evaluator: in fast arithmetic.
        output: parameters of the output's codes.
    """

    evaluator: Evaluator
    output: Affine

    def __call__(self, codes: Codes) -> Codes:
        """Return what the layer makes of codes."""
        graph = self.evaluator.graph
        chunks = (self.evaluator.pass_on(graph.stored_input(steps)) for steps in codes.chunks)
        return Codes(self.output, tuple(graph.torch_output(values) for values in chunks))


@dataclass(frozen=True)
class ObservedLayer:
    """An option with fixed batch norms, and how far its values reach.

    Attributes:
        graph: folded.
        ranges: of everything in it.
    """

    graph: Graph
    ranges: Mapping[str, Ranges]
    _quantizers: dict[WeightBits, GraphQuantizer] = field(default_factory=dict)
    _prepared: dict[WeightBits, dict[Affine, QuantizedLayer]] = field(default_factory=lambda: defaultdict(dict))

    def quantized(self, given: Affine, scheme: Scheme) -> QuantizedLayer:
        """Return the layer as it ships; asked again for the same, it is not prepared again.

        Args:
            given: parameters of the codes that it is given.
            scheme: with the bits of its weights.
        """
        prepared = self._prepared[scheme.weight_bits]
        if given not in prepared:
            prepared[given] = self._prepare(given, scheme, next(iter(prepared.values()), None))
        return prepared[given]

    def _prepare(self, given: Affine, scheme: Scheme, like: QuantizedLayer | None) -> QuantizedLayer:
        if scheme.weight_bits not in self._quantizers:
            self._quantizers[scheme.weight_bits] = GraphQuantizer(self.graph, self.ranges, scheme)
        quantized = self._quantizers[scheme.weight_bits].quantized(given)
        evaluator = quantized.evaluator("fast", None if like is None else like.evaluator)
        return QuantizedLayer(evaluator, quantized.output)
