"""Networks over images, whole: graph, simulation, file and LiteRT agree, and costs from shapes are the file's."""

from collections import Counter

import numpy as np
import pytest
import torch

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.hardware.costs import Blueprint, costs_of
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace, trace_shapes
from tests.networks.image_networks import NETWORKS, with_statistics


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_ships_as_simulated_trained_and_costed(name: str) -> None:
    build, size = NETWORKS[name]
    torch.manual_seed(0)
    network = with_statistics(build())
    graph = trace(network, (3, *size))
    assert graph.border.input.axes == (1, 2, 0)
    samples = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = network(samples)
    assert torch.allclose(graph.forward(samples), expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())
    content = write_tflite(quantized.program())
    deployed = LiteRTModel(content, border=graph.border).codes(samples.numpy())
    simulated = quantized.codes(samples).numpy()
    assert simulated.shape == tuple(expected.shape)
    assert np.array_equal(simulated, deployed)
    floating = LiteRTModel(write_tflite(graph.program()), border=graph.border).predict(samples.numpy())
    assert np.allclose(floating, expected.numpy(), rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    skeleton = trace_shapes(build, (3, *size))
    costs = costs_of(Blueprint(skeleton, QuantizedGraph.from_shapes(skeleton, Scheme())))
    assert costs == costs_of(Blueprint(graph, quantized))
    assert costs["file_bytes"] == len(content)


@pytest.mark.parametrize("name", [name for name in NETWORKS if "FastestDet" not in name])
def test_nothing_is_moved_padded_or_rescaled_on_the_way(name: str) -> None:
    build, size = NETWORKS[name]
    program = QuantizedGraph.from_shapes(trace_shapes(build, (3, *size)), Scheme()).program()
    kinds = Counter(operator.kind for operator in program.operators)
    assert not set(kinds) & {"PAD", "PADV2", "TRANSPOSE", "QUANTIZE", "STRIDED_SLICE", "RELU6"}
    assert kinds["RESHAPE"] == ("MobileNet" in name), "only in front of the linear layer"
