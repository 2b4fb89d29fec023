"""Randomly wired networks (Xie et al. 2019): what is searched is how a generator of random graphs is set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, cast, get_args

import numpy as np
from pydantic import Field

from qanas.core.candidate import Candidate, Value
from qanas.core.seeds import derive_seed
from qanas.networks.graph import INPUT, Draft, Graph
from qanas.networks.graph_space import GraphSpace
from qanas.search_space.settings import Choice, Float, Integer, OneOf, Setting

Generator = Literal["watts_strogatz", "erdos_renyi", "barabasi_albert"]
GENERATORS: tuple[Generator, ...] = get_args(Generator)
WATTS_STROGATZ, ERDOS_RENYI, BARABASI_ALBERT = GENERATORS

Edges = set[tuple[int, int]]
"""Pairs of nodes, each from the lower to the higher number."""


@dataclass(frozen=True)
class RandomWiringSpace(GraphSpace):
    """A stem and stages, each a random graph of separable convolutions; each halves the size and doubles the channels.

    A node takes the sum of what leads to it, with learnt weights; nodes to which nothing leads take the stage's input,
    and the stage puts out the mean, with learnt weights, of those that lead nowhere.

    Attributes:
        stages: behind the stem.
        max_nodes: of a stage.
        generators: that are searched.
        wirings: graphs that are drawn of each setting: which one it is, is a setting.
    """

    stages: Annotated[int, Field(ge=1, le=5)] = 2
    max_nodes: Annotated[int, Field(ge=3, le=64)] = 12
    generators: Annotated[tuple[Generator, ...], Field(strict=False, min_length=1)] = GENERATORS
    wirings: Annotated[int, Field(ge=1, le=10**6)] = 16

    def wiring_settings(self) -> list[Setting]:
        """Return the generator with its parameters, nodes, channels, taps, and which of the graphs it is."""
        first = self.generators[0]
        usual = WATTS_STROGATZ if WATTS_STROGATZ in self.generators else first
        nodes, high = min(8, self.max_nodes), max(8, 2 * self.seed_channels)
        low = min(4, self.seed_channels)
        return [
            Choice("generator", "architecture", usual, options=self.generators),
            Integer("neighbours", "architecture", 2, low=1, high=3, condition=OneOf("generator", (WATTS_STROGATZ,))),
            Float("rewired", "architecture", 0.75, low=0.0, high=1.0, condition=OneOf("generator", (WATTS_STROGATZ,))),
            Float("joined", "architecture", 0.2, low=0.05, high=0.6, condition=OneOf("generator", (ERDOS_RENYI,))),
            Integer("attached", "architecture", 2, low=1, high=3, condition=OneOf("generator", (BARABASI_ALBERT,))),
            Integer("nodes", "architecture", nodes, low=3, high=self.max_nodes),
            Integer("channels", "architecture", self.seed_channels, low=low, high=high, log=True),
            Choice("kernel", "architecture", 3, options=(3, 5)),
            Integer("wiring", "architecture", 0, low=0, high=self.wirings - 1),
        ]

    def graph_of(self, candidate: Candidate) -> Graph:
        """Return the graph of the stem and all stages."""
        chosen, draft = candidate.architecture, Draft()
        channels, kernel, nodes = (int(chosen[name]) for name in ("channels", "kernel", "nodes"))
        last = draft.add("conv", INPUT, channels=channels, kernel=3)
        for stage in range(self.stages):
            generator = np.random.default_rng(derive_seed(int(chosen["wiring"]), "wiring", stage))
            edges = wired(chosen, nodes, generator)
            channels *= 2 if stage else 1
            values: list[int] = []
            for node in range(nodes):
                own = [values[source] for source in range(node) if (source, node) in edges]
                taken = draft.add("mix", *own) if own else last
                stride = 1 if own else 2
                values.append(draft.add("separable", taken, channels=channels, kernel=kernel, stride=stride))
            ends = [values[node] for node in range(nodes) if not any(source == node for source, _ in edges)]
            last = draft.add("mix", *ends)
        return draft.graph()


def wired(chosen: Mapping[str, Value], nodes: int, generator: np.random.Generator) -> Edges:
    """Return a random graph.

    Args:
        chosen: the generator's name and its parameters.
        nodes: how many there are.
        generator: of all that is random.
    """
    match cast("Generator", chosen["generator"]):
        case "watts_strogatz":
            return _watts_strogatz(nodes, int(chosen["neighbours"]), float(chosen["rewired"]), generator)
        case "erdos_renyi":
            joined = float(chosen["joined"])
            pairs = [(one, other) for other in range(nodes) for one in range(other)]
            return {pair for pair in pairs if generator.random() < joined}
        case "barabasi_albert":
            return _barabasi_albert(nodes, int(chosen["attached"]), generator)


def _watts_strogatz(nodes: int, neighbours: int, rewired: float, generator: np.random.Generator) -> Edges:
    """Join each node of a ring with the next ones, and then lead each way somewhere else by chance."""
    edges: Edges = set()
    for apart in range(1, min(neighbours, (nodes - 1) // 2) + 1):
        for node in range(nodes):
            edges.add(_ordered(node, (node + apart) % nodes))
    for one, other in sorted(edges):
        free = [to for to in range(nodes) if to != one and _ordered(one, to) not in edges]
        if generator.random() < rewired and free:
            edges.remove((one, other))
            edges.add(_ordered(one, free[int(generator.integers(len(free)))]))
    return edges


def _barabasi_albert(nodes: int, attached: int, generator: np.random.Generator) -> Edges:
    """Join each further node with some earlier ones, the rather the more they are joined with."""
    edges: Edges = set()
    ends: list[int] = list(range(attached))  # each as often as it is joined
    for node in range(attached, nodes):
        found: set[int] = set()
        while len(found) < attached:
            found.add(ends[int(generator.integers(len(ends)))])
        edges |= {(source, node) for source in found}
        ends += [*sorted(found), *[node] * attached]
    return edges


def _ordered(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)
