"""Batch norms' statistics and values' ranges of the layers of a block, in floating point."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from qanas.performance_estimation.block_table.layers import BlockLayers
from qanas.performance_estimation.block_table.quantized_layer import ObservedLayer
from qanas.quantization.affine import Affine
from qanas.quantization.batch_statistics import BatchStatistics, batch_statistics
from qanas.quantization.graph import INPUT
from qanas.quantization.operators.base import Ranges
from qanas.quantization.operators.batch_norm import BatchNorm
from qanas.quantization.tracing import folded
from qanas.supernet.paths import strictly_fair_paths

Prefix = tuple[int, ...]
"""The options of the first layers of a path."""

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
        samples: the teacher's features that go into the block, on training samples.
    """

    def __init__(self, layers: BlockLayers, samples: Tensor) -> None:
        """Take the input's range."""
        self.layers = layers
        self.samples = samples
        self.input = _input_affine(layers, samples)

    def start(self) -> Tensor:
        """Return the block's input."""
        return self.samples

    def enter(self, prefix: Prefix, state: Tensor) -> tuple[ObservedLayer, Tensor]:
        """Pass the samples through the layer."""
        graph = self.layers.graphs[len(prefix) - 1][prefix[-1]]
        seen = batch_statistics(graph, state, self.layers.scheme)
        return ObservedLayer(folded(seen.graph), seen.ranges), seen.outputs


class SharedStatistics(LayerStatistics[None]):
    """One set an option, whatever is before it: cheap, and close enough to tell bad paths from good ones.

    Taken over strictly fair paths: every option is seen equally often, behind different ones. Means and variances
    are averaged, ranges united.

    Args:
        layers: of the block.
        samples: the teacher's features that go into the block, on training samples.
        rounds: of paths, each as many as a layer has options.
        seed: of the paths.
    """

    def __init__(self, layers: BlockLayers, samples: Tensor, rounds: int, seed: int) -> None:
        """Pass the samples through some paths."""
        self.layers = layers
        self.input = _input_affine(layers, samples)
        generator = torch.Generator().manual_seed(seed)
        seen: dict[tuple[int, int], list[BatchStatistics]] = {}
        for _ in range(rounds):
            for path in strictly_fair_paths(layers.options, generator):
                values = samples
                for layer, option in enumerate(path):
                    entry = batch_statistics(layers.graphs[layer][option], values, layers.scheme)
                    seen.setdefault((layer, option), []).append(entry)
                    values = entry.outputs
        self._layers = {place: _merged(entries) for place, entries in seen.items()}

    def start(self) -> None:
        """Return nothing: what is before a layer doesn't matter."""

    def enter(self, prefix: Prefix, state: None) -> tuple[ObservedLayer, None]:
        """Look the option up."""
        del state
        return self._layers[len(prefix) - 1, prefix[-1]], None


def _input_affine(layers: BlockLayers, samples: Tensor) -> Affine:
    low, high = (float(bound) for bound in torch.aminmax(samples))
    return layers.scheme.of(INPUT).affine(low, high)


def _merged(entries: list[BatchStatistics]) -> ObservedLayer:
    """Return one layer out of several views of it."""
    first = entries[0].graph
    nodes = list(first.nodes)
    for position, node in enumerate(nodes):
        if isinstance(node.operator, BatchNorm):
            norms = [entry.graph.nodes[position].operator for entry in entries]
            nodes[position] = replace(node, operator=_averaged([norm for norm in norms if isinstance(norm, BatchNorm)]))
    ranges = {name: Ranges(_united([entry.ranges[name].output for entry in entries]), {}) for name in entries[0].ranges}
    return ObservedLayer(folded(replace(first, nodes=tuple(nodes))), ranges)


def _averaged(norms: list[BatchNorm]) -> BatchNorm:
    means = torch.stack([norm.mean for norm in norms])
    variances = torch.stack([norm.variance for norm in norms])
    # The variance of all samples together: within each path, and between the paths' means.
    spread = means.var(0, correction=0)
    return replace(norms[0], mean=means.mean(0), variance=variances.mean(0) + spread)


def _united(ranges: list[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in ranges), max(high for _, high in ranges)
