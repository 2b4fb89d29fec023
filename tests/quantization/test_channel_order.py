"""Shuffles that are left out: what is computed is the same, bit by bit."""

from collections import Counter
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.networks.fastestdet import FastestDet, ShuffleNetV2
from qanas.quantization.graph import Graph
from qanas.quantization.operators.convolution import Convolution
from qanas.quantization.operators.shapes import Slice, Transpose
from qanas.quantization.passes.channel_flow import Flow, Step
from qanas.quantization.passes.channel_order import without_shuffles
from qanas.quantization.passes.channel_ties import fits
from qanas.quantization.passes.folding import PASSES, folded
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace, trace_shapes, trace_unfolded
from tests.quantization.random_networks import Made, One, RandomNetwork, Two

SCHEMES = (
    Scheme(),
    Scheme(weight_scales="tensor", activations="symmetric"),
    Scheme(weight_bits=4, ranges="percentile"),
    Scheme(weight_scales="channel", scales="power_of_two", ranges="moving_average"),
)


def with_and_without_shuffles(network: nn.Module, shape: tuple[int, ...]) -> tuple[Graph, Graph]:
    """A network's graph with the shuffles that are in torch, and as it ships."""
    unfolded = trace_unfolded(network.eval(), shape)
    others = tuple(one for one in PASSES["folded"] if one is not without_shuffles)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qanas.quantization.passes.folding.PASSES", {**PASSES, "folded": others})
        before = folded(unfolded)
    return before, folded(unfolded)


def same_in_runtime(network: nn.Module, samples: Tensor, scheme: Scheme) -> tuple[Graph, Graph]:
    """Both graphs, after a check that floats, codes and the runtime's outputs don't tell them apart."""
    before, after = with_and_without_shuffles(network, tuple(samples.shape[1:]))
    with torch.no_grad():
        expected = network(samples)
    gap = (after.forward(samples) - expected).abs().max()
    assert float(gap) <= 1e-5 * max(1.0, float(expected.abs().max()))
    ranges = before.calibrate(samples, scheme)
    shuffled = QuantizedGraph.quantize(before, ranges, scheme)
    quantized = QuantizedGraph.quantize(after, {name: ranges[name] for name in after.shapes}, scheme)
    inputs = torch.cat([samples, 1.5 * samples])
    codes = quantized.codes(inputs)
    assert torch.equal(codes, shuffled.codes(inputs))
    assert torch.equal(codes, quantized.codes(inputs, "fast"))
    runtime = LiteRTModel(write_tflite(quantized.program()), border=after.border)
    assert (runtime.codes(inputs.numpy()) == codes.numpy()).all()
    return before, after


def transposes(graph: Graph) -> int:
    return sum(isinstance(node.operator, Transpose) for node in graph.nodes)


class Unit(nn.Module):
    """The unit of ShuffleNetV2 as published: the shuffle is behind the concatenation."""

    def __init__(self, channels: int, groups: int = 2) -> None:
        super().__init__()
        half = channels // 2
        layers = [nn.Conv2d(half, half, 1), nn.Conv2d(half, half, 3, 1, 1, groups=half), nn.Conv2d(half, half, 1)]
        self.branch = nn.Sequential(*layers, nn.ReLU())
        self.shuffle = nn.ChannelShuffle(groups)

    def forward(self, x: Tensor) -> Tensor:
        halves = torch.chunk(x, 2, 1)
        shuffled: Tensor = self.shuffle(torch.cat([halves[0], self.branch(halves[1])], 1))
        return shuffled


def random_shuffles(random: Random) -> tuple[RandomNetwork, tuple[int, int, int]]:
    """A chain of shuffles, parts, sums and convolutions of every kind, behind one that mixes the input."""
    channels = random.choice([4, 6, 8, 12, 16, 20])
    steps = [Made(nn.Conv2d(3, channels, 1), (0,), "first")]
    widths = [3, channels]
    for _ in range(random.randint(2, 9)):
        layer, kind, others = _drawn(random, widths)
        last = len(widths) - 1
        sources = (*others, last)
        with torch.no_grad():
            widths.append(layer(*(torch.zeros(1, widths[source], 4, 5) for source in sources)).shape[1])
        steps.append(Made(layer, sources, kind))
    if random.random() < 0.7:
        steps.append(Made(nn.Conv2d(widths[-1], 3, 1), (len(widths) - 1,), "head"))
    return RandomNetwork(steps), (3, 4, 5)


