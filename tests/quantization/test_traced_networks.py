"""Graph, simulation, file and LiteRT agree: each traced call by itself, and random networks of them."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.hardware.costs import Blueprint, costs_of
from qanas.layers.images import SameConv2d
from qanas.quantization.graph import UnsupportedNetworkError
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace, trace_shapes
from tests.quantization.functions import Layered
from tests.quantization.random_networks import random_network

Compare = Callable[..., NDArray[np.int64]]
CompareFloat = Callable[[nn.Module, Tensor], float]


def conv(inputs: int = 4, outputs: int = 6, **options: Any) -> nn.Module:  # noqa: ANN401 - passed on
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def valid(inputs: int = 4, outputs: int = 3, **options: Any) -> nn.Module:  # noqa: ANN401 - passed on
    return nn.Conv2d(inputs, outputs, 3, **options)


def gated(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    gate: Tensor = layers.gate(layers.b(F.relu(layers.a(x.mean((2, 3), keepdim=True)))))
    return x * gate


def normalised(_: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    return (x - torch.tensor([0.1, 0.2, 0.3, 0.4]).view(1, 4, 1, 1)) / torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1)


def two_that_pad(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    padded = F.pad(x, (1, 1, 1, 1))
    total: Tensor = layers.a(padded) + layers.b(padded)
    return total


def features(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    return torch.cat([layers.a(x.mean((2, 3))), layers.b(x.mean((2, 3)))], 1)


def nested(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    inner = torch.cat([layers.a(x), layers.b(x)], 1)
    return torch.cat([inner, F.max_pool2d(layers.c(x), 3, 1, 1)], 1)


def turned_round(x: Tensor) -> Tensor:
    return torch.cat([x[:, 2:], x[:, :2]], 1)


def parts_beside(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    return torch.cat([F.max_pool2d(turned_round(layers.a(x)), 2), F.max_pool2d(layers.b(x), 2)], 1)


def parts_three_deep(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    return torch.cat([torch.cat([turned_round(turned_round(x)), layers.a(x)], 1), torch.tanh(x)], 1)


TURNED_ROUND = ["STRIDED_SLICE", "STRIDED_SLICE", "CONCATENATION"]
MEAN_GATE = {"a": nn.Conv2d(4, 2, 1), "b": nn.Conv2d(2, 4, 1)}
CASES: dict[str, tuple[nn.Module, list[str]]] = {
    "max pool": (nn.MaxPool2d(2), ["MAX_POOL_2D"]),
    "max pool with padding": (nn.MaxPool2d(3, 2, 1), ["PADV2", "MAX_POOL_2D"]),
    "max pool to the end": (nn.MaxPool2d(3, 2, ceil_mode=True), ["MAX_POOL_2D"]),
    "max pool to the end, padded": (nn.MaxPool2d(2, 2, 1, ceil_mode=True), ["PADV2", "MAX_POOL_2D"]),
    "max pool function": (Layered(lambda _, x: F.max_pool2d(x, 2)), ["MAX_POOL_2D"]),
    "average pool": (nn.AvgPool2d(3, 1, 1), ["PAD", "AVERAGE_POOL_2D"]),
    "average of what is there": (nn.AvgPool2d(3, 1, 1, count_include_pad=False), ["AVERAGE_POOL_2D"]),
    "average pool function": (Layered(lambda _, x: F.avg_pool2d(x, 2)), ["AVERAGE_POOL_2D"]),
    "average of the image": (nn.AdaptiveAvgPool2d(1), ["MEAN"]),
    "averages of rows": (nn.AdaptiveAvgPool2d((1, None)), ["MEAN"]),
    "average pool over the image": (Layered(lambda _, x: F.avg_pool2d(x, x.shape[2:])), ["MEAN"]),
    "average pool over rows": (Layered(lambda _, x: F.avg_pool2d(x, (x.shape[2], 1), 1)), ["MEAN"]),
    "average pool over columns": (Layered(lambda _, x: F.avg_pool2d(x, (1, x.shape[3]))), ["MEAN"]),
    "average pool over rows and pairs": (Layered(lambda _, x: F.avg_pool2d(x, (x.shape[2], 2))), ["AVERAGE_POOL_2D"]),
    "average pool over the image, padded": (
        Layered(lambda _, x: F.avg_pool2d(x, (x.shape[2] + 2, x.shape[3]), 1, (1, 0))),
        ["PAD", "AVERAGE_POOL_2D"],
    ),
    "averages of its parts": (nn.AdaptiveAvgPool2d((4, None)), ["AVERAGE_POOL_2D"]),
    "largest of the image": (nn.AdaptiveMaxPool2d(1), ["MAX_POOL_2D"]),
    "largest, function": (Layered(lambda _, x: F.adaptive_max_pool2d(x, 1)), ["MAX_POOL_2D"]),
    "mean over rows and columns": (Layered(lambda _, x: x.mean((2, 3))), ["MEAN"]),
    "mean over channels": (Layered(lambda _, x: torch.mean(x, dim=1)), ["MEAN"]),
    "mean over columns": (Layered(lambda m, x: m.a(x).mean(-1, keepdim=True), a=conv()), ["CONV_2D", "MEAN"]),
    "mean over shuffled channels": (
        Layered(lambda m, x: m.s(m.a(x)).mean(1), a=conv(), s=nn.ChannelShuffle(2)),
        ["CONV_2D", "MEAN"],
    ),
    "twice the size": (nn.Upsample(scale_factor=2), ["RESIZE_NEAREST_NEIGHBOR"]),
    "another size": (nn.Upsample((9, 7), mode="bilinear"), ["RESIZE_BILINEAR"]),
    "smaller": (Layered(lambda _, x: F.interpolate(x, (3, 2), mode="bilinear")), ["RESIZE_BILINEAR"]),
    "corners aligned": (
        Layered(lambda _, x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)),
        ["RESIZE_BILINEAR"],
    ),
    "size of another axis": (
        Layered(lambda _, x: F.interpolate(x, size=x.shape[-1], mode="nearest-exact")),
        ["RESIZE_NEAREST_NEIGHBOR"],
    ),
    "the same size": (Layered(lambda m, x: F.interpolate(m.a(x), (8, 6)), a=conv()), ["CONV_2D"]),
    "side by side": (
        Layered(lambda m, x: torch.cat((m.a(x), m.b(x)), dim=1), a=conv(), b=conv()),
        ["CONV_2D", "CONV_2D", "CONCATENATION"],
    ),
    "beside the input": (
        Layered(lambda m, x: torch.cat([m.a(x), x], 1), a=conv()),
        ["CONV_2D", "QUANTIZE", "CONCATENATION"],
    ),
    "one below the other": (
        Layered(lambda m, x: torch.cat([m.a(x), m.b(x)], -2), a=conv(), b=conv()),
        ["CONV_2D", "CONV_2D", "CONCATENATION"],
    ),
    "parts of parts": (
        Layered(nested, a=conv(), b=conv(), c=conv()),
        ["CONV_2D", "CONV_2D", "CONCATENATION", "CONV_2D", "MAX_POOL_2D", "CONCATENATION"],
    ),
    "parts of one value within parts": (
        Layered(parts_beside, a=conv(), b=conv()),
        ["CONV_2D", *TURNED_ROUND, "MAX_POOL_2D", "CONV_2D", "MAX_POOL_2D", "QUANTIZE", "CONCATENATION"],
    ),
    "parts of the input three deep": (
        Layered(parts_three_deep, a=conv()),
        [*TURNED_ROUND, *TURNED_ROUND, "CONV_2D", "QUANTIZE", "CONCATENATION", "TANH", "QUANTIZE", "CONCATENATION"],
    ),
    "the input twice beside a layer": (
        Layered(lambda m, x: torch.cat([torch.cat([x, x], 1), m.a(x)], 1), a=conv()),
        ["CONCATENATION", "CONV_2D", "QUANTIZE", "CONCATENATION"],
    ),
    "beside a fixed scale": (
        Layered(lambda m, x: torch.cat([torch.sigmoid(x), m.a(x)], 1), a=conv()),
        ["LOGISTIC", "CONV_2D", "QUANTIZE", "CONCATENATION"],
    ),
    "stacked": (
        Layered(lambda m, x: torch.stack([m.a(x), m.b(x)], 1), a=conv(), b=conv()),
        ["CONV_2D", "CONV_2D", "RESHAPE", "RESHAPE", "CONCATENATION"],
    ),
    "features side by side": (
        Layered(
            lambda m, x: torch.cat([m.a(x.mean((2, 3))), m.b(x.mean((2, 3)))], 1), a=nn.Linear(4, 3), b=nn.Linear(4, 2)
        ),
        ["MEAN", "FULLY_CONNECTED", "MEAN", "FULLY_CONNECTED", "CONCATENATION"],
    ),
    "padding that the runtime has": (
        Layered(lambda m, x: m.a(F.pad(x, (0, 1, 0, 1))), a=valid(stride=2)),
        ["CONV_2D"],
    ),
    "padding that it lacks": (Layered(lambda m, x: m.a(F.pad(x, (1, 0, 2, 1))), a=valid()), ["PAD", "CONV_2D"]),
    "padding twice": (Layered(lambda m, x: m.a(F.pad(x, (1, 0, 1, 0))), a=conv(4, 2)), ["PAD", "CONV_2D"]),
    "padding of two convolutions": (Layered(two_that_pad, a=valid(), b=valid()), ["CONV_2D", "CONV_2D", "ADD"]),
    "padding alone": (nn.ZeroPad2d((1, 2, 3, 4)), ["PAD"]),
    "padding of channels": (Layered(lambda m, x: m.a(F.pad(x, (0, 0, 0, 0, 0, 4))), a=conv(8)), ["PAD", "CONV_2D"]),
    "padding of a maximum": (
        Layered(lambda _, x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)),
        ["PADV2", "MAX_POOL_2D"],
    ),
    "padding of a maximum with a very low number": (
        Layered(lambda _, x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-1e9), 3, 2)),
        ["PADV2", "MAX_POOL_2D"],
    ),
    "gate": (Layered(gated, gate=nn.Sigmoid(), **MEAN_GATE), ["MEAN", "CONV_2D", "CONV_2D", "LOGISTIC", "MUL"]),
    "hard gate": (
        Layered(gated, gate=nn.Hardsigmoid(), **MEAN_GATE),
        ["MEAN", "CONV_2D", "CONV_2D", "ADD", "MUL", "MUL"],
    ),
    "product": (Layered(lambda m, x: x * m.a(x), a=conv(4, 4)), ["CONV_2D", "MUL"]),
    "product with a number": (Layered(lambda _, x: 2.5 * x), ["MUL"]),
    "sum with a number": (Layered(lambda _, x: x + 1.5), ["ADD"]),
    "difference from a number": (Layered(lambda _, x: 1 - x), ["MUL", "ADD"]),
    "difference": (Layered(lambda m, x: torch.sub(x, m.a(x), alpha=2), a=conv(4, 4)), ["CONV_2D", "MUL", "SUB"]),
    "negated": (Layered(lambda _, x: -x), ["MUL"]),
    "normalised": (Layered(normalised), ["ADD", "MUL"]),
    "SiLU": (nn.SiLU(), ["LOGISTIC", "MUL"]),
    "hard swish": (nn.Hardswish(), ["HARD_SWISH"]),
    "hard sigmoid": (nn.Hardsigmoid(), ["ADD", "MUL"]),
    "tanh": (nn.Tanh(), ["TANH"]),
    "sigmoid": (nn.Sigmoid(), ["LOGISTIC"]),
    "leaky ReLU": (nn.LeakyReLU(0.1), ["LEAKY_RELU"]),
    "ReLU6 alone": (nn.ReLU6(), ["QUANTIZE", "RELU6"]),
    "softmax of channels": (nn.Sequential(conv(), nn.Softmax(1)), ["CONV_2D", "SOFTMAX"]),
    "softmax of positions": (
        Layered(lambda m, x: F.softmax(m.a(x).flatten(2), -1), a=conv()),
        ["CONV_2D", "RESHAPE", "TRANSPOSE", "SOFTMAX"],
    ),
    "strided without PAD": (SameConv2d(4, 3, 3, stride=2), ["CONV_2D"]),
}


def samples_of(seed: int, *shape: int) -> Tensor:
    """Normal inputs of random size and offset."""
    generator = torch.Generator().manual_seed(seed)
    size, offset = torch.empty(2).uniform_(-1.0, 1.0, generator=generator).tolist()
    values: Tensor = 10.0**size * (torch.randn(6, *shape, generator=generator) + 2.0 * offset)
    return values


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CASES)
def test_every_call_ships_as_simulated(name: str, seed: int, compare: Compare) -> None:
    network, expected = CASES[name]
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    assert not compare(network, samples_of(seed, 4, 8, 6)).any()
    graph = trace(network.eval(), (4, 8, 6))
    program = QuantizedGraph.from_shapes(graph, Scheme()).program()
    assert [operator.kind for operator in program.operators] == expected


@pytest.mark.parametrize("name", CASES)
def test_every_call_computes_in_float_what_torch_computes(name: str, compare_float: CompareFloat) -> None:
    assert compare_float(CASES[name][0], samples_of(0, 4, 8, 6)) < 1e-5


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "a pool with dilation": (nn.MaxPool2d(2, dilation=2), "with dilation or indices"),
    "a pool with indices": (Layered(lambda _, x: F.max_pool2d(x, 2, return_indices=True)[0]), "indices"),
    "an average to the end": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), "ceil_mode"),
    "a mean of everything": (Layered(lambda _, x: x.mean()), "name the axes"),
    "a mean over the batch": (Layered(lambda _, x: x.mean(0)), "over the batch"),
    "an unknown resize": (nn.Upsample(scale_factor=2, mode="lanczos"), "'lanczos'; known are nearest"),
    "different shapes side by side": (
        Layered(lambda _, x: torch.cat([x, x[:, :, 1:]], 1)),
        "a concatenation of shapes",
    ),
    "samples side by side": (Layered(lambda _, x: torch.cat([x, x])), "over the batch"),
    "more mirrored rows than there are": (nn.ReflectionPad2d((6, 0, 0, 0)), "a reflection of"),
    "attention with a mask of the input's": (
        Layered(lambda _, x: F.scaled_dot_product_attention(x, x, x, attn_mask=x @ x.mT)),
        "every sample is of one length",
    ),
    "constant queries of constant keys": (
        Layered(lambda _, x: F.scaled_dot_product_attention(torch.ones(1, 1, 6), torch.ones(1, 8, 6), x[:, 0])),
        "take its shares as a constant matrix",
    ),
    "learned queries of no batch": (
        Layered(
            lambda m, x: m.a(torch.ones(2, 6), x[:, 0], x[:, 0])[0], a=nn.MultiheadAttention(6, 2, batch_first=True)
        ),
        "give it an axis for the batch",
    ),
    "matrices for another number of channels": (
        Layered(lambda _, x: x @ torch.ones(3, 6, 6)),
        "leading axes must be equal, or 1",
    ),
    "exactly a number": (Layered(lambda _, x: (x == 1.0).float()), "take >= and <= around it"),
    "a mask of the input's in front of a softmax": (
        Layered(lambda _, x: x.masked_fill(x > 0, -1e9).softmax(-1)),
        "every sample is of one length",
    ),
    "positions by a condition": (Layered(lambda _, x: x[x > 0]), "choose by torch.where"),
    "writing values by a condition": (Layered(lambda _, x: x.clone().__setitem__((0, x > 0), 0.0)), "torch.where"),
    "minus infinity without a softmax": (
        Layered(lambda _, x: x + torch.full((8, 6), -torch.inf).triu(1)),
        "right in front of a softmax",
    ),
    "positions of largest values": (Layered(lambda _, x: x.max(1)[1].float()), "positions of largest values"),
    "a product of unlike shapes": (Layered(lambda _, x: x * x.mean((2, 3))), "unsqueeze one of them"),
    "a softmax of no axis": (nn.Softmax(), "name it"),
    "a constant that doesn't fit": (Layered(lambda _, x: x + torch.ones(5, 1, 1)), "a constant of shape"),
}


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_operator_covers_is_refused_with_the_way_out(name: str) -> None:
    network, message = REFUSED[name]
    with pytest.raises(UnsupportedNetworkError, match=message):
        trace(network, (4, 8, 6))


def agree(seed: int, compare: Compare, compare_float: CompareFloat) -> tuple[Counter[str], int]:
    """Hold a random network against torch, LiteRT and its costs; return what it was made of and how many outputs."""
    network, shape = random_network(seed)
    samples = samples_of(seed, *shape)
    steps = compare(network, samples)
    assert not steps.any(), f"seed {seed}, {network.kinds}: {np.count_nonzero(steps)} of {steps.size} differ"
    assert compare_float(network, samples) < 1e-4, f"seed {seed}, {network.kinds}"
    graph = trace(network, shape)
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())
    skeleton = trace_shapes(lambda: random_network(seed)[0], shape)
    costs = costs_of(Blueprint(skeleton, QuantizedGraph.from_shapes(skeleton, Scheme())))
    assert costs == costs_of(Blueprint(graph, quantized)), f"seed {seed}: costs from shapes are those of the network"
    content = write_tflite(quantized.program())
    assert costs["file_bytes"] == len(content)
    LiteRTModel(content, "optimized")
    return Counter(network.kinds), steps.size


@pytest.mark.parametrize("block", range(6))
def test_random_networks_ship_as_simulated_trained_and_costed(
    block: int, compare: Compare, compare_float: CompareFloat
) -> None:
    for seed in range(10 * block, 10 * block + 10):
        agree(seed, compare, compare_float)


@pytest.mark.slow
def test_many_random_networks_cover_every_combination(compare: Compare, compare_float: CompareFloat) -> None:
    kinds: Counter[str] = Counter()
    outputs = 0
    for seed in range(1000, 2000):
        seen, count = agree(seed, compare, compare_float)
        kinds += seen
        outputs += count
    print(f"{len(kinds)} combinations in {kinds.total()} steps of 1000 networks, 0 of {outputs} outputs differ")  # noqa: T201
    assert len(kinds) > 100
