"""The contracts of a network space, and of one whose networks consist of blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.performance_estimation.bench import Bench, PreparedData
from qanas.quantization.border import named_parts
from qanas.quantization.graph import Graph
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.tracing import trace
from qanas.search_space.blockwise_space import Block, BlockwiseSpace
from qanas.search_space.growth import growth_of
from qanas.search_space.network_space import NetworkSpace, TaskShape
from qanas.search_space.training_group import TrainingSettings
from qanas.supernet.block_supernet import BlockSupernet
from qanas.supernet.teacher_features import BlockFeatures, features_of
from qanas.tasks.base import Task
from qanas.testing.growth import check_growth
from qanas.testing.properties import (
    difference,
    expect,
    extremes,
    hold,
    random_candidate,
    random_samples,
    states,
    through_pickle,
)

RANDOM_CANDIDATES = 3
CALIBRATION_SAMPLES = 8
FLOAT_TOLERANCE = 1e-3
"""Between the torch network and its graph, relative to the largest output: both round in float32."""


class SpaceCase:
    """A space on a task.

    Args:
        space: that is checked.
        task: whose shape its networks have.
    """

    def __init__(self, space: NetworkSpace, task: Task) -> None:
        """Build nothing yet."""
        self.space = space
        self.bench = Bench(PreparedData(task), space)

    @property
    def shape(self) -> TaskShape:
        """What the reference has to fit."""
        return self.bench.shape

    @cached_property
    def candidates(self) -> dict[str, Candidate]:
        """The reference and a few random candidates, by what they are called in messages."""
        found = {f"candidate {seed}": random_candidate(self.bench.space, seed) for seed in range(RANDOM_CANDIDATES)}
        return {"reference": self.bench.reference, **found}

    @cached_property
    def networks(self) -> dict[str, nn.Module]:
        """Their networks, in evaluation mode."""
        return {name: self.bench.build(candidate, 0).eval() for name, candidate in self.candidates.items()}

    @cached_property
    def graphs(self) -> dict[str, Graph]:
        """What is traced of them."""
        return {name: trace(network, self.shape.input_shape) for name, network in self.networks.items()}

    def samples(self, count: int) -> Tensor:
        """Return random inputs, shape (count, *input_shape)."""
        return random_samples(count, self.shape.input_shape)

    @torch.no_grad()
    def outputs(self, name: str, inputs: Tensor) -> Tensor:
        """Return a network's outputs, shape (n, output_size, ...), for inputs of shape (n, *input_shape)."""
        return _behind_each_other(named_parts(self.networks[name](inputs), Tensor))

    def graph_outputs(self, name: str, inputs: Tensor) -> Tensor:
        """Return what its graph computes, likewise."""
        graph = self.graphs[name]
        return _behind_each_other(graph.forward({graph.border.input_names[0]: inputs}))


def _behind_each_other(named: Mapping[str, Tensor]) -> Tensor:
    """Return outputs, each of shape (n, size, ...), as one: all of their sizes are the task's output size."""
    parts = list(named.values())
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def check_space(space: NetworkSpace, task: Task) -> None:
    """Hold a space against its contract, see `qanas.search_space.network_space`.

    Args:
        space: that is checked; one with blocks is held against `check_blocks`, too, one that grows against
            `check_growth`.
        task: that its networks are for.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    case = SpaceCase(space, task)
    hold(type(space).__name__, case, PROPERTIES)
    if isinstance(space, BlockwiseSpace):
        hold(f"blocks of {type(space).__name__}", BlocksCase(space, case.bench), BLOCK_PROPERTIES)
    if growth_of(case.bench.space) is not None:
        check_growth(space, task)


def settings_can_be_searched(case: SpaceCase) -> None:
    """Settings can be searched: names of their own, conditions on earlier ones, a reference that can be trained."""
    expect(case.bench.space.settings, "there is no setting")
    pairs = zip(case.space.settings(case.shape), case.space.settings(case.shape), strict=True)
    expect(all(first == second for first, second in pairs), "asked twice, it has other settings")


def settings_hold_those_of_training(case: SpaceCase) -> None:
    """Settings contain those of `training_settings`."""
    names = {setting.name for setting in case.bench.space.settings if setting.group == "training"}
    required = [f.name for f in fields(TrainingSettings) if f.name != "ema_decay"]
    missing = [name for name in required if name not in names]
    expect(not missing, f"the group training lacks {', '.join(missing)}")


def candidates_can_be_trained(case: SpaceCase) -> None:
    """Every candidate's group ``training`` is one that trainers understand, with a loss of the task."""
    for name, candidate in case.candidates.items():
        settings = TrainingSettings.from_group(candidate.training)
        expect(settings.loss in case.shape.losses, f"{name}: loss {settings.loss!r} of {case.shape.losses}")


