"""Morphisms on random graphs: what keeps the function keeps it, weights fit, and the graph is data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
from qanas.networks.edit_distance import edit_distance
from qanas.networks.graph import Draft, Graph, GraphNetwork
from qanas.networks.growing import GrowingSpace, InheritedStart, MorphismGrowth
from qanas.networks.morphism_steps import carried, changed, drawn_steps
from qanas.networks.morphisms import KINDS, MORPHISMS, Bounds, Step
from qanas.search_space.growth import neighbour
from qanas.search_space.network_space import TaskShape
from qanas.search_space.settings import Choice
from qanas.search_space.space import space_of

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = TaskShape((3, 9, 12), 3, 1.0, ("cross_entropy",))
KEEPING = [kind for kind in KINDS if kind == "compound" or MORPHISMS[kind].keeps]
TOLERANCE = 1e-5
"""Of the largest output."""


def random_chain(generator: np.random.Generator) -> Graph:
    draft, last = Draft(), 0
    for stage in range(int(generator.integers(1, 4))):
        if stage:
            last = draft.add("max_pool" if generator.random() < 0.5 else "avg_pool", last, kernel=2, stride=2)
        for _ in range(int(generator.integers(1, 3))):
            last = draft.add(
                "separable" if last and generator.random() < 0.4 else "conv",
                last,
                channels=int(generator.integers(2, 7)),
                kernel=int(generator.choice([1, 3, 5])),
                stride=int(generator.choice([1, 1, 1, 2])),
            )
    return draft.graph()


@torch.no_grad()
def settle(network: nn.Module) -> None:
    """Give a network weights and statistics such as trainings leave."""
    for name, tensor in network.state_dict().items():
        match name.rpartition(".")[2], "norm" in name:
            case "bias", _:
                tensor.normal_(0, 0.5)
            case "weight", True:
                tensor.uniform_(0.3, 1.5)
            case "running_mean", _:
                tensor.normal_(0, 0.3)
            case "running_var", _:
                tensor.uniform_(0.3, 2)


def difference(seed: int, most: int = 8) -> tuple[float, list[Step]]:
    """Return how far outputs move when a random network takes random steps, relative to the largest."""
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)
    chain = random_chain(generator)
    made = drawn_steps(chain, generator, int(generator.integers(0, 4)), KINDS, Bounds(20, 40))  # any graph
    graph = changed(chain, made)
    network = GraphNetwork(graph, SHAPE)
    network.load_state_dict(carried(chain, made, GraphNetwork(chain, SHAPE).state_dict()))
    settle(network)
    steps = drawn_steps(graph, generator, int(generator.integers(1, most + 1)), KEEPING, Bounds(30, 60))
    grown = GraphNetwork(changed(graph, steps), SHAPE)
    grown.load_state_dict(carried(graph, steps, network.state_dict()))
    inputs = torch.randn(4, *SHAPE.input_shape)
    with torch.no_grad():
        before, after = network.eval()(inputs), grown.eval()(inputs)
    return float((after - before).abs().max() / before.abs().max()), steps


def test_random_sequences_keep_the_function() -> None:
    found = [difference(seed) for seed in range(12)]
    assert max(gap for gap, _ in found) < TOLERANCE
    taken = {step.kind for _, steps in found for step in steps}
    assert taken == {kind for kind in KEEPING if kind != "compound"}


@pytest.mark.slow
def test_many_random_sequences_keep_the_function() -> None:
    worst = max(difference(seed)[0] for seed in range(500))
    print(f"worst relative difference of 500 sequences of up to 8 morphisms: {worst:.2e}")  # noqa: T201 - it is stated
    assert worst < TOLERANCE


def moved_by(step: Step, graph: Graph) -> float:
    """Return how far outputs move by a step; its weights fit in any case."""
    network, after = GraphNetwork(graph, SHAPE), GraphNetwork(changed(graph, [step]), SHAPE)
    settle(network)
    after.load_state_dict(carried(graph, [step], network.state_dict()))
    inputs = torch.randn(4, *SHAPE.input_shape)
    with torch.no_grad():
        before = network.eval()(inputs)
        return float((after.eval()(inputs) - before).abs().max() / before.abs().max())


def sums() -> Graph:
    """A network with two ways that a sum joins, a concatenation, and a plain convolution of several taps."""
    draft = Draft()
    first = draft.add("conv", 0, channels=6, kernel=3)
    second = draft.add("separable", first, channels=6, kernel=3)
    total = draft.add("mix", second, first)
    both = draft.add("concat", total, first)
    draft.add("conv", draft.add("conv", both, channels=5, kernel=3), channels=8, kernel=3, stride=2)
    return draft.graph()


@pytest.mark.parametrize("step", [Step("narrower", 6, 2), Step("separable", 5)], ids=lambda step: step.kind)
def test_what_does_not_keep_it_says_so(step: Step) -> None:
    torch.manual_seed(0)
    assert not MORPHISMS[step.kind].keeps
    assert moved_by(step, sums()) > TOLERANCE


def test_widths_that_a_sum_ties_change_together() -> None:
    wider = changed(sums(), [Step("wider", 1, 9)])
    assert [wider[1].channels, wider[2].channels, *wider.widths(3)[3:5]] == [9, 9, 9, 18]


def test_what_a_new_batch_norm_is_given_is_what_it_expects() -> None:
    """In training mode, too, a convolution that is put in passes on what it is given, nearly."""
    torch.manual_seed(0)
    draft = Draft()
    draft.add("conv", 0, channels=16, kernel=3)
    graph, steps = draft.graph(), [Step("deeper", 1, 3)]
    network, after = GraphNetwork(graph, SHAPE), GraphNetwork(changed(graph, steps), SHAPE)
    after.load_state_dict(carried(graph, steps, network.state_dict()))
    inputs = torch.randn(64, *SHAPE.input_shape)
    with torch.no_grad():
        before = network.layers[0](inputs)
        moved = after.layers[1](after.layers[0](inputs)) - before
    assert float(moved.pow(2).mean().sqrt()) < 0.1 * float(before.std())


def test_a_graph_is_one_line_of_text() -> None:
    graph = sums()
    assert Graph.parse(graph.text) == graph
    assert "\n" not in graph.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("chain", "is no graph"),
        ("[]", "one layer at least"),
        ('[["conv",[1],4]]', "give earlier layers"),
        ('[["conv",[0],0]]', "can't have channels 0"),
        ('[["dense",[0],4]]', "there is no operation 'dense'"),
        ('[["conv",[0],4],["conv",[0],4]]', "layer 1: nothing takes its output"),
        ('[["conv",[0],4],["conv",[1],5],["add",[1,2]]]', "layer 3: its inputs have several numbers of channels"),
        ('[["conv",[0],4],["conv",[1],4,3,2],["add",[1,2]]]', "layer 3: its inputs are of several sizes"),
    ],
)
def test_what_is_no_graph_is_said_in_a_line(text: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        Graph.parse(text)
    assert told in str(caught.value)


def test_edits_are_counted() -> None:
    graph = sums()
    deeper = changed(graph, [Step("deeper", 1, 3)])
    twice = changed(deeper, [Step("deeper", 1, 3)])
    wider = changed(graph, [Step("wider", 5, 10)])
    assert edit_distance(graph.text, graph.text) == 0
    assert edit_distance(graph.text, deeper.text) == edit_distance(deeper.text, graph.text)
    assert edit_distance(graph.text, wider.text) < edit_distance(graph.text, deeper.text)
    assert edit_distance(graph.text, deeper.text) < edit_distance(graph.text, twice.text)


SIDES = Choice("side", "input", 8, options=(8, 12, 16), finer="larger")


def test_a_compound_step_makes_the_input_finer_as_well() -> None:
    space = GrowingSpace(seed_channels=5, stages=2, morphisms=("compound",))
    searched = space_of([SIDES, *space.settings(SHAPE)], ("architecture", "input"))
    growth, parent = MorphismGrowth(space), searched.reference
    sides, kept = [], []
    for _ in range(3):
        grown = neighbour(searched, parent, np.random.default_rng(0), 1)
        assert space.graph_of(grown.candidate).depth == space.graph_of(parent).depth + 2
        assert space.graph_of(grown.candidate)[1].channels > space.graph_of(parent)[1].channels
        sides.append(grown.candidate.input["side"])
        kept.append(growth.keeps(grown.steps or ()))
        parent = grown.candidate
    assert sides[:2] == [12, 16]
    assert kept == [False, False, True]  # where it can't be finer, the function is kept
    once = growth.grown(searched.reference, np.random.default_rng(0), 3, [SIDES])
    assert once.candidate.input == {"side": 16}  # a step each, as far as there is one


def test_taps_of_an_input_of_other_channels_are_drawn(tmp_path: Path) -> None:
    graph, grey = sums(), replace(SHAPE, input_shape=(1, 9, 12))
    save_file(GraphNetwork(graph, SHAPE).state_dict(), tmp_path / "weights")
    network = GraphNetwork(graph, grey)
    drawn = {name: values.clone() for name, values in network.state_dict().items()}
    InheritedStart(tmp_path / "weights", graph.text, ()).apply(Candidate({}), network, grey)
    weights = network.state_dict()
    assert [name for name in drawn if "conv" in name and torch.equal(drawn[name], weights[name])] == [
        "layers.0.conv.weight"
    ]
