from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qanas.core.errors import InputError
from qanas.core.measures import DEVICE_COSTS, FRONT_END_COSTS, Cost, Limit, cost_columns
from qanas.deployment.arena import arena_bytes
from qanas.deployment.tflite import write_tflite
from qanas.hardware.costs import PROGRAM_COSTS, SHIPPED_COSTS, Blueprint, costs_of, packed_weight_bytes
from qanas.hardware.device import Device, device_names
from qanas.hardware.latency.compiler import Compiler
from qanas.hardware.latency.emulator import Emulator
from qanas.hardware.latency.interpreter import Interpreter
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.quantization.numbers.affine import WeightBits
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace, trace_shapes

WINDOW, SENSORS = 30, 14


def costs(units: list[int], bits: WeightBits = 8) -> dict[str, float]:
    graph = trace_shapes(lambda: LSTMNetwork(SENSORS, units, 1, 125.0), (WINDOW, SENSORS))
    return costs_of(Blueprint(graph, QuantizedGraph.from_shapes(graph, Scheme(bits))))


# The last step is taken by a slice with begin, end and strides of three axes: nine int32.
SLICE = 9 * 4

ONE_OF_EIGHT = {
    "weight_bytes": 4 * 8 * (14 + 8) + 4 * 8 * 4 + SLICE + 8 + 4,
    "packed_weight_bytes": 880 + (8 + 1) * 4,
    "macs": 30 * (4 * 8 * (14 + 8) + 3 * 8) + 8,
    "float_weight_bytes": 4 * (4 * 8 * (14 + 8 + 1) + 8 + 1) + SLICE,
    "float_macs": 30 * (4 * 8 * (14 + 8) + 3 * 8) + 8,
}
TWO_OF_THREE = {
    "weight_bytes": 4 * 3 * (14 + 3) + 4 * 3 * 4 + 4 * 3 * (3 + 3) + 4 * 3 * 4 + SLICE + 3 + 4,
    "packed_weight_bytes": 411 + 4 + (16 + 1) * 4,
    "macs": 30 * (4 * 3 * (14 + 3) + 3 * 3) + 30 * (4 * 3 * (3 + 3) + 3 * 3) + 3,
    "float_weight_bytes": 4 * (4 * 3 * (14 + 3 + 1) + 4 * 3 * (3 + 3 + 1) + 3 + 1) + SLICE,
    "float_packed_weight_bytes": 4 * (4 * 3 * (14 + 3 + 1) + 4 * 3 * (3 + 3 + 1) + 3 + 1) + SLICE,
}


@pytest.mark.parametrize(("units", "expected"), [([8], ONE_OF_EIGHT), ([3, 3], TWO_OF_THREE)])
def test_costs_of_small_lstms_are_those_counted_by_hand(units: list[int], expected: dict[str, int]) -> None:
    found = costs(units)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(("bits", "weights"), [(8, 704 + 8), (6, 528 + 6), (4, 352 + 4)])
def test_packed_bytes_count_the_bits_of_the_weights_and_whole_biases_and_scales(bits: WeightBits, weights: int) -> None:
    found = costs([8], bits)
    assert found["packed_weight_bytes"] == weights + (4 * 8 + 1) * 4 + (8 + 1) * 4 + SLICE
    assert found["weight_bytes"] == costs([8])["weight_bytes"], "the file holds a weight a byte"
    assert found["float_packed_weight_bytes"] == found["float_weight_bytes"]


# One block of four channels that sees 5 of 30 steps: two convolutions of three taps, one around them, and the head.
TCN_WEIGHTS = (4 * 14 * 3, 4 * 4 * 3, 4 * 14 * 1, 4)
TCN_BIASES = 4 + 4 + 4 + 1
# Slices of three and of four axes (begin, end, strides) and the shape of two sizes; that of four is the slice's end.
TCN_INDICES = 3 * 3 + 3 * 4 + 2


def test_int4_tensors_halve_the_bytes_of_convolutions_and_of_the_head() -> None:
    graph = trace_shapes(lambda: TCNNetwork((WINDOW, SENSORS), [4], 3, 1), (WINDOW, SENSORS))
    found, whole = (
        costs_of(Blueprint(graph, QuantizedGraph.from_shapes(graph, Scheme(4, container=container))))
        for container in ("int4", "int8")
    )
    assert found["weight_bytes"] == sum(TCN_WEIGHTS) / 2 + 4 * (TCN_BIASES + TCN_INDICES)
    assert whole["weight_bytes"] - found["weight_bytes"] == sum(TCN_WEIGHTS) / 2
    assert found["packed_weight_bytes"] == whole["packed_weight_bytes"]


def test_kernels_unpack_int4_weights_into_working_memory() -> None:
    """A byte each, beside what the kernel reads (72 codes) and writes (8), all in multiples of 16."""
    graph = trace_shapes(lambda: nn.Conv2d(8, 8, 3), (8, 3, 3))
    found = {
        container: costs_of(Blueprint(graph, QuantizedGraph.from_shapes(graph, Scheme(4, container=container))))[
            "peak_ram_bytes"
        ]
        for container in ("int8", "int4")
    }
    assert found == {"int8": 80 + 16, "int4": 80 + 16 + 8 * 8 * 9}


def test_an_odd_number_of_weights_takes_a_whole_last_byte() -> None:
    graph = trace_shapes(lambda: nn.Linear(3, 1), (3,))
    quantized = QuantizedGraph.from_shapes(graph, Scheme(4, container="int4"))
    assert costs_of(Blueprint(graph, quantized))["weight_bytes"] == 2 + 4


