"""The TCN: its cone against the whole causal network, its space, what it ships, a short training."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qanas.core.candidate import GROUPS, Candidate
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.parity import ParitySteps, parity_failure
from qanas.deployment.tflite import write_tflite
from qanas.hardware.costs import Blueprint, costs_of, weight_bytes
from qanas.layers.sequences import ChannelNorm, Conv1xK
from qanas.networks.tcn import TCNNetwork, TCNSpace, cone_of
from qanas.performance_estimation.bench import RANDOM, Bench, PreparedData
from qanas.performance_estimation.procedure import FullTraining
from qanas.quantization.operators.arithmetic import WithConstant
from qanas.quantization.operators.convolution import Convolution
from qanas.quantization.operators.dense import BatchNorm
from qanas.quantization.operators.shapes import Reshape
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace, trace_shapes
from qanas.recipe import load_plan
from qanas.search_space.network_space import TaskShape
from qanas.search_space.space import SearchSpace, space_of
from qanas.tasks.turbofan import Turbofan
from qanas.workflows.trial_store import suggest

SHAPE = TaskShape((30, 14), 1, 125.0, ("mae", "mse"))


class CausalBlock(nn.Module):
    """A residual block over every step, channels first: an independent reading of Bai et al. 2018."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.padding = ((kernel_size - 1) * dilation, 0)
        self.conv1 = nn.Conv1d(in_channels, out_channels, kernel_size, dilation=dilation, bias=False)
        self.norm1 = nn.BatchNorm1d(out_channels)
        self.conv2 = nn.Conv1d(out_channels, out_channels, kernel_size, dilation=dilation, bias=False)
        self.norm2 = nn.BatchNorm1d(out_channels)
        self.shortcut = nn.Conv1d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.norm1(self.conv1(F.pad(x, self.padding))))
        hidden = torch.relu(self.norm2(self.conv2(F.pad(hidden, self.padding))))
        return torch.relu(hidden + self.shortcut(x))


