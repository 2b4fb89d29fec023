"""One layer of a block as it ships, from codes to codes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from torch import Tensor

from qanas.performance_estimation.block_table.samples import ScoredSamples
from qanas.quantization.graph import Graph
from qanas.quantization.numbers.affine import Affine, WeightBits
from qanas.quantization.quantized_graph import Evaluator, GraphQuantizer
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme


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
        """Return the real values."""
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
