"""Values of 16 bits, in the whole network and in some layers: what ships, what it costs, what is refused."""

from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.hardware.costs import SHIPPED_COSTS, Blueprint, costs_of
from qanas.networks.deeplabv3 import DeepLabV3
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.quantization.border import INPUT
from qanas.quantization.graph import Graph
from qanas.quantization.numbers.affine import ACTIVATION_BITS, ActivationBits
from qanas.quantization.operators.convolution import QuantizedConvolution
from qanas.quantization.operators.functions import HardSwish
from qanas.quantization.quantization_aware import FakeQuantizedGraph
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme, UnsupportedSchemeError
from qanas.quantization.simulation.fast import fit_float32_by_halves
from qanas.quantization.tracing import trace
from tests.networks.image_networks import classifier, with_statistics
from tests.quantization.random_networks import random_network

INT16 = Scheme(activation_bits=16)

NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "TCN": (TCNNetwork((30, 14), [8, 8], 3, 2, 1, 125.0), (30, 14), 40),
    "MobileNetV2": (with_statistics(classifier("mobilenet_v2_0.35")), (3, 32, 24), 2),
    "DeepLabv3": (DeepLabV3((45, 63), 5, width=0.35, atrous_rates=(2, 4)), (3, 45, 63), 2),
}


class Branches(nn.Module):
    """A value that two branches take, put side by side, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        self.left = nn.Conv2d(8, 4, 1)
        self.right = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 1, 1))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        joined = torch.cat([self.left(x), self.right(x)], 1)
        result: Tensor = self.head(joined.mean((2, 3)))
        return result


def quantized_by(graph: Graph, samples: Tensor, scheme: Scheme) -> QuantizedGraph:
    return QuantizedGraph.quantize(graph, graph.calibrate(samples, scheme), scheme)


def differing(quantized: QuantizedGraph, inputs: Tensor) -> int:
    """Count the output codes of both evaluators that are not LiteRT's."""
    runtime = LiteRTModel(write_tflite(quantized.program()), border=quantized.graph.border)
    assert (runtime.input, runtime.output) == (quantized.input, quantized.output)
    deployed = runtime.codes(inputs.numpy())
    found = (quantized.codes(inputs).numpy(), quantized.codes(inputs, "fast").numpy())
    assert all(codes.shape == deployed.shape for codes in found)
    return sum(int(np.count_nonzero(codes != deployed)) for codes in found)


def kinds(quantized: QuantizedGraph) -> list[str]:
    """The runtime's operators with the types of their outputs."""
    return [f"{operator.kind} {operator.outputs[0].dtype}" for operator in quantized.program().operators]


def branches(scheme: Scheme) -> QuantizedGraph:
    torch.manual_seed(0)
    samples = torch.randn(12, 3, 7, 6)
    return quantized_by(trace(Branches().eval(), (3, 7, 6)), samples, scheme)


def narrow_hard_swishes(graph: Graph) -> dict[str, dict[str, Any]]:
    """What the runtime has in 8 bits alone."""
    return {node.name: {"activation_bits": 8} for node in graph.nodes if isinstance(node.operator, HardSwish)}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_ship_as_simulated(name: str) -> None:
    network, shape, count = NETWORKS[name]
    torch.manual_seed(0)
    samples = torch.randn(count, *shape)
    graph = trace(network.eval(), shape)
    wide = quantized_by(graph, samples, INT16)
    assert {affine.bits for affine in wide.affines.values()} == {16}
    assert differing(wide, torch.cat([samples, 1.5 * samples])) == 0
    with torch.no_grad():
        real = graph.forward(samples)
    narrow = quantized_by(graph, samples, Scheme())
    errors = [float((real - quantized.forward(samples)).square().mean()) for quantized in (narrow, wide)]
    assert errors[1] < errors[0], "codes of 16 bits are nearer to the real values"


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("seed", range(400, 425))
def test_random_networks_ship_as_simulated_in_the_bytes_that_shapes_tell(seed: int, mixed: bool) -> None:
    network, shape = random_network(seed)
    random = Random(seed)  # noqa: S311 - a test's
    torch.manual_seed(seed)
    samples = torch.randn(6, *shape)
    graph = trace(network, shape)
    drawn = {name: {"activation_bits": random.choice(ACTIVATION_BITS)} for name in graph.shapes} if mixed else {}
    scheme = Scheme(activation_bits=16, layers=drawn | narrow_hard_swishes(graph))
    quantized = quantized_by(graph, samples, scheme)
    assert differing(quantized, torch.cat([samples, 1.5 * samples])) == 0
    assert costs_of(Blueprint(graph, quantized)) == costs_of(
        Blueprint(graph, QuantizedGraph.from_shapes(graph, scheme))
    )


