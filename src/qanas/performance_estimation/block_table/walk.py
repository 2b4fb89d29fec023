"""Batch norms' statistics and values' ranges of the layers of a block, in floating point."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.performance_estimation.block_table.layers import (
    Bits,
    BlockLayers,
    Codes,
    ObservedLayer,
    Prefix,
    Row,
    ScoredSamples,
)
from qanas.quantization.border import INPUT
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.passes.folding import folded
from qanas.quantization.ranges import GatheredRanges

State = TypeVar("State")


class LayerStatistics(ABC, Generic[State]):
    """Says how a layer is folded and ranged, given the layers before it.

    Attributes:
        layers: of the block.
        input: parameters of the block's input.
    """

    layers: BlockLayers
    input: Affine

    @abstractmethod
    def start(self) -> State:
        """Return what is known before the first layer."""

    @abstractmethod
    def enter(self, prefix: Prefix, state: State) -> tuple[ObservedLayer, State]:
        """Return the last layer of a prefix, and what is known behind it.

        Args:
            prefix: at least one option.
            state: behind all of them but the last.
        """


class PrefixStatistics(LayerStatistics[Tensor]):
    """Each path's own: what is inside of a layer depends on the layers before it alone, so prefixes share it.

    Args:
        layers: of the block.
        samples: the teacher's features that go into the block, on training samples, shape (n, channels, height, width).
    """

    def __init__(self, layers: BlockLayers, samples: Tensor) -> None:
        """Take the input's range."""
        self.layers = layers
        self.samples = samples
        self.input = _input_affine(layers, samples)

    def start(self) -> Tensor:
        """Return the block's input, shape (n, channels, height, width)."""
        return self.samples

    def enter(self, prefix: Prefix, state: Tensor) -> tuple[ObservedLayer, Tensor]:
        """Pass the samples, shape (n, channels, height, width), through the layer."""
        return _passed(self.layers, len(prefix) - 1, prefix[-1], state)


class RememberedStatistics(LayerStatistics["State | None"]):
    """Statistics that are taken in one walk and looked up in later ones over the same rows or some of them.

    Args:
        statistics: that are taken.
    """

    def __init__(self, statistics: LayerStatistics[State]) -> None:
        """Remember nothing yet."""
        self.layers = statistics.layers
        self.input = statistics.input
        self._statistics = statistics
        self._known: dict[Prefix, ObservedLayer] = {}

    def start(self) -> State:
        """Return what is known before the first layer."""
        return self._statistics.start()

    def enter(self, prefix: Prefix, state: State | None) -> tuple[ObservedLayer, State | None]:
        """Look the layer up; what was behind it is forgotten, and taken anew where a path is new behind it."""
        if prefix in self._known:
            return self._known[prefix], None
        if state is None:
            state = self._behind(prefix[:-1])
        self._known[prefix], behind = self._statistics.enter(prefix, state)
        return self._known[prefix], behind

    def _behind(self, prefix: Prefix) -> State:
        state = self._statistics.start()
        for length in range(1, len(prefix) + 1):
            state = self._statistics.enter(prefix[:length], state)[1]
        return state


class RecentStatistics(LayerStatistics[None]):
    """Those of a layer behind the last few before it, whatever is further back: nearly a path's own, for fewer passes.

    What is further back is an option that is made up: by a fixed shift, so that each one stands equally often before
    each of those that follow.

    Args:
        layers: of the block.
        samples: the teacher's features that go into the block, on training samples, shape (n, channels, height, width).
        memory: how many layers before it make a difference to a layer.
        seed: of the shifts.
    """

    def __init__(self, layers: BlockLayers, samples: Tensor, memory: int, seed: int) -> None:
        """Take the input's range."""
        self.layers = layers
        self.samples = samples
        self.memory = memory
        self.input = _input_affine(layers, samples)
        generator = torch.Generator().manual_seed(seed)
        self._shifts = [int(torch.randint(count, (), generator=generator)) for count in layers.options]
        self._known: dict[tuple[int, Prefix], tuple[ObservedLayer, Tensor]] = {}

    def start(self) -> None:
        """Return nothing: what is before a layer is looked up."""

    def enter(self, prefix: Prefix, state: None) -> tuple[ObservedLayer, None]:
        """Return the layer as it is behind the last ones, whatever their own predecessors."""
        del state
        return self._behind(len(prefix) - 1, prefix[-self.memory - 1 :])[0], None

    def _behind(self, layer: int, recent: Prefix) -> tuple[ObservedLayer, Tensor]:
        """Return a layer and what it makes of the samples, shape (n, channels, height, width).

        Args:
            layer: its position.
            recent: its option, and those of the layers before it that make a difference.
        """
        place = (layer, recent)
        if place not in self._known:
            self._known[place] = _passed(self.layers, layer, recent[-1], self._inputs(layer, recent[:-1]))
        return self._known[place]

    def _inputs(self, layer: int, before: Prefix) -> Tensor:
        if layer == 0:
            return self.samples
        if layer > self.memory:
            oldest = layer - 1 - self.memory
            made_up = (sum(before) + self._shifts[oldest]) % self.layers.options[oldest]
            before = (made_up, *before)
        return self._behind(layer - 1, before)[1]


