"""Fast arithmetic against exact: networks of every kind, sums that float32 can't hold, and no Numba.

Single operators and random networks are compared code by code wherever they are compared with LiteRT (`conftest.py`,
`qanas.testing.runtime`).
"""

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from qanas.networks.deeplabv3 import DeepLabV3
from qanas.networks.fastestdet import FastestDet
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.quantization import simulation
from qanas.quantization.graph import Graph
from qanas.quantization.numbers.requantization import exact_dtype
from qanas.quantization.operators.convolution import QuantizedConvolution
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace
from tests.networks.image_networks import classifier
from tests.quantization.random_networks import random_network

MOST_STEPS = 3
MOST_DECIBELS = 0.5

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "LSTM": (lambda: LSTMNetwork(14, [16, 3], 1, 125.0), (30, 14), 300),
    "TCN": (lambda: TCNNetwork((30, 14), [8, 8], 3, 2, 1, 125.0), (30, 14), 300),
    "MobileNetV2": (lambda: classifier("mobilenet_v2_0.35"), (3, 64, 48), 6),
    "DeepLabv3": (lambda: DeepLabV3((45, 63), 5, width=0.35, atrous_rates=(2, 4)), (3, 45, 63), 6),
    "FastestDet": (lambda: FastestDet((64, 96)), (3, 64, 96), 6),
}


def quantized_on(network: nn.Module, samples: Tensor) -> tuple[Graph, QuantizedGraph]:
    """The graph of a network, float and quantized."""
    graph = trace(network.eval(), tuple(samples.shape[1:]))
    return graph, QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())


def sqnr(real: Tensor, outputs: Tensor) -> float:
    """Signal to noise, decibels."""
    noise = (real - outputs).double().square().sum().clamp(min=1e-30)
    return float(10.0 * torch.log10(real.double().square().sum() / noise))


def assert_close(network: nn.Module, samples: Tensor) -> Tensor:
    """Hold fast arithmetic to its bounds, beyond the calibrated ranges as well; return the steps between."""
    graph, quantized = quantized_on(network, samples)
    inputs = torch.cat([samples, 1.5 * samples])
    exact, fast = quantized.codes(inputs), quantized.codes(inputs, "fast")
    assert exact.shape == fast.shape
    assert float((exact - fast).abs().max()) <= MOST_STEPS
    with torch.no_grad():
        real = graph.forward(inputs)
    by_arithmetic = [sqnr(real, quantized.output.dequantize(codes)) for codes in (exact, fast)]
    assert by_arithmetic[1] == pytest.approx(by_arithmetic[0], abs=MOST_DECIBELS)
    return exact - fast


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_differ_in_nothing(name: str) -> None:
    build, shape, count = NETWORKS[name]
    torch.manual_seed(0)
    network = build()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            nn.init.normal_(module.running_mean, 0.0, 0.3)
    assert not assert_close(network, torch.randn(count, *shape)).any(), "their sums stay below 2^24"


@pytest.mark.parametrize("seed", range(200, 220))
def test_random_networks_differ_in_nothing(seed: int) -> None:
    network, shape = random_network(seed)
    assert not assert_close(network, torch.randn(6, *shape)).any()


def test_sums_that_float32_can_not_hold_are_rounded_by_less_than_a_step() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(4096, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(24, 3)]
    with torch.no_grad():
        layers[0].weight.uniform_(0.5, 1.0)  # type: ignore[operator]
    samples = torch.rand(10, 4096, 2, 3) + 1.0
    _, quantized = quantized_on(nn.Sequential(*layers), samples)
    first = next(entry for entry in quantized.operators.values() if isinstance(entry, QuantizedConvolution))
    assert exact_dtype(first.weights.as_tensor(), first.input) == torch.float64
    assert_close(nn.Sequential(*layers), samples)


def test_arguments_stay_as_they_are() -> None:
    network, shape = random_network(3)
    samples = torch.randn(6, *shape)
    before = samples.clone()
    _, quantized = quantized_on(network, samples)
    evaluator = quantized.evaluator("fast")
    first = evaluator.codes(samples)
    assert torch.equal(samples, before)
    assert torch.equal(evaluator.codes(samples), first), "an evaluator keeps nothing of what it has seen"


def test_each_kernel_leaves_its_arguments_to_others() -> None:
    for seed in range(20):
        network, shape = random_network(seed)
        graph, quantized = quantized_on(network, torch.randn(4, *shape))
        evaluator = quantized.evaluator("fast")
        for node in graph.nodes:
            steps = [torch.randint(-20, 20, (2, *graph.shapes[name])).float() for name in node.inputs]
            copies = [part.clone() for part in steps]
            evaluator.kernels[node.name](*steps)
            assert all(map(torch.equal, steps, copies)), node


def test_chunks_of_any_size_give_the_same() -> None:
    torch.manual_seed(0)
    samples = torch.randn(1100, 30, 14)
    _, quantized = quantized_on(LSTMNetwork(14, [5]), samples)
    evaluator = quantized.evaluator("fast")
    together = evaluator.codes(samples)
    assert torch.equal(together[:7], evaluator.codes(samples[:7]))
    assert torch.equal(together[-7:], evaluator.codes(samples[-7:]))


def test_without_numba_arithmetic_is_exact(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    samples = torch.randn(20, 5, 3)
    _, quantized = quantized_on(LSTMNetwork(3, [4]), samples)
    monkeypatch.delitem(sys.modules, "qanas.quantization.simulation.compiled", raising=False)
    monkeypatch.delattr(simulation, "compiled", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert torch.equal(quantized.codes(samples, "fast"), quantized.codes(samples))
    assert "compiled kernels are missing" in caplog.text
