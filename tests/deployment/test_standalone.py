"""Models as C without an interpreter: compiled here, and held to the bit against what is simulated."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from qanas.deployment.read_tflite import read_program
from qanas.deployment.standalone.emitter import Emitter
from qanas.deployment.standalone.memory import Layout
from qanas.deployment.standalone.model import Standalone
from qanas.deployment.tflite import write_tflite
from qanas.networks.lstm import LSTMNetwork
from qanas.quantization.numbers.functions import logistic_table, tanh_table
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme, named_schemes
from qanas.quantization.tracing import trace
from tests.deployment.standalone_models import compiled, differing

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler on this machine")


def quantized(network: nn.Module, *shape: int, scheme: Scheme | None = None) -> QuantizedGraph:
    """Quantize a network with random weights on random samples of a shape."""
    generator = torch.Generator().manual_seed(0)
    graph = trace(network.eval(), shape)
    samples = torch.randn(16, *shape, generator=generator)
    return QuantizedGraph.quantize(graph, graph.calibrate(samples), scheme or Scheme())


def networks() -> dict[str, QuantizedGraph]:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(14, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU6(), nn.Linear(9, 5))
    return {
        "lstm": quantized(LSTMNetwork(14, [3, 4], 2, 125.0), 12, 14),
        "lstm_small": quantized(LSTMNetwork(3, [1, 4, 1], 1, 125.0), 9, 3),
        "dense": quantized(dense, 14),
        "dense_by_output": quantized(dense, 14, scheme=named_schemes()["symmetric_per_channel"]),
    }


@pytest.fixture(scope="module")
def found() -> dict[str, QuantizedGraph]:
    return networks()


@pytest.fixture(scope="module")
def library(found: dict[str, QuantizedGraph], tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compiled(found, tmp_path_factory.mktemp("standalone"))


def test_no_output_differs_from_the_simulation(library: ctypes.CDLL, found: dict[str, QuantizedGraph]) -> None:
    assert {name: differing(library, name, each) for name, each in found.items()} == dict.fromkeys(found, 0)


def test_the_file_gives_the_same_c(found: dict[str, QuantizedGraph]) -> None:
    for name, each in found.items():
        program = each.program()
        read = read_program(write_tflite(program), each.graph.border)
        assert Standalone.of(name, read) == Standalone.of(name, program)


GATES = """
void gates(int16_t *logistic, int16_t *tangent) {
  for (int32_t code = -32768; code < 32768; ++code) {
    *logistic++ = (int16_t)logistic_of_gate(code);
    for (int bits = 0; bits < 7; ++bits) *tangent++ = (int16_t)tanh_of_gate(code, bits);
  }
}
"""


def test_gates_are_the_tables_for_every_code(tmp_path: Path) -> None:
    emitter = Emitter(Layout(0))
    emitter.call("gate_functions")
    (tmp_path / "gates.c").write_text(f"#include <stdint.h>\n{emitter.kernel_text()}{GATES}", "utf-8")
    subprocess.run(["cc", "-O1", "-std=c99", "-shared", "-fPIC", "gates.c", "-o", "gates.so"], cwd=tmp_path, check=True)
    logistic, tangents = np.empty(1 << 16, np.int16), np.empty((1 << 16, 7), np.int16)
    places = (array.ctypes.data_as(ctypes.c_void_p) for array in (logistic, tangents))
    ctypes.CDLL(str(tmp_path / "gates.so")).gates(*places)
    assert np.array_equal(logistic, logistic_table().numpy())
    for bits in range(7):
        assert np.array_equal(tangents[:, bits], tanh_table(bits).numpy())