@pytest.mark.parametrize("inputs", [400, 3000])
def test_sums_of_any_length_are_exact_in_both_arithmetics(inputs: int) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(inputs, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)]
    with torch.no_grad():
        layers[0].weight.uniform_(0.5, 1.0)  # type: ignore[operator]
    samples = torch.rand(6, inputs, 2, 3) + 1.0
    quantized = quantized_by(trace(nn.Sequential(*layers), (inputs, 2, 3)), samples, INT16)
    first = next(entry for entry in quantized.operators.values() if isinstance(entry, QuantizedConvolution))
    assert fit_float32_by_halves(first.weights.as_tensor()) == (inputs == 400)
    assert differing(quantized, samples) == 0


def test_a_layer_of_its_own_bits_stands_between_two_rescalings() -> None:
    middle = branches(Scheme(layers={"right": {"activation_bits": 16}}))
    assert kinds(middle) == [
        "CONV_2D int8",
        "CONV_2D int8",
        "QUANTIZE int16",
        "CONV_2D int16",
        "MAX_POOL_2D int16",
        "QUANTIZE int8",
        "CONCATENATION int8",
        "MEAN int8",
        "FULLY_CONNECTED int8",
    ]
    assert middle.precision == "int8 and int16"


def test_what_several_layers_need_in_other_bits_is_rescaled_once() -> None:
    layers = {"left": 16, "right": 16, "cat": 8}
    both = branches(Scheme(layers={layer: {"activation_bits": bits} for layer, bits in layers.items()}))
    assert [kind for kind in kinds(both) if kind.startswith("QUANTIZE")] == ["QUANTIZE int16", *["QUANTIZE int8"] * 2]
    # The two that go back stand side by side, and share parameters as any two do: nothing else is rescaled.
    parts = next(operator for operator in both.program().operators if operator.kind == "CONCATENATION")
    assert len({id(tensor.quantization) for tensor in (*parts.inputs, *parts.outputs) if tensor is not None}) == 1


def test_what_has_no_weights_and_no_name_goes_on_in_the_bits_that_it_is_given() -> None:
    both = branches(Scheme(layers={"left": {"activation_bits": 16}, "right": {"activation_bits": 16}}))
    assert kinds(both)[-4:] == ["CONCATENATION int16", "MEAN int16", "QUANTIZE int8", "FULLY_CONNECTED int8"]
    one = branches(Scheme(layers={"left": {"activation_bits": 16}}))
    assert kinds(one)[-4:] == ["QUANTIZE int8", "CONCATENATION int8", "MEAN int8", "FULLY_CONNECTED int8"]
    # A kernel that there is not is no reason to refuse what nobody asked for.
    swish = trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardswish()), (3, 4, 4))
    behind = QuantizedGraph.from_shapes(swish, Scheme(layers={"_0": {"activation_bits": 16}}))
    assert kinds(behind) == ["QUANTIZE int16", "CONV_2D int16", "QUANTIZE int8", "HARD_SWISH int8"]


def test_inputs_and_outputs_have_bits_of_their_own() -> None:
    given = branches(Scheme(activation_bits=16, layers={INPUT: {"activation_bits": 8}}))
    assert (given.input.bits, given.output.bits, kinds(given)[0]) == (8, 16, "QUANTIZE int16")
    head = branches(Scheme(layers={"head": {"activation_bits": 16}}))
    assert (head.input.bits, head.output.bits) == (8, 16)
    assert kinds(head)[-3:] == ["MEAN int8", "QUANTIZE int16", "FULLY_CONNECTED int16"]


