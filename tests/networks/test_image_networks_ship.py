"""Networks over images, whole: graph, simulation, file and LiteRT agree, and costs from shapes are the file's."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.hardware.costs import costs_of
from qanas.networks.deeplabv3 import DeepLabV3
from qanas.networks.fastestdet import FastestDet, HeadSettings
from qanas.networks.mobilenet_v2 import MobileNetV2
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace, trace_shapes

Build = Callable[[], nn.Module]

NETWORKS: dict[str, tuple[Build, tuple[int, int]]] = {
    "MobileNetV2": (lambda: MobileNetV2(10, 0.35), (64, 48)),
    "MobileNetV2, dilated": (lambda: MobileNetV2(10, 0.35, output_stride=16), (47, 65)),
    "DeepLabv3": (lambda: DeepLabV3((48, 64), 12, width=0.35), (48, 64)),
    "DeepLabv3, odd": (lambda: DeepLabV3((45, 63), 5, width=0.35, atrous_rates=(2, 4)), (45, 63)),
    "DeepLabv3, at once": (lambda: DeepLabV3((48, 64), 12, width=0.35, upsampling="at_once"), (48, 64)),
    "FastestDet": (lambda: FastestDet((64, 96)), (64, 96)),
    "FastestDet, in groups": (
        lambda: FastestDet((64, 64), 3, HeadSettings(spp_kernels=((3,), (3, 5)), spp_groups=2, stem_groups=4)),
        (64, 64),
    ),
}


def with_statistics(network: nn.Module) -> nn.Module:
    """Give batch norms what training would."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


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
    costs = costs_of(skeleton, QuantizedGraph.from_shapes(skeleton, Scheme()))
    assert costs == costs_of(graph, quantized)
    assert costs["file_bytes"] == len(content)


@pytest.mark.parametrize("name", [name for name in NETWORKS if "FastestDet" not in name])
def test_nothing_is_moved_padded_or_rescaled_on_the_way(name: str) -> None:
    build, size = NETWORKS[name]
    program = QuantizedGraph.from_shapes(trace_shapes(build, (3, *size)), Scheme()).program()
    kinds = Counter(operator.kind for operator in program.operators)
    assert not set(kinds) & {"PAD", "PADV2", "TRANSPOSE", "QUANTIZE", "STRIDED_SLICE", "RELU6"}
    assert kinds["RESHAPE"] == ("MobileNetV2" in name), "only in front of the linear layer"