def workers_can_have_it(case: SpaceCase) -> None:
    """A pickled copy builds the same network."""
    copy = replace(case.bench, networks=through_pickle(case.space))
    seen = difference(states(case.networks["reference"]), states(copy.build(case.bench.reference, 0)), "weights")
    expect(not seen, seen)


def every_candidate_fits_the_task(case: SpaceCase) -> None:
    """Every candidate's network maps (batch, *input_shape) to finite (batch, output_size, ...)."""
    for name in case.candidates:
        outputs = case.outputs(name, case.samples(2))
        shape = tuple(outputs.shape)
        expect(shape[:2] == (2, case.shape.output_size), f"{name}: outputs of shape {shape} for a batch of 2")
        expect(outputs.isfinite().all(), f"{name}: outputs are not finite")


def weights_are_the_seeds(case: SpaceCase) -> None:
    """Initial weights follow from torch's global generator alone: the same seed, the same weights."""
    for name, candidate in case.candidates.items():
        seen = difference(states(case.networks[name]), states(case.bench.build(candidate, 0)), f"{name}: weights")
        expect(not seen, seen)
    other = states(case.bench.build(case.bench.reference, 1))
    expect(difference(states(case.networks["reference"]), other), "another seed draws the same weights")


def outputs_are_each_samples_own(case: SpaceCase) -> None:
    """In evaluation mode a sample's output depends on nothing but the sample."""
    for name in case.candidates:
        inputs = case.samples(3)
        together, alone = case.outputs(name, inputs), case.outputs(name, inputs[:1])
        gap = _gap(together[:1], alone)
        expect(gap < FLOAT_TOLERANCE, f"{name}: among others it differs by {gap:.1e} of the largest output")


def graphs_compute_what_networks_do(case: SpaceCase) -> None:
    """The traced graph computes what the network does."""
    for name in case.candidates:
        inputs = case.samples(2)
        gap = _gap(case.graph_outputs(name, inputs), case.outputs(name, inputs))
        expect(gap < FLOAT_TOLERANCE, f"{name}: they differ by {gap:.1e} of the largest output")


def every_candidate_has_costs(case: SpaceCase) -> None:
    """Every candidate has costs before any weight exists: finite, and not negative; weights take bytes."""
    for name, candidate in case.candidates.items():
        costs = case.bench.costs_of(candidate)
        for column, value in costs.items():
            expect(math.isfinite(value) and value >= 0, f"{name}: {column} is {value}")
        expect(costs["weight_bytes"] > 0, f"{name}: weight_bytes is 0")


def every_candidate_can_be_quantized(case: SpaceCase) -> None:
    """Every candidate quantizes under its scheme; fast and exact arithmetic give the same codes."""
    for name, graph in case.graphs.items():
        inputs = case.samples(CALIBRATION_SAMPLES)
        scheme = case.bench.scheme_of(case.candidates[name], graph.shapes)
        quantized = QuantizedGraph.quantize(graph, graph.calibrate(inputs, scheme), scheme)
        few = {graph.border.input_names[0]: inputs[:2]}
        exact, fast = (_behind_each_other(quantized.codes(few, way)) for way in ("exact", "fast"))
        expect(tuple(exact.shape) == tuple(case.outputs(name, inputs[:2]).shape), f"{name}: codes {exact.shape}")
        expect(torch.equal(exact, fast), f"{name}: {int((exact != fast).sum())} codes differ between the arithmetics")