def _drawn(random: Random, widths: list[int]) -> tuple[nn.Module, str, tuple[int, ...]]:
    channels = widths[-1]
    parts = random.choice([number for number in range(1, channels + 1) if channels % number == 0 and number < 5])
    alike = [number for number, width in enumerate(widths) if width == channels]
    convolutions: list[nn.Module] = [
        nn.Conv2d(channels, random.choice([4, 6, 8, 12]), 1),
        nn.Conv2d(channels, channels, 3, 1, 1, groups=channels),
        nn.Conv2d(channels, 2 * channels, 3, 1, 1, groups=channels) if channels < 9 else nn.MaxPool2d(3, 1, 1),
        nn.Conv2d(channels, parts * random.randint(1, 3), 1, groups=parts),
    ]
    kept = random.randint(1, channels)
    choices: list[tuple[nn.Module, str, tuple[int, ...]]] = [
        *((layer, "layer", ()) for layer in convolutions),
        *[(nn.ChannelShuffle(parts), "shuffle", ())] * 5,
        (One(lambda x: x.chunk(parts, 1)[-1]), "part", ()),
        (One(lambda x: 0.5 * torch.cat(x.chunk(parts, 1)[::-1], 1)), "parts turned round", ()),
        (One(lambda x: x[:, :kept]), "first channels", ()),
        (Two(torch.add, nn.ChannelShuffle(parts)), "sum with shuffled", (random.choice(alike),)),
        (Two(torch.add, nn.Conv2d(channels, channels, 1)), "sum", (random.choice(alike),)),
        (
            Two(lambda one, two: torch.cat([one, two], 1), nn.MaxPool2d(3, 1, 1)),
            "beside",
            (random.randrange(len(widths)),),
        ),
        (nn.MaxPool2d(3, 1, 1), "pool", ()),
        (One(lambda x: x * torch.arange(1.0, channels + 1)[:, None, None]), "scaled", ()),
    ]
    if channels % 2 == 0:
        choices += [
            (Unit(channels, parts), "unit", ()),
            (nn.Sequential(Unit(channels), Unit(channels)), "units", ()),
        ] * 2
    return random.choice(choices)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(SCHEMES))
def test_random_networks_compute_the_same(seed: int, scheme: Scheme) -> None:
    torch.manual_seed(seed)
    network, shape = random_shuffles(Random(seed))  # noqa: S311 - a test's
    before, after = same_in_runtime(network, torch.randn(12, *shape), scheme)
    assert transposes(after) <= transposes(before)
    assert len(after.nodes) <= len(before.nodes)
    assert after.parameters == before.parameters
    assert after.macs == before.macs


def test_random_networks_lose_shuffles_and_keep_others() -> None:
    counts = Counter[str]()
    for seed in range(20):
        network, shape = random_shuffles(Random(seed))  # noqa: S311 - a test's
        before, after = with_and_without_shuffles(network, shape)
        counts["lost"] += transposes(before) - transposes(after)
        counts["kept"] += transposes(after)
    assert counts["lost"] > 5
    assert counts["kept"] > 5


def chain(unit: Callable[[int], nn.Module], channels: int, length: int) -> nn.Module:
    """Units behind a layer and in front of one."""
    units = [unit(channels) for _ in range(length)]
    return nn.Sequential(nn.Conv2d(3, channels, 1), *units, nn.Conv2d(channels, 2, 1))


@pytest.mark.parametrize(("channels", "length"), [(8, 1), (8, 3), (12, 4), (24, 3), (44, 3), (48, 7), (116, 3)])
def test_units_of_any_width_need_no_transposition(channels: int, length: int) -> None:
    before, after = same_in_runtime(chain(Unit, channels, length), torch.randn(12, 3, 4, 5), Scheme())
    assert transposes(before) == length - 1  # behind the last one, the layer takes its weights in order
    assert not transposes(after)
    kinds = Counter(operator.kind for operator in after.program().operators)
    assert kinds["RESHAPE"] == 0
    assert kinds["STRIDED_SLICE"] == 2 * length


def test_fastestdet_has_no_transposition_and_no_reshape() -> None:
    kinds = Counter(op.kind for op in trace_shapes(lambda: FastestDet((96, 96)), (3, 96, 96)).program().operators)
    units = 3 + 7 + 3
    assert not kinds["TRANSPOSE"]
    assert not kinds["RESHAPE"]
    assert kinds["STRIDED_SLICE"] == 2 * units