def affordable_memory(options: Sequence[int], passes: float) -> int:
    """Return the longest memory of `RecentStatistics` that takes no more passes of the samples, at least none.

    Args:
        options: how many each layer has.
        passes: how many may be taken.

    >>> [affordable_memory((6, 6, 6), passes) for passes in (21.6, 78, 258)]  # 18 passes, 6 + 36 + 36, the whole tree
    [0, 1, 2]
    """
    memory = 0
    while memory + 1 < len(options) and _passes(options, memory + 1) <= passes:
        memory += 1
    return memory


def _passes(options: Sequence[int], memory: int) -> int:
    return sum(prod(options[max(0, layer - memory) : layer + 1]) for layer in range(len(options)))


def _passed(layers: BlockLayers, layer: int, option: int, samples: Tensor) -> tuple[ObservedLayer, Tensor]:
    """Return an option with the statistics of its inputs, shape (n, channels, h, w), and what it makes of them."""
    seen = layers.graphs[layer][option].with_statistics_of(samples, layers.scheme)
    return ObservedLayer(folded(seen.unfolded), seen.ranges), seen.outputs


def _input_affine(layers: BlockLayers, samples: Tensor) -> Affine:
    ranges = GatheredRanges(layers.scheme, len(samples))
    ranges.add(INPUT, samples)
    return layers.scheme.of(INPUT).affine(*ranges.found()[INPUT].output)


Scores = Mapping[Row, NDArray[np.float64]]
"""The quantized noise-to-signal ratio of every sample, by row."""


@torch.no_grad()
def score_paths(statistics: LayerStatistics[Any], samples: ScoredSamples, rows: Iterable[Row]) -> Scores:
    """Return the scores of some rows, shape (samples,) each.

    Args:
        statistics: where batch norms and ranges come from.
        samples: what is scored on.
        rows: paths and bits.
    """
    bits_below: dict[Prefix, set[Bits]] = defaultdict(set)
    for bits, path in rows:
        for length in range(1, len(path) + 1):
            bits_below[path[:length]].add(bits[:length])
    if not bits_below:
        return {}
    walk = _Walk(statistics, samples, bits_below)
    start = Codes.of_input(statistics.input, samples)
    walk.below((), statistics.start(), {(): start})
    return walk.scores


class _Walk:
    """Depth first, so that only the values of one path are in memory."""

    def __init__(
        self,
        statistics: LayerStatistics[Any],
        samples: ScoredSamples,
        bits_below: Mapping[Prefix, set[Bits]],
    ) -> None:
        self.statistics = statistics
        self.samples = samples
        self.bits_below = bits_below
        self.scores: dict[Row, NDArray[np.float64]] = {}
        self.longer: dict[Prefix, list[Prefix]] = defaultdict(list)
        for prefix in sorted(bits_below):
            self.longer[prefix[:-1]].append(prefix)

    def below(self, prefix: Prefix, state: Any, codes: Mapping[Bits, Codes]) -> None:  # noqa: ANN401
        """Score every path that begins with a prefix.

        Args:
            prefix: the layers passed.
            state: what the statistics know behind it.
            codes: the values behind it, by the bits of its layers' weights.
        """
        layers = self.statistics.layers
        for longer in self.longer[prefix]:
            observed, behind = self.statistics.enter(longer, state)
            outputs = {}
            for bits in sorted(self.bits_below[longer]):
                given = codes[bits[:-1]]
                outputs[bits] = observed.quantized(given.affine, layers.with_bits(bits[-1]))(given)
            if len(longer) < layers.depth:
                self.below(longer, behind, outputs)
                continue
            for bits, values in outputs.items():
                self.scores[Row(bits, longer)] = self.samples.ratios(values.dequantized()).numpy()
