"""The contract of spaces whose networks grow: what growing strategies ask of neighbours and inherited weights."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import nn

from qanas.core.candidate import Candidate, Group
from qanas.performance_estimation.bench import Bench, PreparedData
from qanas.search_space.growth import Grown, Growth, growth_of, neighbour
from qanas.search_space.network_space import NetworkSpace
from qanas.search_space.settings import Setting
from qanas.search_space.space import SearchSpace
from qanas.search_space.start import Start
from qanas.tasks.base import Task
from qanas.testing.properties import difference, expect, hold, random_samples, states, through_pickle
from qanas.testing.starts import check_start

GENERATIONS = 3
MOST_STEPS = 3
SAMPLES = 4
KEPT = 1e-4
"""How far outputs that are kept may move, relative to the largest: sums of float32 in another order."""

BESIDE: tuple[Literal["training", "quantization", "input"], ...] = ("training", "quantization")


class GrowthCase:
    """A family of networks from the reference on: each is grown of the one before, with its weights.

    Args:
        space: that is checked.
        task: whose shape its networks have.
        folder: empty; takes weights.
    """

    def __init__(self, space: NetworkSpace, task: Task, folder: Path) -> None:
        """Grow nothing yet."""
        inputs: tuple[Group, ...] = ("input",) if task.input_settings() else ()
        self.bench = Bench(PreparedData(task), space, search=("architecture", *inputs))
        self._folder = folder

    @property
    def space(self) -> SearchSpace:
        """With architecture and, where there is one, input to be searched."""
        return self.bench.space

    @cached_property
    def growth(self) -> Growth:
        """How networks grow."""
        found = growth_of(self.space)
        expect(found, "no setting of the architecture is a Written one with a growth")
        assert found is not None  # noqa: S101 - see above
        return found

    @cached_property
    def inputs(self) -> list[Setting]:
        """What of the input is searched."""
        return [setting for setting in self.space.settings if setting.group == "input"]

    @cached_property
    def family(self) -> list[tuple[Candidate, Grown]]:
        """Parents and children, each child the next parent; the last one's input may be finer."""
        found: list[tuple[Candidate, Grown]] = []
        parent = self.bench.reference
        for seed in range(GENERATIONS):
            inputs = self.inputs if seed == GENERATIONS - 1 else []
            grown = self.growth.grown(parent, np.random.default_rng(seed), 1 + seed % MOST_STEPS, inputs)
            found.append((parent, grown))
            parent = grown.candidate
        return found

    @property
    def children(self) -> Iterator[tuple[str, Candidate, Grown]]:
        """Yield what a child is called in messages, its parent, and what was grown."""
        for number, (parent, child) in enumerate(self.family, 1):
            yield f"child {number}", parent, child

    def weights(self, candidate: Candidate, seed: int) -> Path:
        """Return the file of a network's weights, with statistics such as trainings leave."""
        path = self._folder / f"{seed}-{candidate.key}.safetensors"
        if not path.is_file():
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                network = self.bench.build(candidate, seed).train()
                for number in range(2):
                    network(random_samples(16, self.bench.shape_of(candidate).input_shape, number))
                save_file({name: values.contiguous() for name, values in network.state_dict().items()}, path)
        return path

    def start(self, parent: Candidate, grown: Grown, seed: int = 0) -> Start:
        """Return what a child inherits."""
        return self.growth.start(parent, grown.steps or (), self.weights(parent, seed))

    def network(self, candidate: Candidate, start: Start) -> nn.Module:
        """Return a network with the weights of a start, in evaluation mode."""
        return self.bench.build(candidate, 0, start).eval()

    @torch.no_grad()
    def outputs(self, candidate: Candidate, start: Start) -> NDArray[np.float32]:
        """Return a network's outputs, shape (samples, output_size)."""
        inputs = random_samples(SAMPLES, self.bench.shape_of(candidate).input_shape)
        found: NDArray[np.float32] = self.network(candidate, start)(inputs).numpy()
        return found