def test_networks_of_one_width_are_not_touched() -> None:
    for scheme in (Scheme(), INT16):
        assert not [kind for kind in kinds(branches(scheme)) if kind.startswith("QUANTIZE")]


@pytest.mark.parametrize("bits", ACTIVATION_BITS)
def test_values_so_small_that_6_is_beyond_all_codes_ship_as_simulated(bits: ActivationBits) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1e-5)
    samples = 1e-3 * torch.randn(8, 3, 4, 4)
    assert differing(quantized_by(trace(network, (3, 4, 4)), samples, Scheme(activation_bits=bits)), samples) == 0


def test_costs_by_hand() -> None:
    graph = trace(nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Linear(12, 5)), (2, 2, 2))
    costs = {
        bits: costs_of(Blueprint(graph, QuantizedGraph.from_shapes(graph, Scheme(activation_bits=bits))))
        for bits in ACTIVATION_BITS
    }
    # 6 + 60 weights of a byte; 3 + 5 biases of 4 bytes or of 8; beside them 2 numbers of a shape.
    assert [costs[bits]["weight_bytes"] for bits in (8, 16)] == [66 + 8 * 4 + 8, 66 + 8 * 8 + 8]
    # 12 codes that are reshaped into another 12, in units of 16 bytes.
    assert [costs[bits]["peak_ram_bytes"] for bits in (8, 16)] == [16 + 16, 32 + 32]
    assert costs[8]["macs"] == costs[16]["macs"]
    assert {model.measure.column for model in SHIPPED_COSTS} <= set(costs[16])


def test_kernels_that_there_are_not_are_named_with_the_way_out() -> None:
    swish = trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardswish()), (3, 4, 4))
    with pytest.raises(
        UnsupportedSchemeError, match=r"^_1: activation_bits = 16: .* HardSwish .* activation_bits = 8$"
    ):
        QuantizedGraph.from_shapes(swish, INT16)
    recurrent = trace(LSTMNetwork(3, [4]).eval(), (5, 3))
    with pytest.raises(UnsupportedSchemeError, match=r"LSTM has no such kernel; give this layer activation_bits = 8$"):
        QuantizedGraph.from_shapes(recurrent, INT16)
    lstms = [node.name for node in recurrent.nodes if type(node.operator).__name__ == "LSTM"]
    kept = Scheme(activation_bits=16, layers={name: {"activation_bits": 8} for name in lstms})
    samples = torch.randn(40, 5, 3)
    assert differing(quantized_by(recurrent, samples, kept), samples) == 0


def test_training_sees_the_values_that_ship() -> None:
    torch.manual_seed(0)
    samples = torch.randn(16, 3, 7, 6)
    graph = trace(Branches().eval(), (3, 7, 6))
    for scheme in (INT16, Scheme(4, layers={"right": {"activation_bits": 16}})):
        ranges = graph.calibrate(samples)
        module = FakeQuantizedGraph(graph, ranges, scheme)
        quantized = QuantizedGraph.quantize(graph, ranges, scheme)
        outputs = module(samples)
        steps = (outputs - quantized.forward(samples)).abs() / quantized.output.scale
        assert float(steps.detach().max()) < 8.5
        F.mse_loss(outputs, torch.zeros_like(outputs)).backward()  # type: ignore[no-untyped-call]
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())
        assert [node.name for node in module.graph().nodes] == [node.name for node in graph.nodes]
        assert {value.bits for value in QuantizedGraph.quantize(module.graph(), ranges, scheme).affines.values()} <= {
            8,
            16,
        }


def test_descriptions_say_what_codes_are() -> None:
    assert "int16 activations, symmetric;" in INT16.description()
    assert "right: activation_bits 16" in Scheme(layers={"right": {"activation_bits": 16}}).description()
