"""The written file, parsed with the format's own schema."""

from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.hardware.costs import Blueprint, costs_of, weight_bytes
from qanas.layers.sequences import Conv1xK
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.quantization.numbers.affine import WeightBits
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace, trace_shapes


class EveryOperator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv1xK(5, 4, 3, padding="causal")
        self.side = nn.Linear(5, 4)
        self.lstm = LSTMNetwork(4, [3, 2])

    def forward(self, x: Tensor) -> Tensor:
        both = torch.relu(self.conv(x) + self.side(x))
        output: Tensor = self.lstm(torch.relu(both[:, 2:]))
        return output


def quantized(network: nn.Module, shape: tuple[int, ...] = (9, 5), *, weight_bits: WeightBits = 8) -> QuantizedGraph:
    graph = trace(network, shape)
    samples = torch.randn(8, *shape, generator=torch.Generator().manual_seed(0))
    return QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme(weight_bits))


@pytest.fixture(scope="module", params=["int8", "float32"])
def content(request: pytest.FixtureRequest) -> bytes:
    torch.manual_seed(0)
    graph = quantized(EveryOperator())
    return write_tflite(graph.program() if request.param == "int8" else graph.graph.program())


def parsed(file: bytes) -> Any:  # noqa: ANN401 - generated code without types
    assert schema.Model.ModelBufferHasIdentifier(file, 0)
    return schema.Model.GetRootAs(file, 0)


def tensors_of(model: Any) -> list[Any]:  # noqa: ANN401 - generated code without types
    graph = model.Subgraphs(0)
    return [graph.Tensors(position) for position in range(graph.TensorsLength())]


def constant_bytes(file: bytes) -> int:
    model = parsed(file)
    used = {tensor.Buffer() for tensor in tensors_of(model)} - {0}
    assert used == set(range(1, model.BuffersLength())), "every buffer is some tensor's"
    return sum(model.Buffers(position).DataLength() for position in used)


def test_header_version_and_empty_first_buffer(content: bytes) -> None:
    model = parsed(content)
    assert content[4:8] == b"TFL3"
    assert model.Version() == 3
    assert model.SubgraphsLength() == 1
    assert model.Buffers(0).DataLength() == 0


def test_inputs_and_outputs_have_names_and_nothing_else_has(content: bytes) -> None:
    model = parsed(content)
    assert [tensor.Name() for tensor in tensors_of(model) if tensor.Name()] == [b"x", b"output"]
    assert not model.Subgraphs(0).Name()
    assert not model.Description()


def test_the_signature_names_inputs_and_outputs(content: bytes) -> None:
    model = parsed(content)
    assert model.SignatureDefsLength() == 1
    signature, graph = model.SignatureDefs(0), model.Subgraphs(0)
    assert signature.SignatureKey() == b"serving_default"
    assert [(signature.Inputs(0).Name(), signature.Inputs(0).TensorIndex())] == [(b"x", graph.Inputs(0))]
    assert [(signature.Outputs(0).Name(), signature.Outputs(0).TensorIndex())] == [(b"output", graph.Outputs(0))]


def test_constants_lie_at_multiples_of_sixteen(content: bytes) -> None:
    model = parsed(content)
    for position in range(1, model.BuffersLength()):
        data = model.Buffers(position).DataAsNumpy()
        assert (data.__array_interface__["data"][0] - np.frombuffer(content, np.uint8).ctypes.data) % 16 == 0


def test_both_fields_of_operator_codes_are_set(content: bytes) -> None:
    model = parsed(content)
    codes = [model.OperatorCodes(position) for position in range(model.OperatorCodesLength())]
    assert len({code.BuiltinCode() for code in codes}) == len(codes)
    for code in codes:
        assert code.DeprecatedBuiltinCode() == min(code.BuiltinCode(), 127) > -1
        assert code.Version() >= 1
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    assert {names[code.BuiltinCode()] for code in codes} == {
        "ADD",
        "CONV_2D",
        "FULLY_CONNECTED",
        "PAD",
        "RELU",
        "RESHAPE",
        "STRIDED_SLICE",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
    }


def test_scales_and_zero_points_are_of_one_length(content: bytes) -> None:
    for tensor in tensors_of(parsed(content)):
        parameters = tensor.Quantization()
        if parameters is not None:
            assert parameters.ScaleLength() == parameters.ZeroPointLength() >= 1


def test_states_are_variable_and_nothing_else_is(content: bytes) -> None:
    model = parsed(content)
    variable = [t for t in tensors_of(model) if t.IsVariable()]
    assert [tuple(t.ShapeAsNumpy()) for t in variable] == [(1, 3), (1, 3), (1, 2), (1, 2)]
    assert all(t.Buffer() == 0 for t in variable), "a state has no constant value"


@pytest.mark.parametrize("kernels", ["reference", "optimized"])
def test_every_sample_starts_from_a_reset_state(kernels: Any) -> None:  # noqa: ANN401 - a literal
    torch.manual_seed(0)
    graph = quantized(EveryOperator())
    one, other = torch.randn(2, 1, 9, 5, generator=torch.Generator().manual_seed(1)).numpy()
    for program in (graph.program(), graph.graph.program()):
        model = LiteRTModel(write_tflite(program), kernels)
        first = model.predict(one)
        assert not np.array_equal(model.predict(10 * other), first)
        assert np.array_equal(model.predict(one), first)


