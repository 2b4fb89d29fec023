"""Sequences of morphisms: drawn at random, taken by a graph, and by the weights of its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from qanas.networks.graph import INPUT, Graph
from qanas.networks.graph_weights import state_of, weights_of
from qanas.networks.morphisms import COMPOUND, KINDS, MORPHISMS, Bounds, Kind, Step, resizings


def changed(graph: Graph, steps: Sequence[Step]) -> Graph:
    """Return the graph behind some steps."""
    for step in steps:
        graph = MORPHISMS[step.kind].graph(graph, step)
    return graph


def carried(graph: Graph, steps: Sequence[Step], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict, tensors of any shapes, for the network behind some steps.

    Args:
        graph: in front of them.
        steps: that are taken.
        state: of the graph's network.
    """
    weights = weights_of(state)
    for step in steps:
        weights = MORPHISMS[step.kind].weights(graph, step, weights)
        graph = MORPHISMS[step.kind].graph(graph, step)
    return state_of(weights)


def drawn_steps(
    graph: Graph,
    generator: np.random.Generator,
    count: int,
    kinds: Sequence[Kind] = KINDS,
    bounds: Bounds | None = None,
) -> list[Step]:
    """Return random morphisms, each of a kind drawn uniformly, at a place drawn uniformly; fewer where none fits.

    Args:
        graph: in front of them.
        generator: of all that is random.
        count: how many; a compound one is one, though it has several steps.
        kinds: that there are.
        bounds: how far the network may grow.
    """
    bounds, steps = bounds or Bounds(), []
    for _ in range(count):
        for place in generator.permutation(len(kinds)).tolist():
            own = _drawn(graph, generator, kinds[place], bounds)
            if own:
                steps += own
                bounds = replace(bounds, finer_inputs=bounds.finer_inputs - (own[-1].kind == "finer"))
                graph = changed(graph, own)
                break
    return steps


def _drawn(graph: Graph, generator: np.random.Generator, kind: Kind, bounds: Bounds) -> list[Step]:
    if kind == "compound":
        return _compound(graph, generator, bounds)
    places = list(MORPHISMS[kind].places(graph, bounds))
    if not places:
        return []
    return [replace(places[int(generator.integers(len(places)))], seed=int(generator.integers(2**31)))]


def _compound(graph: Graph, generator: np.random.Generator, bounds: Bounds) -> list[Step]:
    """Return steps that make a network wider everywhere, deeper at each size, and its input finer (Tan & Le 2019)."""
    steps: list[Step] = []
    for place in resizings(graph, "wider", [COMPOUND], 1, bounds.most_channels):
        step = replace(place, seed=int(generator.integers(2**31)))
        steps.append(step)
    graph = changed(graph, steps)
    if any(width > bounds.most_channels for width in graph.widths(0)):
        return []
    for size in sorted(set(graph.shrinkage[1:]), reverse=True):  # from behind: numbers in front stay
        at = [n for n in graph.numbers if graph[n].is_convolution and graph.shrinkage[n] == size]
        if not at or len(graph) >= bounds.most_layers:
            continue
        number = at[int(generator.integers(len(at)))]
        separable = int(graph[number].operation == "separable")
        step = Step("deeper", number, max(3, graph[number].kernel), separable, int(generator.integers(2**31)))
        steps.append(step)
        graph = changed(graph, [step])
    if steps and bounds.finer_inputs > 0:
        steps.append(Step("finer", INPUT))
    return steps
