import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.layers.sequences import Conv1xK, OneBiasLSTM
from qanas.networks.lstm import LSTMNetwork
from qanas.quantization.border import INPUT
from qanas.quantization.graph import UnsupportedNetworkError
from qanas.quantization.numbers.affine import Affine, QuantizedWeights, WeightBits
from qanas.quantization.numbers.rounding import round_half_away
from qanas.quantization.operators.lstm import cell_exponent
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace


class Function(nn.Module):
    """A network of one dense layer and a function of its input and output."""

    def __init__(self, function: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.function = function
        self.dense = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> object:
        return self.function(x, self.dense(x))


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def branch(x: Tensor, y: Tensor) -> Tensor:
    return x if x.mean(1) else y


UNSUPPORTED: dict[str, tuple[Callable[[Tensor, Tensor], object], str]] = {
    "control flow on values": (branch, "a condition on numbers can't be exported"),
    "an unknown function": (lambda _, y: torch.lgamma(y), "lgamma"),
    "an unknown method": (lambda _, y: y.mean(), "mean"),
    "a number as an output": (lambda _, y: (y, 3), "'output_1' is a int, not a tensor"),
    "no output": (lambda _, y: (y + y, None)[1], "it is nothing; return a tensor"),
    "a part of the batch": (lambda _, y: y[0], "whole batch"),
    "an index with steps backwards": (lambda _, y: y[:, ::-1], "step"),
    "an index of its own values": (lambda x, y: y[x], "index"),
    "too many indices": (lambda _, y: y[:, 0, 0], "indices"),
    "an index outside": (lambda _, y: y[:, 4], "index 4"),
    "an empty slice": (lambda _, y: y[:, 3:2], "empty"),
    "shapes that don't fit": (lambda x, y: x[:, :2] + y, "equal"),
}


def test_a_value_that_nobody_uses_costs_nothing() -> None:
    graph = trace(Function(lambda _, y: (torch.relu(y), y)[1]), (4,))
    assert [node.name for node in graph.nodes] == ["dense"]


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_the_graph_can_not_hold_is_refused_by_name(name: str) -> None:
    function, message = UNSUPPORTED[name]
    with pytest.raises(UnsupportedNetworkError, match=message):
        _ = trace(Function(function), (4,)).shapes


def test_an_unknown_module_is_named_by_its_path() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Conv3d(4, 4, 1)))
    with pytest.raises(UnsupportedNetworkError, match=r"1\.1: Conv3d has no operator"):
        trace(network, (4,))


def test_a_second_input_is_refused() -> None:
    with pytest.raises(UnsupportedNetworkError, match="input"):
        trace(TwoInputs(), (4,))


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Sequential(nn.Linear(4, 2), nn.Linear(3, 1)), (4,)),
        (nn.Sequential(Conv1xK(3, 2, 5)), (4, 3)),
        (nn.Sequential(Conv1xK(3, 2, 2)), (4, 2)),
        (nn.Sequential(OneBiasLSTM(3, 2)), (4, 2)),
    ],
)
def test_shapes_that_do_not_fit_are_named(network: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedNetworkError, match=rf"^{len(network) - 1}: "):  # type: ignore[arg-type]
        trace(network, shape)


@pytest.mark.parametrize("relu", [torch.relu, F.relu, lambda y: F.relu(y, inplace=True)])
def test_relu_is_fused_into_the_layer_before_it(relu: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    network = Function(lambda _, y: relu(y))
    graph = trace(network, (4,))
    assert len(graph.nodes) == 1
    inputs = torch.randn(9, 4)
    assert torch.equal(graph.forward(inputs), torch.relu(network.dense(inputs)))


def test_relu_is_not_fused_where_the_value_before_it_is_used_otherwise() -> None:
    torch.manual_seed(0)
    network = Function(lambda _, y: torch.relu(y) + y)
    graph = trace(network, (4,))
    assert len(graph.nodes) == 3
    inputs = torch.randn(9, 4)
    value = network.dense(inputs)
    assert torch.equal(graph.forward(inputs), torch.relu(value) + value)


@given(units=st.lists(st.integers(1, 9), min_size=1, max_size=3), features=st.integers(1, 9), outputs=st.integers(1, 3))
def test_parameters_are_those_of_torch_and_macs_those_of_the_products(
    units: list[int], features: int, outputs: int
) -> None:
    network = LSTMNetwork(features, units, outputs)
    graph = trace(network, (7, features))
    assert graph.parameters == sum(p.numel() for p in network.parameters())
    matrices = sum(p.numel() for name, p in network.lstm.named_parameters() if "weight" in name)
    assert graph.macs == 7 * (matrices + 3 * sum(units)) + units[-1] * outputs


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.zeros(0, 5, 3), "no samples"),
        (torch.full((2, 5, 3), math.nan), "can't be quantized"),
        (torch.full((2, 5, 3), math.inf), "can't be quantized"),
    ],
)
def test_calibration_refuses_what_has_no_range(samples: Tensor, message: str) -> None:
    graph = trace(LSTMNetwork(3, [2]), (5, 3))
    with pytest.raises(ValueError, match=message):
        graph.calibrate(samples)