def test_the_border_of_the_file_is_that_of_the_graph() -> None:
    graph = quantized(EveryOperator())
    model = LiteRTModel(write_tflite(graph.program()))
    assert (model.input, model.output) == (graph.input, graph.output)
    assert (model.input_shape, model.output_shape) == ((1, 9, 5), (1, 1))
    floating = LiteRTModel(write_tflite(graph.graph.program()))
    assert (floating.input, floating.output) == (None, None)
    with pytest.raises(ValueError, match="float input"):
        floating.codes(np.zeros((1, 9, 5), np.float32))


def test_the_same_program_gives_the_same_bytes() -> None:
    torch.manual_seed(0)
    graph = quantized(EveryOperator())
    assert write_tflite(graph.program()) == write_tflite(graph.program())


def test_an_unknown_kind_of_operator_is_refused() -> None:
    source, target = (RuntimeTensor((1, 2), "float32") for _ in range(2))
    with pytest.raises(ValueError, match="no operator FOLD_PAPER"):
        write_tflite(Program({"x": source}, {"y": target}, [RuntimeOperator("FOLD_PAPER", 1, [source], [target])]))


def test_constants_of_unknown_types_are_refused() -> None:
    with pytest.raises(TypeError, match="float64"):
        RuntimeTensor.constant(np.zeros(2))


@pytest.mark.parametrize("damage", [b"", b"not a model at all", b"\x00" * 64])
def test_a_file_that_is_no_model_is_refused(damage: bytes) -> None:
    with pytest.raises(ValueError, match="LiteRT refuses"):
        LiteRTModel(damage)


@settings(deadline=None, max_examples=20)
@given(units=st.lists(st.integers(1, 100), min_size=1, max_size=3), features=st.integers(1, 24))
def test_bytes_known_from_shapes_are_those_in_the_file(units: list[int], features: int) -> None:
    torch.manual_seed(len(units))
    shapes = trace_shapes(lambda: LSTMNetwork(features, units), (4, features))
    costs = costs_of(Blueprint(shapes, QuantizedGraph.from_shapes(shapes, Scheme())))
    graph = quantized(LSTMNetwork(features, units), (4, features))
    for prefix, program in (("", graph.program()), ("float_", graph.graph.program())):
        file = write_tflite(program)
        assert costs[f"{prefix}file_bytes"] == len(file)
        assert costs[f"{prefix}weight_bytes"] == constant_bytes(file) == weight_bytes(program)


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize(
    "network", [LSTMNetwork(5, [7, 3]), TCNNetwork((9, 5), [3, 4], 3, 2)], ids=lambda network: type(network).__name__
)
def test_weights_of_few_bits_lie_in_the_file_one_a_byte(network: nn.Module, bits: WeightBits) -> None:
    torch.manual_seed(bits)
    graph = quantized(network.eval(), weight_bits=bits)
    file = write_tflite(graph.program())
    model = parsed(file)
    stored = [tensor for tensor in tensors_of(model) if tensor.Buffer()]
    packed, top = 0, 0
    for tensor in stored:
        data = model.Buffers(tensor.Buffer()).DataAsNumpy()
        if tensor.Type() == schema.TensorType.INT8:
            codes = data.view(np.int8)
            top = max(top, int(np.abs(codes).max()))
            packed += -(-codes.size * bits // 8) + 4 * tensor.Quantization().ScaleLength()
        else:
            packed += data.size
    assert top == 2 ** (bits - 1) - 1
    costs = costs_of(Blueprint(graph.graph, graph))
    assert costs["weight_bytes"] == constant_bytes(file)
    assert costs["packed_weight_bytes"] == packed


def test_bytes_known_from_shapes_are_those_of_a_trained_network(trained: Any) -> None:  # noqa: ANN401
    shapes = trace_shapes(lambda: LSTMNetwork(14, [8], 1, 125.0), trained.quantized.graph.input_shape)
    costs = costs_of(Blueprint(shapes, QuantizedGraph.from_shapes(shapes, Scheme())))
    file = write_tflite(trained.quantized.program())
    assert costs["file_bytes"] == len(file)
    assert costs["weight_bytes"] == constant_bytes(file)
    floating = write_tflite(trained.quantized.graph.program())
    assert costs["float_file_bytes"] == len(floating)
    assert costs["float_weight_bytes"] == constant_bytes(floating)


def test_float_file_of_a_trained_network_computes_what_was_trained(trained: Any) -> None:  # noqa: ANN401
    inputs = trained.split.inputs[:50]
    with torch.no_grad():
        expected = trained.network(torch.from_numpy(inputs)).numpy()
    outputs = LiteRTModel(write_tflite(trained.quantized.graph.program())).predict(inputs)
    assert np.abs(outputs - expected).max() < 1e-3
