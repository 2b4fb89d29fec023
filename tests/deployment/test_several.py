"""Networks of several inputs and outputs: each with its own codes, in the simulation, the file and the runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qanas.deployment.arena import arena_bytes
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.hardware.memory import peak_ram_bytes
from qanas.quantization.border import named_parts
from qanas.quantization.graph import UnsupportedNetworkError
from qanas.quantization.quantization_aware import FakeQuantizedGraph
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace, trace_shapes
from tests.deployment.tflm import TFLMModel, run_in_arenas
from tests.quantization.random_networks import random_several

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Shipped:
    """A quantized network and inputs for it; half of them reach beyond the calibrated ranges."""

    network: nn.Module
    quantized: QuantizedGraph
    inputs: dict[str, Tensor]

    @classmethod
    def of(cls, network: nn.Module, shapes: Shapes, scheme: Scheme | None = None) -> Shipped:
        generator = torch.Generator().manual_seed(3)
        samples = {
            # Each its own range: no input can stand for another one.
            name: (1.0 + 4.0 * number) * torch.randn(6, *shape, generator=generator)
            for number, (name, shape) in enumerate(shapes.items())
        }
        graph = trace(network.eval(), shapes)
        scheme = scheme or Scheme()
        quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples, scheme), scheme)
        return cls(network, quantized, {name: torch.cat([x, 1.5 * x]) for name, x in samples.items()})

    @property
    def arrays(self) -> dict[str, Any]:
        return {name: values.numpy() for name, values in self.inputs.items()}

    @property
    def content(self) -> bytes:
        return write_tflite(self.quantized.program())

    def differing(self) -> dict[str, int]:
        """How many codes differ between the simulation and LiteRT's reference kernels, by output."""
        exact, fast = self.quantized.codes(self.inputs), self.quantized.codes(self.inputs, "fast")
        runtime = LiteRTModel(self.content, border=self.quantized.graph.border)
        assert (runtime.inputs, runtime.outputs) == (self.quantized.inputs, self.quantized.outputs)
        deployed = runtime.codes(self.arrays)
        assert list(deployed) == list(exact) == list(fast)
        for name, codes in exact.items():
            assert torch.equal(codes, fast[name]), name
            assert codes.shape == deployed[name].shape, name
        return {name: int((codes.numpy() != deployed[name]).sum()) for name, codes in exact.items()}


def same_as_torch(shipped: Shipped) -> None:
    with torch.no_grad():
        wanted = named_parts(shipped.network(**shipped.inputs), Tensor)
    graph = shipped.quantized.graph
    files = LiteRTModel(write_tflite(graph.program()), border=graph.border).predict(shipped.arrays)
    for found in (graph.forward(shipped.inputs), files):
        assert list(found) == list(wanted)
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name], values, atol=1e-4 * float(values.abs().max() + 1e-6), err_msg=name)


SEEDS = st.integers(0, 10**6)


@settings(max_examples=60)
@given(seed=SEEDS)
def test_random_networks_give_their_codes_in_litert_and_compute_what_torch_does(seed: int) -> None:
    shipped = Shipped.of(*random_several(seed))
    assert not any(shipped.differing().values())
    same_as_torch(shipped)


