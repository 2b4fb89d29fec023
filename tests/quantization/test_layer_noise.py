"""The noise of a quantized network by layer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from qanas.quantization.layer_noise import coarse_steps, layer_noise
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace


def samples(seed: int) -> Tensor:
    return torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 4),
    ]
    return nn.Sequential(*layers).eval()


def quantized(network: nn.Module, scheme: Scheme) -> QuantizedGraph:
    graph = trace(network, (3, 8, 8))
    return QuantizedGraph.quantize(graph, graph.calibrate(samples(0), scheme), scheme)


@pytest.mark.parametrize("coarse", ["_0", "_2", "_6"])
def test_the_layer_of_few_bits_makes_the_noise(network: nn.Sequential, coarse: str) -> None:
    found = layer_noise(quantized(network, Scheme(layers={coarse: {"weight_bits": 4}})), samples(1))
    assert found[0].layer == coarse
    assert found[0].share > 0.8
    assert found[0].own_sqnr_db < 30 < min(layer.own_sqnr_db for layer in found[1:])


def test_a_share_is_what_the_outputs_lose_with_real_weights(network: nn.Sequential) -> None:
    # The last layer by hand: its codes in, its real weights and bias, its codes out.
    graph = quantized(network, Scheme(weight_bits=4))
    wanted, head = network(samples(1)).detach(), network[6]
    before = quantized(network[:6], Scheme(weight_bits=4)).forward(samples(1))
    output = graph.output
    without = output.dequantize(output.quantize(head(before).detach()))
    noise, whole = (float((values - wanted).square().sum()) for values in (without, graph.forward(samples(1))))
    share = next(layer.share for layer in layer_noise(graph, samples(1)) if layer.layer == "_6")
    assert share == pytest.approx(1 - noise / whole, abs=1e-3)


def test_what_only_moves_codes_makes_none(network: nn.Sequential) -> None:
    found = layer_noise(quantized(network, Scheme()), samples(1))
    assert {layer.layer for layer in found} <= {"_0", "_2", "_6"}
    assert all(math.isfinite(layer.own_sqnr_db) for layer in found)


@pytest.mark.parametrize(("positions", "coarse"), [(16, False), (100, True), (256, True)])
def test_how_coarse_a_softmax_is_follows_from_the_positions_that_share_it(positions: int, coarse: bool) -> None:
    network = nn.Sequential(nn.Softmax(1), nn.Linear(positions, 3)).eval()
    graph = trace(network, (positions,))
    same = torch.zeros(4, positions)  # each has 1 / n, the mean square of which is 1 / n²
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(same), Scheme())
    expected = 10 * math.log10(12 * (256 / positions) ** 2)
    assert coarse_steps(quantized, same, graph) == ({"_0": pytest.approx(expected)} if coarse else {})
    wide = Scheme(layers={"_0": {"activation_bits": 16}})
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(same, wide), wide)
    assert coarse_steps(quantized, same, graph) == {}