def test_calibration_returns_the_smallest_and_largest_values() -> None:
    torch.manual_seed(0)
    network = Function(lambda _, y: y)
    samples = torch.randn(50, 4)
    ranges = trace(network, (4,)).calibrate(samples)
    assert ranges[INPUT].output == (float(samples.min()), float(samples.max()))
    values = network.dense(samples).detach()
    assert ranges["dense"].output == pytest.approx((float(values.min()), float(values.max())))


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-30])
def test_constant_data_and_zero_weights_ship(value: float) -> None:
    network = nn.Sequential(Conv1xK(3, 4, 2), nn.ReLU(), OneBiasLSTM(4, 2), nn.Linear(2, 1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    samples = torch.full((2, 5, 3), value)
    graph = trace(network, (5, 3))
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())
    outputs = LiteRTModel(write_tflite(quantized.program())).predict(samples.numpy())
    assert np.array_equal(outputs, np.zeros((2, 4, 1)))
    assert np.array_equal(quantized.forward(samples).numpy(), outputs)


@pytest.mark.parametrize("peak", [1e-44, 1e-38, 1e-20])
def test_weights_of_hardly_any_size_are_quantized_without_dividing_by_zero(peak: float) -> None:
    for groups in (1, 2):
        weights = QuantizedWeights.from_float(torch.tensor([[peak, -peak], [1.0, 0.5]]), 8, groups=groups)
        assert np.all(weights.scales > 0)
        assert np.abs(weights.codes[1]).max() == 127
    for rows in (1, 2):
        only = QuantizedWeights.from_float(torch.tensor([[peak, -peak]] * rows), 8, groups=rows)
        assert np.all(only.scales > 0)
        assert np.allclose(only.codes * only.scales.astype(np.float64), [[peak, -peak]], atol=1e-37)


def test_a_layer_of_nearly_zero_weights_keeps_its_bias() -> None:
    network = nn.Sequential(Conv1xK(2, 2, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[[1e-12], [0.0]], [[1.0], [0.5]]]))  # type: ignore[operator]
        network[0].bias.copy_(torch.tensor([1.0, -1.0]))  # type: ignore[operator]
    samples = torch.randn(20, 3, 2, generator=torch.Generator().manual_seed(0))
    graph = trace(network, (3, 2))
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())
    outputs = LiteRTModel(write_tflite(quantized.program())).predict(samples.numpy())
    assert np.abs(outputs[..., 0] - 1.0).max() < quantized.output.scale
    assert np.abs(quantized.forward(samples).numpy() - outputs).max() <= 1.001 * quantized.output.scale


@pytest.mark.parametrize("bits", [0, 1, 3, 5, 7, 16])
def test_unknown_bit_widths_are_refused(bits: WeightBits) -> None:
    with pytest.raises(ValueError, match=f"weight_bits = {bits}"):
        Scheme(bits)


@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32))
def test_a_range_with_zero_in_it_is_covered_to_half_a_step(one: float, other: float) -> None:
    low, high = min(one, other, 0.0), max(one, other, 0.0)
    affine = Affine.from_range(min(one, other), max(one, other))
    assert -128 <= affine.zero_point <= 127
    assert affine.scale == np.float32(affine.scale)
    if high - low > 1e-30:
        values = torch.linspace(low, high, 50)
        back = affine.dequantize(affine.quantize(values))
        assert float((back - values).abs().max()) <= 1.01 * affine.scale
        assert float(affine.dequantize(affine.quantize(torch.zeros(1)))) == 0.0, "zero is exact: padding is"


def test_a_range_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="can't be quantized"):
        Affine.from_range(0.0, math.inf)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, 1), (-0.5, -1), (1.5, 2), (2.5, 3), (-2.5, -3), (0.49, 0), (-0.49, 0), (7.0, 7)]
)
def test_ties_are_rounded_away_from_zero(value: float, expected: int) -> None:
    assert float(round_half_away(torch.tensor(value))) == expected


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_weights_are_symmetric_and_within_half_a_step(bits: int, groups: int) -> None:
    weights = (
        torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(bits)) * torch.logspace(-3, 3, 6)[:, None, None]
    )
    quantized = QuantizedWeights.from_float(weights, bits, groups=groups)
    top = 2 ** (bits - 1) - 1
    assert quantized.scales.shape == (groups,)
    assert np.all(np.abs(quantized.codes).reshape(groups, -1).max(axis=1) == top), "every group uses all codes"
    steps = np.repeat(quantized.scales, 6 // groups).reshape(-1, 1, 1)
    assert np.all(np.abs(quantized.codes * steps - weights.numpy()) <= 0.5001 * steps)
    assert np.array_equal(quantized.dequantize().numpy(), quantized.codes * steps)
    by_group = [part.dequantize() for part in quantized.split()]
    assert torch.equal(torch.cat(by_group), quantized.dequantize())


@pytest.mark.parametrize(
    ("largest", "exponent"),
    [(1.0, -15), (1.01, -14), (2.0, -14), (2.1, -13), (0.01, -15), (0.0, -15), (64.0, -9), (1000.0, -9)],
)
def test_the_cells_step_is_the_smallest_power_of_two_that_reaches_its_range(largest: float, exponent: int) -> None:
    assert cell_exponent(largest) == exponent


def test_samples_are_simulated_alike_however_many_there_are_at_a_time() -> None:
    torch.manual_seed(0)
    graph = trace(LSTMNetwork(3, [4]), (5, 3))
    samples = torch.randn(600, 5, 3)
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())
    together = quantized.codes(samples)
    assert torch.equal(together[:5], quantized.codes(samples[:5]))
    assert torch.equal(together[-5:], quantized.codes(samples[-5:]))