def check_growth(space: NetworkSpace, task: Task) -> None:
    """Hold a space whose networks grow against its contract, see `qanas.search_space.growth`.

    Args:
        space: that is checked.
        task: that its networks are for.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    with tempfile.TemporaryDirectory() as folder:
        hold(f"growth of {type(space).__name__}", GrowthCase(space, task, Path(folder)), GROWTH_PROPERTIES)


def growth_is_plain_data(case: GrowthCase) -> None:
    """Growth compares by its fields, and workers can have it: the settings are the same when they are asked twice."""
    expect(case.growth == through_pickle(case.growth), "a pickled copy is another one")
    again = case.bench.networks.settings(case.bench.shape)
    expect(growth_of(SearchSpace(tuple(again), frozenset(("architecture",)))) == case.growth, "asked twice, it differs")


def children_are_the_seeds(case: GrowthCase) -> None:
    """A child depends on the parent and the generator alone."""
    for seed in range(GENERATIONS):
        first, second = (
            neighbour(case.space, case.bench.reference, np.random.default_rng(seed), MOST_STEPS) for _ in range(2)
        )
        expect(first == second, f"from seed {seed} {first.candidate.config}, then {second.candidate.config}")


def all_else_stays(case: GrowthCase) -> None:
    """Growing changes the architecture, and the input at most: training and quantization are the parent's."""
    last = len(case.family)
    for number, (name, parent, child) in enumerate(case.children, 1):
        for group in BESIDE if number == last else (*BESIDE, "input"):
            seen = difference(getattr(parent, group), getattr(child.candidate, group), f"{name}: {group}")
            expect(not seen, seen)
        known = list(child.candidate.input)
        expect(list(parent.input) == known, f"{name}: its input has {', '.join(known)}")


def children_can_be_written_down(case: GrowthCase) -> None:
    """A child's settings are plain values: from its configuration alone the same network is built."""
    for name, _, child in case.children:
        again = Candidate(**child.candidate.config)
        expect(again.key == child.candidate.key, f"{name}: another key")
        seen = difference(states(case.bench.build(child.candidate, 0)), states(case.bench.build(again, 0)), name)
        expect(not seen, seen)


def samplers_can_learn_of_it(case: GrowthCase) -> None:
    """A child is a candidate of the space: what samplers may learn of it can be had, and it can have a child."""
    for _, _, child in case.children:
        case.space.parameters(child.candidate)
        neighbour(case.space, child.candidate, np.random.default_rng(0), 1)


def children_fit_the_task(case: GrowthCase) -> None:
    """A child's network with what it inherits puts out finite values of the task's size, and has costs."""
    for name, parent, child in case.children:
        outputs = case.outputs(child.candidate, case.start(parent, child))
        expect(outputs.shape == (SAMPLES, case.bench.shape.output_size), f"{name}: outputs of shape {outputs.shape}")
        expect(np.isfinite(outputs).all(), f"{name}: outputs are not finite")
        costs = case.bench.costs_of(child.candidate)
        expect(all(math.isfinite(value) and value >= 0 for value in costs.values()), f"{name}: costs {costs}")


def inherited_weights_are_starts(case: GrowthCase) -> None:
    """What a child inherits is a start, which other weights of the parent make another one."""
    _, parent, child = next(case.children)
    own, other = case.start(parent, child), case.start(parent, child, seed=1)
    check_start(own, case.bench, child.candidate, other)


def nothing_done_leaves_the_parent(case: GrowthCase) -> None:
    """Without a step a network has its parent's weights, and computes what it did."""
    expect(case.growth.keeps(()), "no step, and it doesn't say that it keeps what is computed")
    for name, parent, _ in case.children:
        start = case.start(parent, Grown(parent, ()))
        kept, own = load_file(case.weights(parent, 0)), states(case.network(parent, start))
        seen = difference({key: kept[key] for key in own}, own, f"{name}: its parent's weights")
        expect(not seen, seen)


def what_is_kept_is_kept(case: GrowthCase) -> None:
    """Where growth says that it keeps what is computed, a child computes what its parent did."""
    for name, parent, child in case.children:
        if child.steps is None or not case.growth.keeps(child.steps) or child.candidate.input != parent.input:
            continue
        before = case.outputs(parent, case.start(parent, Grown(parent, ())))
        after = case.outputs(child.candidate, case.start(parent, child))
        gap = float(np.abs(after - before).max() / max(np.abs(before).max(), 1e-6))
        expect(gap < KEPT, f"{name}: they differ by {gap:.1e} of the largest output")


def distances_are_distances(case: GrowthCase) -> None:
    """Distances are finite, the same both ways, 0 for the same architecture and more for another one."""
    known = [case.bench.reference, *(child.candidate for _, _, child in case.children)]
    for one in known:
        for other in known:
            there, back = case.growth.distance(one, other), case.growth.distance(other, one)
            expect(math.isfinite(there) and there == back, f"{there} there and {back} back")
            same = one.architecture == other.architecture
            expect(there >= 0 and (there == 0) == same, f"{there} between {'the same' if same else 'two'}")


GROWTH_PROPERTIES = (
    growth_is_plain_data,
    children_are_the_seeds,
    all_else_stays,
    children_can_be_written_down,
    samplers_can_learn_of_it,
    children_fit_the_task,
    inherited_weights_are_starts,
    nothing_done_leaves_the_parent,
    what_is_kept_is_kept,
    distances_are_distances,
)
"""What growth owes."""