@settings(max_examples=20)
@given(seed=SEEDS)
def test_the_signature_gives_the_same_by_name(seed: int) -> None:
    shipped = Shipped.of(*random_several(seed))
    reference = OpResolverType.BUILTIN_REF
    runner = Interpreter(model_content=shipped.content, experimental_op_resolver_type=reference).get_signature_runner()
    border = shipped.quantized.graph.border
    assert set(runner.get_input_details()) == set(border.input_names)
    assert set(runner.get_output_details()) == set(border.output_names)
    model = LiteRTModel(shipped.content, border=border)
    stored = model.quantize({name: values[:1] for name, values in shipped.arrays.items()})
    wanted = model.invoke(stored)
    found = runner(**stored)
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@settings(max_examples=40)
@given(seed=SEEDS)
def test_bytes_are_known_from_shapes(seed: int) -> None:
    network, shapes = random_several(seed)
    shipped = Shipped.of(network, shapes)
    made_up = trace_shapes(lambda: random_several(seed)[0], shapes)
    for graph in (trace(network, shapes), made_up):
        program = QuantizedGraph.from_shapes(graph, Scheme()).program()
        assert len(write_tflite(program)) == len(shipped.content)
        assert peak_ram_bytes(program) == peak_ram_bytes(shipped.quantized.program())


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_are_identical_and_planned_alike_in_tflite_micro(
    seed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    shipped = Shipped.of(*random_several(seed))
    program = shipped.quantized.program()
    runtime = TFLMModel(shipped.content, shipped.quantized.graph.border)
    deployed = runtime.codes_by_name(shipped.arrays)
    dense = any(operator.kind == "FULLY_CONNECTED" for operator in program.operators)
    for name, codes in shipped.quantized.codes(shipped.inputs).items():
        assert np.abs(codes.numpy() - deployed[name]).max() <= (1 if dense else 0), name
    assert runtime.arena(capfd).planned == peak_ram_bytes(program)


def test_the_arena_that_firmware_is_told_suffices(tmp_path: Any) -> None:  # noqa: ANN401 - a path
    files = {}
    for seed in range(40, 60):
        shipped = Shipped.of(*random_several(seed))
        peak = peak_ram_bytes(shipped.quantized.program())
        files[f"several {seed}"] = (shipped.content, arena_bytes(shipped.content, peak))
    run_in_arenas(files, tmp_path)


class Shared(nn.Module):
    """One convolution, and one with its batch norm, three times each; another batch norm behind the first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.unit = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.other = nn.BatchNorm2d(8)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(3):
            x = torch.relu(self.conv(self.unit(x)))
        return x, self.other(self.conv(self.unit(y)))


def stored_weights(quantized: QuantizedGraph) -> int:
    return sum(tensor.elements for tensor in quantized.program().constants() if tensor.dtype == "int8")


@pytest.fixture
def shared() -> Shipped:
    torch.manual_seed(0)
    network = Shared()
    for name, statistic in network.named_buffers():
        if name.endswith("running_var"):
            nn.init.uniform_(statistic, 0.2, 2.0)
        elif name.endswith("running_mean"):
            nn.init.normal_(statistic)
    return Shipped.of(network, {"x": (8, 6, 6), "y": (8, 6, 6)})


def test_a_module_that_is_used_again_is_stored_once(shared: Shipped) -> None:
    assert not any(shared.differing().values())
    one = 8 * 8 * 9
    # The same weights behind another batch norm are others.
    assert stored_weights(shared.quantized) == 3 * one
    assert sum(
        tensor.elements for tensor in shared.quantized.graph.program().constants() if tensor.elements == one
    ) == (3 * one)
    assert shared.quantized.graph.parameters == 3 * (one + 8)
    shapes = {"x": (8, 6, 6), "y": (8, 6, 6)}
    assert len(write_tflite(QuantizedGraph.from_shapes(trace_shapes(Shared, shapes), Scheme()).program())) == len(
        shared.content
    )


def test_equal_weights_of_different_modules_are_stored_by_themselves() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1))
    network[1].load_state_dict(network[0].state_dict())
    shipped = Shipped.of(network, {"input": (4, 5, 5)})
    assert stored_weights(shipped.quantized) == 2 * 4 * 4 * 9


def test_other_bits_of_one_use_are_other_weights(shared: Shipped) -> None:
    graph = shared.quantized.graph
    scheme = Scheme(layers={"conv_1": {"weight_bits": 4}})
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(shared.inputs), scheme)
    assert stored_weights(quantized) == 4 * 8 * 8 * 9


def test_quantization_aware_training_keeps_shared_weights_one(shared: Shipped) -> None:
    graph = shared.quantized.graph
    module = FakeQuantizedGraph(graph, graph.calibrate(shared.inputs), Scheme(4))
    assert sum(part.numel() for part in module.parameters()) == graph.parameters
    optimizer = torch.optim.SGD(module.parameters(), 0.01)
    outputs = module(shared.inputs)
    assert list(outputs) == ["output_0", "output_1"]
    sum(values.square().mean() for values in outputs.values()).backward()
    optimizer.step()
    trained = module.graph()
    quantized = QuantizedGraph.quantize(trained, trained.calibrate(shared.inputs), Scheme(4))
    assert len(write_tflite(quantized.program())) == len(shared.content)


class Passing(nn.Module):
    """Puts out an input as it is, and one value twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = self.conv(x)
        return [x, found, found]


def test_inputs_that_come_out_and_outputs_that_come_twice_are_values_of_their_own() -> None:
    shipped = Shipped.of(Passing(), {"x": (3, 5, 6)})
    assert len(set(shipped.quantized.graph.outputs)) == 3
    assert not any(shipped.differing().values())
    same_as_torch(shipped)


class Unread(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        del y
        return torch.relu(x)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": (4,), "y": (4,)}, "no output depends on the input 'y'"),
        ({"x": (4,), "z": (4,)}, "inputs x, z for a network that takes x, y"),
        ((4,), "y: a second input; give the shape of each by its name"),
    ],
)
def test_inputs_that_the_network_does_not_take_are_refused(inputs: Any, message: str) -> None:  # noqa: ANN401 - of both kinds
    with pytest.raises(UnsupportedNetworkError, match=message):
        trace(Unread(), inputs)


def test_arrays_must_be_those_of_the_inputs(shared: Shipped) -> None:
    model = LiteRTModel(shared.content)
    with pytest.raises(ValueError, match="2 inputs; ask for them by name"):
        model.codes(shared.arrays["x"])
    with pytest.raises(ValueError, match="given x; the network has x, y"):
        model.codes({"x": shared.arrays["x"]})
    with pytest.raises(ValueError, match="3 and 12 samples"):
        shared.quantized.graph.calibrate({"x": shared.inputs["x"], "y": shared.inputs["y"][:3]})
    with pytest.raises(ValueError, match="its input 'y' takes"):
        shared.quantized.graph.calibrate({"x": shared.inputs["x"], "y": shared.inputs["y"][:, :3]})
