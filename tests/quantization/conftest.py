"""Networks over all operators, and their comparison with the runtime."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.quantization.graph import Graph
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace

Steps = NDArray[np.int64]
Compare = Callable[..., Steps]

SCHEME = Scheme()


def traced(network: nn.Module, samples: Tensor) -> Graph:
    """The graph of a network, as it is used after training."""
    return trace(network.eval(), tuple(samples.shape[1:]))


def steps_from_runtime(network: nn.Module, samples: Tensor, scheme: Scheme = SCHEME) -> Steps:
    """Simulated minus deployed output codes; half of the samples reach beyond the calibrated ranges."""
    graph = traced(network, samples)
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples, scheme), scheme)
    inputs = torch.cat([samples, 1.5 * samples])
    runtime = LiteRTModel(write_tflite(quantized.program()), border=graph.border)
    assert runtime.input == quantized.input
    assert runtime.output == quantized.output
    simulated = quantized.codes(inputs).numpy()
    assert np.array_equal(simulated, np.rint(simulated)), "codes are whole numbers"
    assert np.array_equal(simulated, quantized.codes(inputs, "fast").numpy()), "fast arithmetic rounds alike"
    assert simulated.min() >= -128
    assert simulated.max() <= 127
    deployed = runtime.codes(inputs.numpy())
    assert simulated.shape == deployed.shape
    difference: Steps = simulated.astype(np.int64) - deployed
    return difference


def float_gap(network: nn.Module, samples: Tensor) -> float:
    """Largest distance between torch and the float program in LiteRT, relative to the outputs' size."""
    graph = traced(network, samples)
    with torch.no_grad():
        expected = network(samples).numpy()
        assert np.allclose(graph.forward(samples).numpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    outputs = LiteRTModel(write_tflite(graph.program()), border=graph.border).predict(samples.numpy())
    assert outputs.shape == expected.shape
    return float(np.abs(outputs - expected).max() / max(float(np.abs(expected).max()), 1e-6))


@pytest.fixture(scope="session")
def compare() -> Compare:
    """`steps_from_runtime`."""
    return steps_from_runtime


@pytest.fixture(scope="session")
def compare_float() -> Callable[[nn.Module, Tensor], float]:
    """`float_gap`."""
    return float_gap