def other_inputs_are_fitted(case: SpaceCase) -> None:
    """Where the task's input can be searched, a network of another input fits that."""
    settings = case.bench.task.input_settings()
    if not settings:
        return
    own = {setting.name: extremes(setting)[0] for setting in settings}
    reference = case.bench.reference
    candidate = Candidate(reference.architecture, reference.training, reference.quantization, own)
    shape = case.bench.shape_of(candidate)
    with torch.no_grad():
        network = case.bench.build(candidate, 0).eval()
        outputs = _behind_each_other(named_parts(network(random_samples(2, shape.input_shape)), Tensor))
    found = tuple(outputs.shape)
    expect(found[:2] == (2, shape.output_size), f"input {own}: outputs of shape {found} for a batch of 2")


def weight_bits_are_modules(case: SpaceCase) -> None:
    """`module_weight_bits` names modules of the network and bits that weights can have."""
    for name, candidate in case.candidates.items():
        modules = dict(case.networks[name].named_modules())
        for path, bits in case.space.module_weight_bits(candidate).items():
            expect(path in modules, f"{name}: there is no module {path}")
            expect(bits in (4, 6, 8), f"{name}: {path} has {bits} bits")


def penalties_are_parameters(case: SpaceCase) -> None:
    """Penalties name parameters of the network."""
    for name, candidate in case.candidates.items():
        known = dict(case.networks[name].named_parameters())
        penalties = case.space.penalties(candidate, case.networks[name])
        expect(isinstance(penalties, Mapping), f"{name}: they are {type(penalties).__name__}")
        unknown = sorted(set(penalties) - set(known))
        expect(not unknown, f"{name}: there is no parameter {', '.join(unknown)}")


def _gap(values: Tensor, expected: Tensor) -> float:
    """Return the largest distance of two tensors of one shape, relative to the largest value; infinite else."""
    if values.shape != expected.shape:
        return math.inf
    return float((values - expected).abs().max() / expected.abs().max().clamp(min=1e-6))


PROPERTIES = (
    settings_can_be_searched,
    settings_hold_those_of_training,
    candidates_can_be_trained,
    every_candidate_fits_the_task,
    weights_are_the_seeds,
    workers_can_have_it,
    outputs_are_each_samples_own,
    graphs_compute_what_networks_do,
    every_candidate_has_costs,
    every_candidate_can_be_quantized,
    other_inputs_are_fitted,
    weight_bits_are_modules,
    penalties_are_parameters,
)
"""What a space owes."""


class BlocksCase:
    """The blocks of a space on a task.

    Args:
        space: that is checked.
        bench: of its networks.
    """

    def __init__(self, space: BlockwiseSpace, bench: Bench) -> None:
        """Build nothing yet."""
        self.space = space
        self.bench = bench

    @cached_property
    def blocks(self) -> list[Block]:
        """In order."""
        return list(self.space.blocks(self.bench.shape))

    @cached_property
    def teacher(self) -> nn.Module:
        """The reference network."""
        return self.bench.build(self.bench.reference, 0).eval()

    @cached_property
    def features(self) -> list[BlockFeatures]:
        """What each block of the teacher is given and puts out, for two samples."""
        return features_of(self.teacher, self.blocks, random_samples(2, self.bench.shape.input_shape))

    def paths(self, block: Block) -> list[tuple[int, ...]]:
        """Return paths on which every option of every layer is once at least."""
        most = max(len(options) for options in block.layers)
        return [tuple(number % len(options) for options in block.layers) for number in range(most)]

    def candidate(self, number: int, bits: int = 8) -> Candidate:
        """Return a candidate of the blocks' paths of that number, as far as they have so many."""
        paths = [self.paths(block)[number % len(self.paths(block))] for block in self.blocks]
        return self.space.candidate(self.bench.shape, self.bench.reference, paths, [bits] * len(paths))

    @property
    def most_paths(self) -> int:
        """Candidates on which every option is once at least."""
        return max(len(self.paths(block)) for block in self.blocks)