class Coarsest(nn.Module):
    """The last features of a small ShuffleNetV2."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ShuffleNetV2(8, (12, 20, 28), (3, 4, 2))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.backbone(x)[-1]
        return features


def test_a_backbone_whose_features_come_out() -> None:
    torch.manual_seed(0)
    network = Coarsest()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.2)
    same_in_runtime(network, torch.randn(8, 3, 33, 33), Scheme())


def test_weights_of_a_shuffle_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(2, 6, 1), nn.ChannelShuffle(2))
    graph = trace(network, (2, 3, 3))
    (node,) = graph.nodes
    assert isinstance(node.operator, Convolution)
    first = network[0]
    assert isinstance(first, nn.Conv2d)
    order = [0, 3, 1, 4, 2, 5]
    assert torch.equal(node.operator.weight[:, 0, 0], first.weight[order, :, 0, 0])
    assert first.bias is not None
    assert torch.equal(node.operator.bias, first.bias[order])


def test_parts_of_a_shuffle_by_hand() -> None:
    # Shuffled: 0 4 1 5 | 2 6 3 7. What passes comes from both halves: no slice of the first layer as torch has it.
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ChannelShuffle(2), Unit(8), nn.Conv2d(8, 2, 1))
    given_layer = network[0]
    assert isinstance(given_layer, nn.Conv2d)
    assert given_layer.bias is not None
    nodes = trace(network, (3, 4, 5)).nodes
    stored = nodes[0].operator
    assert isinstance(stored, Convolution)
    passing, convolved = (node.operator.indices[-1] for node in nodes if isinstance(node.operator, Slice))
    for part, channels in ((passing, [0, 4, 1, 5]), (convolved, [2, 6, 3, 7])):
        assert sorted(stored.bias[part].tolist()) == sorted(given_layer.bias[channels].tolist())


class AddedToItself(nn.Module):
    """A value and its shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shuffle = nn.Conv2d(4, 6, 1), nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        total: Tensor = y + self.shuffle(y)
        return total


def in_groups() -> nn.Conv2d:
    return nn.Conv2d(4, 4, 1, groups=2)


MUST_BE_MADE: dict[str, nn.Module] = {
    "between groups": nn.Sequential(in_groups(), nn.ChannelShuffle(2), in_groups()),
    "of the input": nn.Sequential(nn.MaxPool2d(1), nn.ChannelShuffle(2), in_groups()),
    "added to itself": AddedToItself(),
}


@pytest.mark.parametrize("name", MUST_BE_MADE)
def test_shuffles_that_must_be_made(name: str) -> None:
    _, after = same_in_runtime(MUST_BE_MADE[name], torch.randn(12, 4, 4, 5), Scheme())
    assert transposes(after) == 1


def test_weights_in_their_order_are_not_copied() -> None:
    network = nn.Sequential(chain(Unit, 8, 2), nn.ReLU(), nn.Conv2d(2, 2, 1)).eval()
    last = trace(network, (3, 4, 5)).nodes[-1].operator
    module = network[-1]
    assert isinstance(last, Convolution)
    assert isinstance(module, nn.Conv2d)
    assert last.weight.data_ptr() == module.weight.data_ptr()


def test_orders_that_do_not_fit_are_seen() -> None:
    shuffled, straight = Flow((np.array([0, 2, 1, 3]),), (None,)), Flow((np.arange(4),), (None,))
    step = Step("b", ("a",), 4, shuffled)
    # Stored at 0, 1, 2, 3 are channels 0, 2, 1, 3 of a; behind the shuffle these are channels 0, 1, 2, 3 of b.
    assert fits(step, straight, {"a": np.array([0, 2, 1, 3]), "b": np.arange(4)})
    assert not fits(step, straight, {"a": np.arange(4), "b": np.arange(4)})
    assert not fits(step, straight, {"a": np.array([0, 2, 1, 3]), "b": np.array([0, 0, 1, 3])})
    grouped = Step("c", ("a",), 2, Flow((), (np.array([0, 0, 1, 1]),)))
    assert fits(grouped, grouped.flow, {"a": np.array([1, 0, 2, 3]), "c": np.arange(2)})
    assert not fits(grouped, grouped.flow, {"a": np.array([0, 2, 1, 3]), "c": np.arange(2)})
