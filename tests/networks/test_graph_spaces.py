"""Spaces whose networks are graphs: what their settings mean, and that what they describe ships as simulated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qanas.core.candidate import SEARCHED_BY_DEFAULT, Candidate, Value
from qanas.networks.cells import CellSpace
from qanas.networks.graph import JOINTS, Graph
from qanas.networks.graph_space import GraphSpace
from qanas.networks.growing import GrowingSpace
from qanas.networks.multi_branch import MultiBranchSpace
from qanas.networks.random_wiring import RandomWiringSpace, wired
from qanas.search_space.growth import neighbour
from qanas.search_space.network_space import TaskShape
from qanas.search_space.space import SearchSpace, space_of
from tests.quantization.conftest import steps_from_runtime
from tests.quantization.torch_calls import with_statistics

SHAPE = TaskShape((3, 8, 8), 3, 1.0, ("cross_entropy",))
SPACES: list[GraphSpace] = [
    CellSpace(seed_channels=4),
    CellSpace(shape="darts", cells=2, seed_channels=4),
    MultiBranchSpace(seed_channels=8, max_channels=8),
    RandomWiringSpace(seed_channels=4, max_nodes=6),
    GrowingSpace(seed_channels=4, max_channels=12),
]


def searched(space: GraphSpace) -> SearchSpace:
    return space_of(space.settings(SHAPE), SEARCHED_BY_DEFAULT)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_what_is_drawn_ships_as_simulated(space: GraphSpace) -> None:
    generator = np.random.default_rng(0)
    candidate = searched(space).random(generator)
    if isinstance(space, GrowingSpace):
        candidate = neighbour(searched(space), candidate, generator, 8).candidate
    torch.manual_seed(0)
    network = with_statistics(space.build(candidate, SHAPE))
    assert not steps_from_runtime(network, torch.randn(12, *SHAPE.input_shape)).any()


def cell(**edges: str) -> Graph:
    space = CellSpace(seed_channels=2)
    names = [setting.name for setting in space.wiring_settings()]
    return space.graph_of(Candidate({name: edges.get(name, "none") for name in names}))


def test_edges_of_none_take_what_hangs_on_them_away() -> None:
    stem_and_two_halvings = cell()
    assert len(stem_and_two_halvings) == 3
    assert len(cell(edge_0_1="conv_3", edge_1_2="conv_1")) == 3  # nothing leads on to the end
    assert len(cell(edge_0_1="conv_3", edge_1_3="conv_1")) == 3 + 3 * 2
    assert cell(edge_0_3="skip") == stem_and_two_halvings


def test_cells_that_reduce_halve_the_size() -> None:
    space = CellSpace(shape="darts", cells=6, seed_channels=2)
    graph = space.graph_of(searched(space).reference)
    assert graph.shrinkage[-1] == 4
    assert graph.widths(3)[-1] == 4 * 2 * 4  # nodes, halvings twice


def edges_of(**chosen: Value) -> list[set[tuple[int, int]]]:
    return [wired(chosen, 10, np.random.default_rng(seed)) for seed in range(20)]


def test_random_graphs_are_those_of_their_generators() -> None:
    ring = edges_of(generator="watts_strogatz", neighbours=2, rewired=0.0)
    assert all(edges == ring[0] and len(edges) == 20 for edges in ring)
    rewired = edges_of(generator="watts_strogatz", neighbours=2, rewired=1.0)
    assert all(len(edges) == 20 for edges in rewired)
    assert rewired[0] != rewired[1]
    attached = edges_of(generator="barabasi_albert", attached=2)
    assert all(len(edges) == 2 * 8 for edges in attached)
    joined = edges_of(generator="erdos_renyi", joined=0.3)
    assert 0.2 < np.mean([len(edges) for edges in joined]) / 45 < 0.4
    assert all(one < other for kind in (ring, rewired, attached, joined) for edges in kind for one, other in edges)


def test_the_same_settings_are_the_same_graph_and_another_wiring_is_another() -> None:
    space = RandomWiringSpace(seed_channels=4)
    candidate = searched(space).reference
    other = Candidate({**candidate.architecture, "wiring": 1}, candidate.training, candidate.quantization)
    assert space.graph_of(candidate) == space.graph_of(candidate) != space.graph_of(other)
    assert {layer.operation for layer in space.graph_of(candidate).layers} <= {"conv", "separable", *JOINTS}
