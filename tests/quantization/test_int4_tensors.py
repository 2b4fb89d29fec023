"""Weights two to a byte: the same outputs in the runtime, in files of the size that is known from shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import pack_int4, write_tflite
from qanas.hardware.costs import Blueprint, costs_of
from qanas.networks.deeplabv3 import DeepLabV3
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.quantization.numbers.affine import QuantizedWeights
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace
from tests.networks.image_networks import with_statistics
from tests.quantization.random_networks import random_network

TWO_TO_A_BYTE = Scheme(4, container="int4")
ONE_TO_A_BYTE = Scheme(4)
LOWEST, HIGHEST = -8, 7


def halves(raw: bytes) -> Iterator[int]:
    """Signed halves of bytes, the lower one first, as the runtime unpacks them; counted by hand, not by numpy."""
    for byte in raw:
        for half in (byte % 16, byte // 16):
            yield half - 16 if half > HIGHEST else half


@given(st.lists(st.integers(LOWEST, HIGHEST), min_size=1, max_size=9))
def test_packed_codes_are_halves_of_bytes_the_lower_one_first(codes: list[int]) -> None:
    raw = pack_int4(np.array(codes, np.int8)).tobytes()
    assert len(raw) == len(codes) // 2 + len(codes) % 2
    found = list(halves(raw))
    assert found[: len(codes)] == codes
    assert found[len(codes) :] == [0] * (len(codes) % 2)


def stored_weights(content: bytes) -> list[tuple[str, int, int, NDArray[np.int64]]]:
    """Kind of operator, its version, type of its weights, and their codes, for each operator of a file with any."""
    model = schema.Model.GetRootAs(content)
    graph = model.Subgraphs(0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    found = []
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        for tensor in (graph.Tensors(position) for position in operator.InputsAsNumpy() if position >= 0):
            data = model.Buffers(tensor.Buffer()).DataAsNumpy()
            if tensor.Type() not in (schema.TensorType.INT4, schema.TensorType.INT8) or isinstance(data, int):
                continue
            raw = data.tobytes()
            packed = tensor.Type() == schema.TensorType.INT4
            values = list(halves(raw)) if packed else np.frombuffer(raw, np.int8).tolist()
            codes = np.array(values[: int(np.prod(tensor.ShapeAsNumpy()))])
            found.append((names[code.BuiltinCode()], code.Version(), tensor.Type(), codes))
    return found


def quantized(network: nn.Module, samples: Tensor, scheme: Scheme) -> QuantizedGraph:
    graph = trace(network.eval(), tuple(samples.shape[1:]))
    return QuantizedGraph.quantize(graph, graph.calibrate(samples, scheme), scheme)


def assert_only_the_bytes_differ(network: nn.Module, samples: Tensor) -> int:
    """Compare both containers, simulation and file; return how many weights lie two to a byte."""
    packed, whole = (quantized(network, samples, scheme) for scheme in (TWO_TO_A_BYTE, ONE_TO_A_BYTE))
    contents = [write_tflite(graph.program()) for graph in (packed, whole)]
    simulated = packed.codes(samples).numpy()
    assert np.array_equal(simulated, whole.codes(samples).numpy())
    deployed = LiteRTModel(contents[0], border=packed.graph.border).codes(samples.numpy())
    assert np.count_nonzero(simulated != deployed) == 0
    saved = count = 0
    for (kind, _, stored, codes), (kind_of_whole, _, _, wanted) in zip(*map(stored_weights, contents), strict=True):
        assert kind == kind_of_whole
        assert np.array_equal(codes, wanted)
        if stored == schema.TensorType.INT4:
            saved += len(codes) - (len(codes) + 1) // 2
            count += len(codes)
    from_shapes = QuantizedGraph.from_shapes(packed.graph, TWO_TO_A_BYTE)
    told, told_of_whole = costs_of(Blueprint(packed.graph, from_shapes)), costs_of(Blueprint(packed.graph, whole))
    assert told == costs_of(Blueprint(packed.graph, packed))
    assert told["file_bytes"] == len(contents[0])
    assert told["weight_bytes"] == told_of_whole["weight_bytes"] - saved
    assert told["packed_weight_bytes"] == told_of_whole["packed_weight_bytes"]
    return count


sizes = st.integers(1, 5)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(per_group=sizes, outputs=sizes, groups=sizes, rows=sizes, columns=sizes, stride=st.integers(1, 2), seed=sizes)
def test_any_convolution(
    per_group: int, outputs: int, groups: int, rows: int, columns: int, stride: int, seed: int
) -> None:
    torch.manual_seed(seed)
    network = nn.Conv2d(per_group * groups, outputs * groups, (rows, columns), stride, groups=groups)
    count = assert_only_the_bytes_differ(network, torch.randn(4, per_group * groups, rows + 3, columns + 4))
    assert count == network.weight.numel()


@settings(deadline=None, max_examples=20, derandomize=True)
@given(features=st.integers(1, 9), outputs=st.integers(1, 9), before=st.integers(0, 3), seed=sizes)
def test_any_dense_layer(features: int, outputs: int, before: int, seed: int) -> None:
    torch.manual_seed(seed)
    shape = (before, features) if before else (features,)
    assert assert_only_the_bytes_differ(nn.Linear(features, outputs), torch.randn(8, *shape)) == features * outputs


@pytest.mark.parametrize("seed", range(24))
def test_random_networks(seed: int) -> None:
    network, shape = random_network(seed)
    assert_only_the_bytes_differ(network, torch.randn(4, *shape))


def tcn() -> nn.Module:
    return TCNNetwork((30, 14), [9, 7], 3, 2, 1, 125.0)


def deeplab() -> nn.Module:
    return with_statistics(DeepLabV3((45, 63), 5, width=0.35, atrous_rates=(2, 4)))


@pytest.mark.parametrize(("make", "shape"), [(tcn, (30, 14)), (deeplab, (3, 45, 63))])
def test_a_tcn_and_a_deeplab(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = make()
    weights = sum(values.numel() for values in network.parameters() if values.ndim > 1)
    assert assert_only_the_bytes_differ(network, torch.randn(2, *shape)) == weights


def types(network: nn.Module, shape: tuple[int, ...], scheme: Scheme) -> list[tuple[str, int, int]]:
    program = QuantizedGraph.from_shapes(trace(network.eval(), shape), scheme).program()
    return [(kind, version, stored) for kind, version, stored, _ in stored_weights(write_tflite(program))]


INT4, INT8 = schema.TensorType.INT4, schema.TensorType.INT8


@pytest.mark.parametrize(
    ("network", "shape", "fields", "expected"),
    [
        (nn.Conv2d(4, 6, 3), (4, 5, 5), {}, [("CONV_2D", 7, INT4)]),
        (nn.Conv2d(4, 6, 3), (4, 5, 5), {"weight_bits": 6}, [("CONV_2D", 3, INT8)]),
        (nn.Conv2d(4, 6, 3), (4, 5, 5), {"container": "int8"}, [("CONV_2D", 3, INT8)]),
        # Version 7 is the format's own; LiteRT's reference kernel is registered up to 6, and takes them.
        (nn.Conv2d(4, 8, 3, groups=4), (4, 5, 5), {}, [("DEPTHWISE_CONV_2D", 6, INT4)]),
        (nn.Linear(4, 6), (4,), {}, [("FULLY_CONNECTED", 10, INT4)]),
        (nn.Conv2d(4, 6, 3), (4, 5, 5), {"activation_bits": 16}, [("CONV_2D", 4, INT8)]),
        (nn.Linear(4, 6), (4,), {"weight_scales": "channel"}, [("FULLY_CONNECTED", 12, INT8)]),
        (
            LSTMNetwork(3, [5], 2, 20.0),
            (9, 3),
            {},
            [("UNIDIRECTIONAL_SEQUENCE_LSTM", 3, INT8)] * 8 + [("FULLY_CONNECTED", 10, INT4)],
        ),
    ],
)
def test_what_kernels_take(
    network: nn.Module, shape: tuple[int, ...], fields: dict[str, Any], expected: list[tuple[str, int, int]]
) -> None:
    assert types(network, shape, replace(TWO_TO_A_BYTE, **fields)) == expected


def test_a_layer_can_have_another_container() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1))
    scheme = Scheme(4, layers={"2": {"container": "int4"}})
    assert types(network, (3, 6, 6), scheme) == [("CONV_2D", 3, INT8), ("CONV_2D", 7, INT4)]


@pytest.mark.parametrize("kernels", ["reference", "optimized"])
def test_both_sets_of_kernels_run_it(kernels: Any) -> None:  # noqa: ANN401 - a literal
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(16, 3))
    content = write_tflite(quantized(network, torch.randn(16, 3, 6, 6), TWO_TO_A_BYTE).program())
    assert {stored for _, _, stored, _ in stored_weights(content)} == {INT4}
    assert LiteRTModel(content, kernels).latency_ms(2) > 0.0


def test_weights_that_need_more_bits_stay_in_int8() -> None:
    weights = [QuantizedWeights(np.zeros((3, 1), np.int8), np.ones(1, np.float32), bits) for bits in (4, 6, 8)]
    assert [entry.stored_in("int4").container for entry in weights] == ["int4", "int8", "int8"]
    assert [entry.stored_in("int4").stored_in("int8").container for entry in weights] == ["int8"] * 3


def test_descriptions_say_what_lies_where() -> None:
    schemes = [Scheme(4), TWO_TO_A_BYTE, replace(TWO_TO_A_BYTE, weight_bits=6), Scheme(6), Scheme(container="int4")]
    four, packed, six, six_as_ever, eight = (scheme.description() for scheme in schemes)
    assert four.startswith("int4 weights in int8 tensors, scales")
    assert packed.startswith("int4 weights, scales")
    assert "weights of 4 bits in int4 tensors, but in int8 ones in LSTMs" in packed
    assert six == six_as_ever
    assert eight == Scheme().description()
    assert all(one != other for one, other in pairwise((four, packed, six)))
    some = Scheme(container="int4", layers={"head": {"weight_bits": 4}}).description()
    assert "weights of 4 bits in int4 tensors" in some
