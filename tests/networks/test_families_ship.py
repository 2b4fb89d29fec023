"""Networks of common families: traced as torch computes them, shipped as simulated, near what they are in float32."""

import pytest
import torch

from qanas.quantization.mean_error import without_mean_error
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace
from tests.networks.families import FAMILIES
from tests.quantization.conftest import steps_from_runtime
from tests.quantization.torch_calls import with_statistics

LEAST_SQNR_DB = {
    "transformer": 25.0,
    "Conformer block": 28.0,
    "GRU": 28.0,
    "U-Net": 24.0,
    "DenseNet": 15.0,
    "pre-activation ResNet": 17.0,
}
"""About the outputs' means, of random weights: 1 to 2 dB below what 8 bits leave."""


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_the_family_ships(name: str) -> None:
    torch.manual_seed(0)
    build, shape = FAMILIES[name]
    network = with_statistics(build())
    generator = torch.Generator().manual_seed(1)
    # Of many sizes: means over all of a sample hardly differ otherwise.
    sizes = 1.0 + torch.rand(64, *[1] * len(shape), generator=generator)
    samples = sizes * (torch.randn(64, *shape, generator=generator) + 0.5)
    graph = trace(network, shape)
    with torch.no_grad():
        expected = network(samples)
        assert torch.allclose(graph.forward(samples), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        ranges, scheme = graph.calibrate(samples), Scheme()
        graph = without_mean_error(graph, samples, ranges, scheme)
        quantized = QuantizedGraph.quantize(graph, ranges, scheme)
        apart = quantized.forward(samples) - expected
    signal = (expected - expected.mean(0)).square().mean()
    assert 10.0 * float(torch.log10(signal / apart.square().mean())) > LEAST_SQNR_DB[name]
    assert not steps_from_runtime(network, samples[:24]).any()