def check_blocks(space: BlockwiseSpace, task: Task) -> None:
    """Hold the blocks of a space against their contract, see `qanas.search_space.blockwise_space`.

    Args:
        space: that is checked.
        task: that its networks are for.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    hold(f"blocks of {type(space).__name__}", BlocksCase(space, Bench(PreparedData(task), space)), BLOCK_PROPERTIES)


def blocks_are_behind_each_other(case: BlocksCase) -> None:
    """Blocks have names of their own and are modules of the reference, behind each other."""
    expect(case.blocks, "there is no block")
    names = [block.name for block in case.blocks]
    expect(len(set(names)) == len(names), f"two blocks are called alike: {names}")
    expect(len(case.features) == len(case.blocks), "the teacher's features are of other blocks")
    for block in case.blocks:
        expect(block.layers and all(block.layers), f"{block.name} has a layer without options")


def every_option_keeps_the_shapes(case: BlocksCase) -> None:
    """Every path maps the block's input to the shape of the teacher's output, whatever its options."""
    for block, features in zip(case.blocks, case.features, strict=True):
        supernet = BlockSupernet.seeded(block, 0).eval()
        for path in case.paths(block):
            with torch.no_grad():
                shape = tuple(supernet(features.inputs, path).shape)
            expected = tuple(features.outputs.shape)
            expect(shape == expected, f"{block.name}, path {path}: {shape}, the teacher's is {expected}")


def path_of_inverts_architecture(case: BlocksCase) -> None:
    """`path_of` finds the path that `architecture` describes, alone and in a candidate."""
    for number in range(case.most_paths):
        candidate = case.candidate(number)
        for block in case.blocks:
            path = case.paths(block)[number % len(case.paths(block))]
            for architecture in (block.architecture(path), candidate.architecture):
                found = block.path_of(architecture)
                expect(found == path, f"{block.name}: {path} comes back as {found}")


def candidates_are_of_the_space(case: BlocksCase) -> None:
    """A candidate that is put together of paths has the settings of the space, no others."""
    known = {setting.name for setting in case.bench.space.settings}
    for number in range(case.most_paths):
        config = case.candidate(number).config
        unknown = {name for group in config.values() for name in group} - known
        expect(not unknown, f"there is no setting {', '.join(sorted(unknown))}")


def distilled_weights_load(case: BlocksCase) -> None:
    """The weights of a path load into the candidate's block, which then computes what the path does."""
    for number in range(case.most_paths):
        network = case.bench.build(case.candidate(number), 0).eval()
        for block, features in zip(case.blocks, case.features, strict=True):
            supernet = BlockSupernet.seeded(block, 1).eval()
            path = case.paths(block)[number % len(case.paths(block))]
            module = network.get_submodule(block.module)
            module.load_state_dict(dict(supernet.path_state(path)))
            with torch.no_grad():
                gap = _gap(module(features.inputs), supernet(features.inputs, path))
            expect(gap < FLOAT_TOLERANCE, f"{block.name}, path {path}: they differ by {gap:.1e} of the largest output")


def bits_are_the_blocks(case: BlocksCase) -> None:
    """A block's settings of bits decide those of its module or of its layers, and of no other block's."""
    known = {setting.name for setting in case.bench.space.settings if setting.group == "quantization"}
    for place, block in enumerate(case.blocks):
        lacking = sorted(block.quantization(8).keys() - known)
        expect(not lacking, f"{block.name}: there is no setting {', '.join(lacking)}")
        bits = [4 if other == place else 8 for other in range(len(case.blocks))]
        paths = [case.paths(other)[0] for other in case.blocks]
        candidate = case.space.candidate(case.bench.shape, case.bench.reference, paths, bits)
        own = case.space.module_weight_bits(candidate)
        found = {name for name, width in own.items() if width == bits[place]}
        layers = {f"{block.module}.{layer}" for layer in range(len(block.layers))}
        wanted = {block.module} if block.bits_per == "block" else layers
        expect(found == wanted, f"{block.name} at 4 bits: so are {sorted(found)}, not {sorted(wanted)} alone")


BLOCK_PROPERTIES = (
    blocks_are_behind_each_other,
    every_option_keeps_the_shapes,
    path_of_inverts_architecture,
    candidates_are_of_the_space,
    distilled_weights_load,
    bits_are_the_blocks,
)
"""What the blocks of a space owe."""
