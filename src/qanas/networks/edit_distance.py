"""How far two graphs are apart: what it takes to edit one into the other (Jin et al. 2019, Auto-Keras)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np

from qanas.networks.graph import JOINTS, Graph, Layer

T = TypeVar("T")

Skip = tuple[str, int, int]
"""A way into a joint: its operation, how many layers are in front of its start, and how many it leads past."""

REMEMBERED = 100_000
"""Pairs whose distance is kept: every proposal asks for those of all networks that were trained."""


@lru_cache(maxsize=REMEMBERED)
def edit_distance(one: str, other: str) -> float:
    """Return the distance of two graphs, by their texts: 0 for equal ones, the same both ways.

    Layers are aligned in their order: one that only one graph has counts 1, as does another operation; else the mean
    relative difference of channels, kernel and stride. To that the same for ways that joints add is added, which are
    aligned in the order of their starts.
    """
    if one == other:
        return 0.0
    first, second = Graph.parse(one), Graph.parse(other)
    layers = _aligned(_row(first), _row(second), _between_layers)
    return layers + _aligned(_skips(first), _skips(second), _between_skips)


def _row(graph: Graph) -> list[Layer]:
    return [layer for layer in graph.layers if layer.operation not in JOINTS]


def _skips(graph: Graph) -> list[Skip]:
    """Return the ways into joints but for the one that leads past least, in order."""
    places = [0]
    for layer in graph.layers:
        places.append(places[-1] + (layer.operation not in JOINTS))
    found = []
    for number in graph.numbers:
        layer = graph[number]
        if layer.operation in JOINTS:
            starts = sorted((places[source] for source in layer.inputs), reverse=True)
            found += [(layer.operation, start, places[number] - start) for start in starts[1:]]
    return sorted(found, key=lambda skip: skip[1:])


def _between_layers(one: Layer, other: Layer) -> float:
    if one.operation != other.operation:
        return 1.0
    pairs = [(one.kernel, other.kernel), (one.stride, other.stride)]
    if one.is_convolution:
        pairs.append((one.channels, other.channels))
    return sum(abs(a - b) / max(a, b) for a, b in pairs) / len(pairs)


def _between_skips(one: Skip, other: Skip) -> float:
    if one[0] != other[0]:
        return 1.0
    apart = abs(one[1] - other[1]) + abs(one[2] - other[2])
    return apart / max(max(one[1], other[1]) + max(one[2], other[2]), 1)


def _aligned(one: Sequence[T], other: Sequence[T], cost: Callable[[T, T], float]) -> float:
    """Return the least cost of an alignment in order, where what has no partner costs 1."""
    row = np.arange(len(other) + 1, dtype=np.float64).tolist()
    for number, each in enumerate(one, 1):
        before, row = row, [float(number)]
        for place, against in enumerate(other, 1):
            row.append(min(before[place] + 1, row[-1] + 1, before[place - 1] + cost(each, against)))
    return float(row[-1])