class CausalTCN(nn.Module):
    def __init__(self, features: int, channels: Sequence[int], kernel_size: int, dilation_base: int) -> None:
        super().__init__()
        widths = [features, *channels]
        self.blocks = nn.Sequential(
            *(CausalBlock(widths[i], widths[i + 1], kernel_size, dilation_base**i) for i in range(len(channels)))
        )
        self.head = nn.Linear(channels[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.blocks(x.transpose(1, 2))[:, :, -1])
        return outputs

    def take(self, network: TCNNetwork) -> None:
        """Copy the weights of a cone; taps that it left out stay what they are."""
        for mine, theirs in zip(self.blocks, network.blocks, strict=True):
            assert isinstance(mine, CausalBlock)
            conv1, norm1, _, conv2, norm2, _ = theirs.get_submodule("convolutions").children()
            for conv, source in ((mine.conv1, conv1), (mine.conv2, conv2)):
                weight = source.get_parameter("weight").detach()
                conv.weight.data[:, :, conv.kernel_size[0] - weight.shape[2] :] = weight
            mine.norm1.load_state_dict(norm1.state_dict())
            mine.norm2.load_state_dict(norm2.state_dict())
            if isinstance(mine.shortcut, nn.Conv1d):
                mine.shortcut.load_state_dict(theirs.get_submodule("shortcut").state_dict())
        self.head.load_state_dict(network.head.state_dict())


def randomized(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Batch norms as after some training: statistics, scales and offsets of all sizes."""
    for module in network.modules():
        if isinstance(module, ChannelNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.2, 2.0, generator=generator)
            module.weight.data.uniform_(-0.5, 1.5, generator=generator)
            module.bias.data.normal_(generator=generator).mul_(0.5)
    return network.eval()


@dataclass(frozen=True)
class Configuration:
    window: int
    channels: list[int]
    kernel_size: int
    dilation_base: int
    seed: int

    def network(self) -> TCNNetwork:
        torch.manual_seed(self.seed)
        network = TCNNetwork((self.window, 3), self.channels, self.kernel_size, self.dilation_base, output_scale=10.0)
        randomized(network, torch.Generator().manual_seed(self.seed))
        return network


configurations = st.builds(
    Configuration,
    window=st.integers(1, 40),
    channels=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    kernel_size=st.integers(2, 7),
    dilation_base=st.integers(1, 3),
    seed=st.integers(0, 2**20),
)


@settings(deadline=None, max_examples=100)
@given(configuration=configurations)
def test_cone_computes_what_the_whole_causal_network_computes(configuration: Configuration) -> None:
    network = configuration.network().double()
    whole = CausalTCN(3, configuration.channels, configuration.kernel_size, configuration.dilation_base)
    whole = whole.double().eval()
    whole.take(network)
    inputs = torch.randn(5, configuration.window, 3, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(network(inputs), 10.0 * whole(inputs), rtol=1e-9, atol=1e-9)


def needed(window: int, blocks: int, kernel_size: int, base: int) -> list[tuple[set[int], set[int], set[int]]]:
    """By block, the steps of input, of the value between the convolutions, and of output that matter."""
    steps: list[tuple[set[int], set[int], set[int]]] = []
    outputs = {window - 1}
    for block in reversed(range(blocks)):
        reach = [base**block * tap for tap in range(kernel_size)]
        between = {t - r for t in outputs for r in reach if t >= r}
        inputs = {t - r for t in between for r in reach if t >= r} | outputs
        steps.append((inputs, between, outputs))
        outputs = inputs
    return steps[::-1]


@settings(deadline=None)
@given(
    window=st.integers(1, 64),
    blocks=st.integers(1, 5),
    kernel_size=st.integers(2, 7),
    base=st.integers(1, 3),
)
def test_only_positions_that_the_last_step_needs_exist(window: int, blocks: int, kernel_size: int, base: int) -> None:
    cones = cone_of(window, blocks, kernel_size, base)
    for cone, (inputs, between, outputs) in zip(cones, needed(window, blocks, kernel_size, base), strict=True):
        assert cone.second.outputs == len(outputs)
        assert cone.first.inputs == len(inputs)
        if kernel_size >= base:
            assert cone.first.outputs == len(between)
        assert cone.second.inputs == cone.first.outputs >= len(between)
        # A tap that exists sees something.
        assert all(part.left_padding <= (part.outputs - 1) * part.stride for part in (cone.first, cone.second))


def test_the_seed_network_computes_a_part_of_the_positions_and_counts_no_more() -> None:
    graph = trace(TCNNetwork((30, 14), [32] * 4, 3, 2), (30, 14))
    positions = [(c.first.outputs, c.second.outputs) for c in cone_of(30, 4, 3, 2)]
    assert positions == [(30, 15), (15, 8), (8, 4), (3, 1)]
    products = 30 * 14 * 32 * 3 + 15 * 32 * 32 * 3 + 15 * 14 * 32  # first block, with its way around
    products += (15 + 8 + 8 + 4 + 3 + 1) * 32 * 32 * 3 + 32
    assert graph.macs == products


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 4)),
    out=st.integers(1, 4),
    taps=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    left=st.integers(0, 4),
    seed=st.integers(0, 2**20),
)
def test_convolution_and_its_gradient_are_those_of_torch(
    shape: tuple[int, int, int], out: int, taps: int, stride: int, dilation: int, left: int, seed: int
) -> None:
    torch.manual_seed(seed)
    left += max(0, (taps - 1) * dilation + 1 - shape[1] - left)
    conv = Conv1xK(shape[2], out, taps, stride=stride, dilation=dilation, padding=left).double()
    mine = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    theirs = mine.detach().clone().requires_grad_()
    expected = F.conv1d(F.pad(theirs.transpose(1, 2), (left, 0)), conv.weight, conv.bias, stride, 0, dilation)
    gradient = torch.randn_like(expected)
    by_weight, by_input = torch.autograd.grad(expected, (conv.weight, theirs), gradient)
    outputs = conv(mine)
    assert torch.allclose(outputs, expected.transpose(1, 2))
    actual = torch.autograd.grad(outputs, (conv.weight, mine), gradient.transpose(1, 2))
    assert torch.allclose(actual[0], by_weight)
    assert torch.allclose(actual[1], by_input)
    assert torch.equal(conv(mine[:, None]), outputs[:, None])


# Batch norm


def test_batch_norms_are_folded_exactly() -> None:
    network = Configuration(30, [6, 4, 4], 3, 2, 0).network()
    graph = trace(network, (30, 3))
    assert not any(isinstance(node.operator, BatchNorm) for node in graph.nodes)
    assert [node.operator.activation for node in graph.nodes if isinstance(node.operator, Convolution)] == [
        *("relu", "relu", "none"),
        *("relu", "relu", "none"),
        *("relu", "relu"),
    ]
    inputs = torch.randn(64, 30, 3)
    with torch.no_grad():
        expected = network(inputs)
    assert torch.allclose(graph.forward(inputs), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_a_batch_norm_behind_a_linear_layer_is_folded() -> None:
    network = randomized(nn.Sequential(nn.Linear(3, 5), ChannelNorm(5), nn.ReLU()), torch.Generator().manual_seed(0))
    graph = trace(network, (3,))
    assert len(graph.nodes) == 1
    inputs = torch.randn(8, 3)
    assert torch.allclose(graph.forward(inputs), network(inputs), atol=1e-5)


@pytest.mark.parametrize("layers", [(ChannelNorm(3),), (Conv1xK(3, 3, 2), nn.ReLU(), ChannelNorm(3))])
def test_a_batch_norm_that_can_not_be_folded_is_an_operator_of_its_own(layers: tuple[nn.Module, ...]) -> None:
    network = randomized(nn.Sequential(*layers), torch.Generator().manual_seed(0))
    graph = trace(network, (5, 3))
    last = [type(node.operator) for node in graph.nodes if not isinstance(node.operator, Reshape)][-2:]
    assert last in ([WithConstant, WithConstant], [Convolution, Convolution])
    inputs = torch.randn(8, 5, 3)
    assert torch.allclose(graph.forward(inputs), network(inputs), atol=1e-5)


def test_batch_norm_of_a_single_value_a_channel_takes_the_running_statistics() -> None:
    norm = ChannelNorm(4).train()
    values = torch.randn(1, 1, 4)
    assert torch.allclose(norm(values), values / (1 + norm.eps) ** 0.5)


# The space


def space(networks: TCNSpace) -> SearchSpace:
    return space_of(networks.settings(SHAPE), GROUPS)


def random_candidates(networks: TCNSpace, number: int) -> list[Candidate]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space(networks).sample(partial(suggest, study.ask())) for _ in range(number)]


def test_seed_network_is_the_stated_one() -> None:
    seed = space(TCNSpace()).reference
    assert seed.architecture == {
        "blocks": 4,
        **{f"channels_{block}": 32 for block in range(1, 5)},
        "kernel_size": 3,
        "dilation_base": 2,
    }
    network = TCNSpace().build(seed, SHAPE)
    assert network(torch.zeros(2, 30, 14)).shape == (2, 1)
    assert len(list(network.get_submodule("blocks").children())) == 4


def test_settings_of_blocks_that_do_not_exist_do_not_exist() -> None:
    for candidate in random_candidates(TCNSpace(), 40):
        blocks = int(candidate.architecture["blocks"])
        assert {name for name in candidate.architecture if name.startswith("channels")} == {
            f"channels_{block}" for block in range(1, blocks + 1)
        }
        assert ("dilation_base" in candidate.architecture) == (blocks > 1)


def test_a_task_without_sequences_is_refused() -> None:
    with pytest.raises(ValueError, match="sequences"):
        TCNSpace().build(space(TCNSpace()).reference, TaskShape((3, 8, 8), 1, 1.0, ("mae",)))


@pytest.mark.parametrize("number", range(12))
def test_random_candidates_ship_as_costed_and_as_simulated(number: int) -> None:
    networks = TCNSpace(max_channels=24)
    candidate = random_candidates(networks, 12)[number]
    torch.manual_seed(number)
    network = randomized(networks.build(candidate, SHAPE), torch.Generator().manual_seed(number))
    skeleton = trace_shapes(lambda: networks.build(candidate, SHAPE), SHAPE.input_shape)
    costs = costs_of(Blueprint(skeleton, QuantizedGraph.from_shapes(skeleton, Scheme())))
    graph = trace(network, SHAPE.input_shape)
    samples = torch.randn(32, *SHAPE.input_shape)
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())
    program = quantized.program()
    content = write_tflite(program)
    assert costs["file_bytes"] == len(content)
    assert costs["weight_bytes"] == weight_bytes(program)
    assert costs["float_file_bytes"] == len(write_tflite(graph.program()))
    assert costs["macs"] == graph.macs
    steps = np.abs(quantized.codes(samples).numpy() - LiteRTModel(content).codes(samples.numpy()))
    assert steps.max() <= 1
    with torch.no_grad():
        expected = network(samples).numpy()
    outputs = LiteRTModel(write_tflite(graph.program())).predict(samples.numpy())
    assert np.allclose(outputs, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@settings(deadline=None, max_examples=25)
@given(configuration=configurations)
def test_any_configuration_ships_as_simulated(configuration: Configuration) -> None:
    network = configuration.network()
    samples = torch.randn(24, configuration.window, 3)
    graph = trace(network, tuple(samples.shape[1:]))
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())
    runtime = LiteRTModel(write_tflite(quantized.program()))
    assert np.abs(quantized.codes(samples).numpy() - runtime.codes(samples.numpy())).max() <= 1


def test_no_reshape_lies_between_the_layers() -> None:
    graph = trace(TCNNetwork((30, 14), [8, 8, 4], 3, 2), (30, 14))
    kinds = [operator.kind for operator in QuantizedGraph.from_shapes(graph, Scheme()).program().operators]
    block = ["STRIDED_SLICE", "CONV_2D", "CONV_2D"]
    assert kinds == [
        *("STRIDED_SLICE", "RESHAPE"),  # 29 of the 30 steps are seen
        *(*block, "CONV_2D", "ADD"),
        *(*block, "ADD"),
        *(*block, "CONV_2D", "ADD"),
        *("RESHAPE", "FULLY_CONNECTED"),
    ]


def test_the_recipe_describes_the_space() -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "turbofan_tcn.toml"
    plan = load_plan(recipe, ["task.data=synthetic", "space.max_blocks=2"])
    assert plan.bench.networks == TCNSpace(max_blocks=2)


# Training


def test_a_short_training_is_sane_and_ships_within_parity() -> None:
    folder = Path(os.environ.get("QANAS_DATA", "")) / "cmapss"
    data = str(folder) if (folder / "train_FD001.txt").is_file() else "synthetic"
    task = Turbofan(data, stride=4)
    bench = Bench(PreparedData(task), TCNSpace(seed_channels=8), search=GROUPS)
    reference = bench.reference
    trained = FullTraining(epochs=4).make(bench, reference, RANDOM, 0)
    val = bench.data_of(reference).val
    metrics = trained.evaluate(task, val)
    assert metrics["mae_float"] < 20
    assert metrics["mae_quantized"] < 20
    content = write_tflite(trained.quantized.program())
    assert bench.costs_of(reference)["file_bytes"] == len(content)
    codes = LiteRTModel(content).codes(val.inputs)
    deployed = task.evaluate(trained.quantized.output.dequantize(torch.from_numpy(codes).float()).numpy(), val)
    steps = ParitySteps.between(trained.codes(val).numpy(), codes)
    assert parity_failure(steps, {"mae": metrics["mae_quantized"]}, deployed, dict(task.parity_tolerance)) is None