@pytest.mark.parametrize(("bits", "weights"), [(8, 276), (6, 126 + 36 + 42 + 3), (4, 84 + 24 + 28 + 2)])
def test_packed_bytes_of_a_tcn_count_a_scale_a_channel(bits: WeightBits, weights: int) -> None:
    graph = trace_shapes(lambda: TCNNetwork((WINDOW, SENSORS), [4], 3, 1), (WINDOW, SENSORS))
    found = costs_of(Blueprint(graph, QuantizedGraph.from_shapes(graph, Scheme(bits))))
    assert found["weight_bytes"] == sum(TCN_WEIGHTS) + 4 * (TCN_BIASES + TCN_INDICES)
    scales = 4 + 4 + 4 + 1
    assert found["packed_weight_bytes"] == weights + 4 * (TCN_BIASES + TCN_INDICES + scales)


def test_the_arena_is_known_before_any_weight_is() -> None:
    """As firmware declares it for the file: with what the runtime keeps of operators, channels and tensors."""
    graph = trace_shapes(lambda: TCNNetwork((WINDOW, SENSORS), [4], 3, 1), (WINDOW, SENSORS))
    blueprint = Blueprint(graph, QuantizedGraph.from_shapes(graph, Scheme()))
    found = costs_of(blueprint)
    assert found["arena_bytes"] == arena_bytes(blueprint.file, int(found["peak_ram_bytes"]))
    assert found["arena_bytes"] > found["peak_ram_bytes"] + 160 * len(blueprint.program.operators)
    assert "float_arena_bytes" not in found
    assert Cost.parse("float_arena_bytes") is None
    assert Limit.parse(Cost("arena_bytes"), "64 KiB").bound == 65536


def test_every_cost_is_there_and_positive() -> None:
    found = costs([8])
    assert tuple(found) == tuple(model.measure.column for model in PROGRAM_COSTS)
    assert all(value > 0 for value in found.values())
    shipped = [model.measure for model in SHIPPED_COSTS]
    floats = [replace(cost, float_=True) for cost in shipped if cost.name != "arena_bytes"]
    assert [model.measure for model in PROGRAM_COSTS] == [*shipped, *floats]
    assert set(found) | DEVICE_COSTS | set(FRONT_END_COSTS) == set(cost_columns()), "recipes may name no other"


def test_the_file_of_twenty_units_is_small() -> None:
    assert costs([20])["file_bytes"] <= 6200


def random_weights(network: LSTMNetwork, kind: str) -> LSTMNetwork:
    with torch.no_grad():
        for parameter in network.parameters():
            if kind == "equal":
                parameter.fill_(0.1)
            elif kind == "zero":
                parameter.zero_()
            elif kind == "shifted":
                parameter.abs_()
    return network


@settings(deadline=None, max_examples=25)
@given(
    units=st.lists(st.integers(1, 100), min_size=1, max_size=3),
    kind=st.sampled_from(["random", "equal", "zero", "shifted"]),
    data=st.sampled_from(["normal", "positive", "constant", "symmetric"]),
)
def test_sizes_from_shapes_are_those_of_any_weights(units: list[int], kind: str, data: str) -> None:
    torch.manual_seed(sum(units))
    graph = trace(random_weights(LSTMNetwork(SENSORS, units, 1, 125.0), kind), (6, SENSORS))
    samples = {
        "normal": torch.randn(4, 6, SENSORS),
        "positive": torch.rand(4, 6, SENSORS),
        "constant": torch.zeros(4, 6, SENSORS),
        # Range and so zero point of the input are those of a hidden state or of nobody, as it happens.
        "symmetric": torch.linspace(-1.0, 1.0, 24 * SENSORS).reshape(4, 6, SENSORS),
    }[data]
    trained = costs_of(Blueprint(graph, QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())))
    shapes = trace_shapes(lambda: LSTMNetwork(SENSORS, units, 1, 125.0), (6, SENSORS))
    assert costs_of(Blueprint(shapes, QuantizedGraph.from_shapes(shapes, Scheme()))) == trained


def test_the_graph_of_shapes_alone_is_that_of_the_network() -> None:
    shapes = trace_shapes(lambda: LSTMNetwork(SENSORS, [5, 4]), (WINDOW, SENSORS))
    whole = trace(LSTMNetwork(SENSORS, [5, 4]), (WINDOW, SENSORS))
    assert shapes.shapes == whole.shapes
    assert len(write_tflite(shapes.program())) == len(write_tflite(whole.program()))


def test_a_constant_of_unknown_width_has_no_cost() -> None:
    source = RuntimeTensor((1, 2), "float32")
    unknown = RuntimeTensor((2,), "float32", data=np.zeros(2, np.float32))
    program = Program({"x": source}, {"y": source}, [RuntimeOperator("ADD", 1, [source, unknown], [source])])
    with pytest.raises(ValueError, match="how many bits"):
        packed_weight_bytes(program)


def test_an_unknown_device_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"device\.name.*did you mean 'host'"):
        Device.named("hots")
    assert "host" in device_names()


def test_every_device_file_is_valid_and_has_a_latency() -> None:
    graph = trace_shapes(lambda: LSTMNetwork(SENSORS, [4]), (WINDOW, SENSORS))
    content = write_tflite(QuantizedGraph.from_shapes(graph, Scheme()).program())
    for name in device_names():
        device = Device.named(name)
        assert device.name == name
        if isinstance(device.latency, Compiler | Emulator | Interpreter):
            continue  # a process each: tests/hardware/test_latency.py, test_emulator.py
        assert 0.0 < device.figure("latency_ms", [content])[0] < 1000.0
