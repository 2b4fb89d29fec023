"""Schemes as data: what they make of ranges and weights, and that every one ships as simulated."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from qanas.core.errors import InputError
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.quantization.border import INPUT
from qanas.quantization.numbers.affine import ACTIVATION_BITS, FINEST_SCALE, Affine, QuantizedWeights
from qanas.quantization.operators.convolution import QuantizedConvolution
from qanas.quantization.operators.dense import QuantizedDense
from qanas.quantization.operators.lstm import QuantizedLSTM
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.ranges import check_samples
from qanas.quantization.scheme import DEFAULT_SCHEME, Scheme, UnsupportedSchemeError, named_schemes
from qanas.quantization.tracing import trace

WINDOW, FEATURES = 9, 3

EIGHT = {
    "asymmetric_per_tensor": Scheme(8, 8, "asymmetric", "tensor", "real"),
    "asymmetric_per_channel": Scheme(8, 8, "asymmetric", "channel", "real"),
    "symmetric_per_tensor": Scheme(8, 8, "symmetric", "tensor", "real"),
    "symmetric_per_channel": Scheme(8, 8, "symmetric", "channel", "real"),
    "symmetric_unsigned_per_tensor": Scheme(8, 8, "symmetric_unsigned", "tensor", "real"),
    "symmetric_unsigned_per_channel": Scheme(8, 8, "symmetric_unsigned", "channel", "real"),
    "power_of_two_per_tensor": Scheme(8, 8, "symmetric", "tensor", "power_of_two"),
    "power_of_two_per_channel": Scheme(8, 8, "symmetric", "channel", "power_of_two"),
}
"""The rows of the table of the person detection case."""


def samples(count: int = 48) -> Tensor:
    return 2.0 * torch.randn(count, WINDOW, FEATURES, generator=torch.Generator().manual_seed(count)) + 0.5


def tcn() -> nn.Module:
    torch.manual_seed(0)
    return TCNNetwork((WINDOW, FEATURES), [4, 6], 3, 2, 1, 20.0).eval()


def dense() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(WINDOW * FEATURES, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)
    )
    with torch.no_grad():
        network[3].weight.mul_(torch.logspace(-2, 1, 5)[:, None])  # type: ignore[operator]
    return network


def lstm() -> nn.Module:
    torch.manual_seed(0)
    return LSTMNetwork(FEATURES, [5, 4], 2, 20.0)


def quantized(network: nn.Module, scheme: Scheme) -> QuantizedGraph:
    graph = trace(network, (WINDOW, FEATURES))
    return QuantizedGraph.quantize(graph, graph.calibrate(samples(), scheme), scheme)


def steps_from_runtime(graph: QuantizedGraph) -> int:
    """Largest distance between simulated and deployed codes; half of the samples are beyond the ranges."""
    inputs = torch.cat([samples(), 1.5 * samples()])
    deployed = LiteRTModel(write_tflite(graph.program())).codes(inputs.numpy())
    assert len(np.unique(deployed)) > 10
    return int(np.abs(graph.codes(inputs).numpy() - deployed).max())


def weights_of(graph: QuantizedGraph) -> list[QuantizedWeights]:
    found: list[QuantizedWeights] = []
    for operator in graph.operators.values():
        if isinstance(operator, QuantizedConvolution | QuantizedDense):
            found.append(operator.weights)
        elif isinstance(operator, QuantizedLSTM):
            found += [*operator.kernel, *operator.recurrent]
    assert found
    return found


def is_power_of_two(scale: float) -> bool:
    return math.frexp(scale)[0] == 0.5


def test_the_named_schemes_are_those_of_the_table_and_the_kernels_own() -> None:
    named = named_schemes()
    assert {name: named[name] for name in EIGHT} == EIGHT
    assert next(iter(named)) == DEFAULT_SCHEME
    assert named[DEFAULT_SCHEME] == Scheme()
    assert {scheme.ranges for scheme in named.values()} == {"min_max", "moving_average", "percentile"}


@pytest.mark.parametrize("make", [tcn, dense])
@pytest.mark.parametrize("name", EIGHT)
def test_the_eight_schemes_give_their_scales_and_ship_as_simulated(name: str, make: Callable[[], nn.Module]) -> None:
    scheme = EIGHT[name]
    graph = quantized(make(), scheme)
    ranges = graph.graph.calibrate(samples())
    kept = {node.name for node in graph.graph.nodes if graph.affines[node.name] is graph.affines[node.inputs[0]]}
    for value in set(graph.affines) - kept:
        affine, (low, high) = graph.affines[value], ranges[value].output
        low, high = min(low, 0.0), max(high, 0.0)
        step = (high - low) / 255
        if scheme.activations == "symmetric" or (scheme.activations == "symmetric_unsigned" and low < 0):
            step = max(-low, high) / 127
            assert affine.zero_point == 0
        elif low == 0.0:
            assert affine.zero_point == -128
        if scheme.scales == "power_of_two":
            assert is_power_of_two(affine.scale)
            assert step <= affine.scale < 2.0 * step
        else:
            assert affine.scale == pytest.approx(step, rel=1e-6)
    for weights in weights_of(graph):
        assert weights.groups == (len(weights.codes) if scheme.weight_scales == "channel" else 1)
        assert scheme.scales == "real" or all(is_power_of_two(float(scale)) for scale in weights.scales)
    assert steps_from_runtime(graph) == 0


@pytest.mark.parametrize("name", EIGHT)
def test_an_lstm_takes_every_scheme_with_a_scale_a_gate(name: str) -> None:
    graph = quantized(lstm(), EIGHT[name])
    for operator in graph.operators.values():
        if isinstance(operator, QuantizedLSTM):
            assert [weights.groups for weights in (*operator.kernel, *operator.recurrent)] == [1] * 8
    if EIGHT[name].scales == "power_of_two":
        assert all(is_power_of_two(float(scale)) for weights in weights_of(graph) for scale in weights.scales)
        assert all(is_power_of_two(affine.scale) for affine in graph.affines.values())
    assert steps_from_runtime(graph) == 0


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("make", [tcn, dense, lstm])
def test_weights_of_few_bits_ship_as_simulated(bits: Any, make: Callable[[], nn.Module]) -> None:  # noqa: ANN401
    assert steps_from_runtime(quantized(make(), Scheme(bits))) == 0


def test_a_layer_can_differ_from_the_rest() -> None:
    overrides: dict[str, dict[str, Any]] = {
        "head": {"weight_bits": 8, "activations": "symmetric"},
        INPUT: {"scales": "power_of_two"},
    }
    scheme = Scheme(4, layers=overrides)
    graph = quantized(tcn(), scheme)
    bits = {name: op.weights.bits for name, op in graph.operators.items() if hasattr(op, "weights")}
    assert bits.pop("head") == 8
    assert set(bits.values()) == {4}
    assert graph.output.zero_point == 0
    assert is_power_of_two(graph.input.scale)
    others = [name for name in graph.affines if name not in ("head", INPUT)]
    alone = quantized(tcn(), Scheme(4, layers={INPUT: {"scales": "power_of_two"}}))
    assert {name: graph.affines[name] for name in others} == {name: alone.affines[name] for name in others}
    assert steps_from_runtime(graph) == 0
    assert scheme.fewest_weight_bits == 4
    assert Scheme(layers={"head": {"weight_bits": 6}}).fewest_weight_bits == 6
    # As blocks are called: where it says 8, their weights are never trained quantization-aware.
    assert Scheme(layers={"encoder.blocks.0": {"weight_bits": 4}}).fewest_weight_bits == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation_bits": 12}, "activation_bits = 12: known are 8, 16"),
        ({"activations": "unsigned"}, "activations = 'unsigned': known are asymmetric, symmetric, symmetric_unsigned"),
        ({"weight_scales": "row"}, "known are kernel, tensor, channel"),
        ({"scales": "float"}, "known are real, power_of_two"),
        ({"ranges": "entropy"}, "known are min_max, moving_average, percentile"),
        ({"layers": {"head": {"weight_bits": 5}}}, r"layers\.head\.weight_bits = 5: known are 4, 6, 8"),
        ({"layers": {"head": {"wieght_bits": 8}}}, r"layers\.head\.wieght_bits: unknown; known are weight_bits"),
        ({"layers": {"head": {"layers": {}}}}, r"layers\.head\.layers: unknown"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scheme(**fields)


def test_a_layer_that_the_network_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(UnsupportedSchemeError, match=r"layers\.heads: .*it has input, .*head"):
        quantized(tcn(), Scheme(layers={"heads": {"weight_bits": 8}}))


schemes = st.builds(
    Scheme,
    activation_bits=st.sampled_from(ACTIVATION_BITS),
    activations=st.sampled_from(["asymmetric", "symmetric", "symmetric_unsigned"]),
    scales=st.sampled_from(["real", "power_of_two"]),
)
bounds = st.one_of(st.just(0.0), st.floats(-1e6, 1e6, width=32), st.floats(-1e-3, 1e-3))


@given(schemes, bounds, bounds)
def test_codes_cover_the_range_and_the_span_gives_the_parameters_back(scheme: Scheme, one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    affine = scheme.affine(low, high)
    assert Affine.from_range(*affine.span, bits=scheme.activation_bits) == affine
    lowest, highest = affine.span
    assert lowest - 0.51 * affine.scale <= min(low, 0.0)
    assert highest + 0.51 * affine.scale >= max(high, 0.0)
    assert lowest <= 0.0 <= highest
    widest = {8: 255 if scheme.activations == "asymmetric" else 127, 16: (1 << 15) - 1}[scheme.activation_bits]
    width = max(-low, high) if scheme.activation_bits == 16 else max(-low, high, high - low, 0.0)
    tight = (2.0 if scheme.scales == "power_of_two" else 1.0) * width / widest
    assert affine.scale <= 1.0001 * max(tight, FINEST_SCALE) or tight < 1e-30


@given(st.integers(2, 8), st.integers(0, 99))
def test_weights_with_power_of_two_scales_use_more_than_half_of_their_codes(bits: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(6, 5, generator=generator) * 10.0 ** float(torch.randn(1, generator=generator))
    for groups in (1, 6):
        found = QuantizedWeights.from_float(weights, bits, groups=groups, kind="power_of_two")
        exact = QuantizedWeights.from_float(weights, bits, groups=groups)
        assert all(is_power_of_two(float(scale)) for scale in found.scales)
        assert np.all((found.scales >= exact.scales) & (found.scales < 2 * exact.scales))
        steps = np.repeat(found.scales, 6 // groups)[:, None]
        assert np.all(np.abs(found.codes * steps - weights.numpy()) <= 0.5001 * steps)


def test_ranges_by_moving_average_are_those_of_a_naive_loop() -> None:
    values = torch.randn(64 * 3 + 10, 4, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Linear(4, 2))
    found = trace(network, (4,)).calibrate(values, Scheme(ranges="moving_average"))[INPUT].output
    low, high = float(values[:64].min()), float(values[:64].max())
    for start in (64, 128, 192):
        batch = values[start : start + 64]
        low, high = 0.95 * low + 0.05 * float(batch.min()), 0.95 * high + 0.05 * float(batch.max())
    assert found == pytest.approx((low, high))


def test_ranges_by_percentile_leave_one_in_ten_thousand_out_on_either_side() -> None:
    values = torch.arange(50_000.0)[torch.randperm(50_000, generator=torch.Generator().manual_seed(0))]
    network = nn.Sequential(nn.Linear(4, 2))
    graph = trace(network, (4,))
    assert graph.calibrate(values.reshape(-1, 4), Scheme(ranges="percentile"))[INPUT].output == (5.0, 49_994.0)
    few = values[:400].reshape(-1, 4)
    assert graph.calibrate(few, Scheme(ranges="percentile")) == graph.calibrate(few)


def test_ranges_of_one_layer_can_be_taken_otherwise() -> None:
    values = samples(400)
    graph = trace(lstm(), (WINDOW, FEATURES))
    usual, other = graph.calibrate(values), graph.calibrate(values, Scheme(ranges="moving_average"))
    mixed = graph.calibrate(values, Scheme(layers={"lstm_0": {"ranges": "moving_average"}}))
    assert mixed["lstm_0"] == other["lstm_0"]
    assert mixed["lstm_0"].internals["cell"] != usual["lstm_0"].internals["cell"]
    assert {name: entry for name, entry in mixed.items() if name != "lstm_0"} == {
        name: entry for name, entry in usual.items() if name != "lstm_0"
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(0, 5, 3), "no calibration samples"),
        (torch.ones(4, 3, 5), r"shape \(3, 5\), but the network takes \(5, 3\)"),
        (torch.full((4, 5, 3), math.nan), "NaN"),
        (torch.full((4, 5, 3), -2.5), r"is -2\.5"),
    ],
)
def test_calibration_samples_are_refused_by_one_line_with_their_source(values: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=f"^samples.npz: .*{message}"):
        check_samples(values, (5, 3), "samples.npz")
    check_samples(torch.randn(2, 5, 3), (5, 3), "samples.npz")


def test_calibration_on_samples_of_another_shape_is_refused() -> None:
    graph = trace(lstm(), (WINDOW, FEATURES))
    with pytest.raises(ValueError, match="the network takes"):
        graph.calibrate(torch.randn(4, FEATURES, WINDOW))


def test_descriptions_tell_schemes_apart() -> None:
    named = [*named_schemes().values(), Scheme(4), replace(Scheme(), layers={"head": {"weight_bits": 4}})]
    assert len({scheme.description() for scheme in named}) == len(named)
    assert Scheme(4).description().startswith("int4 weights in int8 tensors")
