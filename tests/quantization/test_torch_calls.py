"""What torch has: traced as torch computes it, shipped as simulated."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qanas.quantization.tracing import trace
from tests.quantization.conftest import float_gap, steps_from_runtime
from tests.quantization.torch_calls import FUNCTIONS, LAYERS, Called, with_statistics


def samples_of(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(24, *shape, generator=torch.Generator().manual_seed(1))


def check(network: nn.Module, shape: tuple[int, ...]) -> None:
    """Compare the graph and the float32 file with torch, and the simulation with the runtime."""
    samples = samples_of(shape)
    with torch.no_grad():
        expected = network(samples)
        computed = trace(network, shape).forward(samples)
    assert computed.shape == expected.shape
    assert np.allclose(computed, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert not steps_from_runtime(network, samples).any()
    assert float_gap(network, samples) < 1e-3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    function, shape = FUNCTIONS[name]
    check(Called(function, shape[0]).eval(), shape)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    check(with_statistics(build()), shape)
