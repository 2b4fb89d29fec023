"""Biases take up what the rounding of weights adds on average, at the cost of no byte."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from qanas.deployment.tflite import write_tflite
from qanas.quantization.mean_error import without_mean_error
from qanas.quantization.numbers.affine import WeightBits
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace


class EveryKind(nn.Module):
    """Layers with a bias behind a ReLU: dense ones, convolutions by channel, in groups and transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 1, groups=2),
            nn.ReLU(),
        )
        self.head = nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.layers(inputs).mean((2, 3)))
        return outputs


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return EveryKind().eval()


def samples(seed: int) -> Tensor:
    return torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def error(quantized: QuantizedGraph, network: nn.Module) -> Tensor:
    """Return what is wrong with the outputs for samples that did not calibrate, shape (n, outputs)."""
    with torch.no_grad():
        difference: Tensor = quantized.forward(samples(1)) - network(samples(1))
        return difference


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_the_mean_error_of_rounded_weights_is_gone(network: nn.Module, bits: WeightBits) -> None:
    graph, scheme = trace(network, (3, 8, 8)), Scheme(weight_bits=bits)
    ranges = graph.calibrate(samples(0), scheme)
    before = QuantizedGraph.quantize(graph, ranges, scheme)
    after = QuantizedGraph.quantize(without_mean_error(graph, samples(0), ranges, scheme), ranges, scheme)
    first, second = error(before, network), error(after, network)
    assert second.square().mean() < 0.85 * first.square().mean()
    if bits < 8:  # where it is most of the error
        assert second.mean(0).abs().max() < 0.5 * first.mean(0).abs().max()
    assert len(write_tflite(after.program())) == len(write_tflite(before.program()))


def test_weights_that_are_not_rounded_leave_biases_as_they_are() -> None:
    layer = nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[127.0, 3.0], [-5.0, 0.0]])
    graph, scheme = trace(layer.eval(), (2,)), Scheme()
    inputs = torch.rand(8, 2)
    same = without_mean_error(graph, inputs, graph.calibrate(inputs, scheme), scheme)
    assert torch.equal(same.nodes[0].operator.tensors()["bias"], layer.bias)
