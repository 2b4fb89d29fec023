"""Models as C without an interpreter: compiled here, and held to the bit against what is simulated."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from qanas.deployment.standalone.emitter import Emitter, NotCoveredError
from qanas.deployment.standalone.fusing import fused
from qanas.deployment.standalone.lowerings import LOWERINGS
from qanas.deployment.standalone.memory import Layout
from qanas.deployment.standalone.model import Standalone
from qanas.deployment.tflite import write_tflite
from qanas.deployment.tflite_reader import read_tflite
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.quantization.numbers.functions import logistic_table, tanh_table
from qanas.quantization.operators.log_softmax import LogSoftmax
from qanas.quantization.operators.rescaling import ReLU
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme, named_schemes
from qanas.quantization.tracing import trace
from qanas.testing.operators import OperatorCase
from qanas.testing.runtime import chain
from tests.contracts.test_operators import OPERATORS
from tests.deployment.standalone_models import compiled, differing
from tests.networks.image_networks import NETWORKS, with_statistics
from tests.quantization.random_networks import random_network

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler on this machine")


def quantized(network: nn.Module, *shape: int, scheme: Scheme | None = None) -> QuantizedGraph:
    """Quantize a network with random weights on random samples of a shape."""
    generator = torch.Generator().manual_seed(0)
    graph = trace(network.eval(), shape)
    samples = torch.randn(16, *shape, generator=generator)
    return QuantizedGraph.quantize(graph, graph.calibrate(samples), scheme or Scheme())


class Everything(nn.Module):
    """Every kind of operator that has a kernel, on one image of 4 channels; each result is an output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.point = nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.Conv2d(8, 7, 1)
        self.depth, self.twice = (
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Conv2d(8, 16, (3, 2), groups=8, dilation=(1, 2)),
        )
        self.groups, self.wide = nn.Conv2d(8, 6, 3, padding=1, groups=2), nn.Conv2d(8, 5, 3, padding=2, dilation=2)
        self.up = nn.ConvTranspose2d(8, 3, 3, stride=2, padding=1)
        self.prelu, self.head = nn.PReLU(8), nn.Linear(8, 5)
        self.lstm, self.gru = nn.LSTM(8, 3, batch_first=True), nn.GRU(8, 3, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = torch.relu(self.stem(x))
        pooled, sequence = y.mean((2, 3)), y.mean(2).transpose(1, 2)
        scores = self.head(sequence)
        return {
            "point": self.point(y),
            "depth": F.relu6(self.depth(y)) + y,
            "twice": F.relu6(self.twice(y) - 0.1) * 2.0,
            "groups": torch.cat([self.groups(y), y], 1),
            "wide": F.hardswish(self.wide(y)),
            "up": self.up(y),
            "max": F.max_pool2d(y, 3, 2, 1),
            "average": F.avg_pool2d(y, (2, 3), (1, 2)),
            "gate": y * torch.sigmoid(pooled)[:, :, None, None] - torch.tanh(y),
            "leaky": F.leaky_relu(self.prelu(self.depth(y)), 0.1).abs(),
            "extremes": torch.maximum(y.amax((2, 3)), torch.minimum(pooled, -pooled)),
            "smallest": y.amin(1),
            "soft": torch.softmax(scores @ scores.transpose(1, 2), -1) @ scores,
            "log": torch.log_softmax(scores, -1),
            "parts": torch.stack([part.flip(2) for part in y.chunk(2, 1)], 1),
            "mirror": F.pad(y, (1, 2, 0, 1), "reflect"),
            "padded": F.pad(y, (1, 0, 2, 1)),
            "bilinear": F.interpolate(y, (9, 7), mode="bilinear", align_corners=False),
            "nearest": F.interpolate(y, (9, 7), mode="nearest"),
            "blocks": F.pixel_unshuffle(F.pixel_shuffle(y, 2), 2)[:, 1::3, :, :2],
            "gelu": F.gelu(pooled),
            "lstm": self.lstm(sequence)[0],
            "gru": self.gru(sequence)[0],
            "expanded": pooled[:, None, :].expand(-1, 3, -1),
        }


def networks() -> dict[str, QuantizedGraph]:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(14, 9), nn.ReLU6(), nn.Linear(9, 5))
    return {
        "lstm": quantized(LSTMNetwork(14, [3, 4], 2, 125.0), 12, 14),
        "everything": quantized(Everything(), 4, 9, 8),
        "alone": QuantizedGraph.from_shapes(chain((6,), ReLU(), ReLU("relu6"), LogSoftmax()), Scheme()),
        "dense_by_output": quantized(dense, 14, scheme=named_schemes()["symmetric_per_channel"]),
    }


DSP = ("-DQANAS_DSP", "-include", str(Path(__file__).with_name("dsp_in_c.h")), "-Wno-unused-function")


@pytest.fixture(scope="module")
def found() -> dict[str, QuantizedGraph]:
    return networks()


@pytest.mark.parametrize("options", [(), DSP], ids=["reference", "dsp"])
def test_no_output_differs_from_the_simulation(
    options: tuple[str, ...], found: dict[str, QuantizedGraph], tmp_path: Path
) -> None:
    library = compiled(found, tmp_path, *options)
    assert {name: differing(library, name, each) for name, each in found.items()} == dict.fromkeys(found, 0)


def test_every_kernel_is_among_them(found: dict[str, QuantizedGraph]) -> None:
    kinds = {operator.kind for each in found.values() for operator in fused(each.program()).operators}
    assert kinds == set(LOWERINGS)


def architectures() -> dict[str, QuantizedGraph]:
    """The architectures of this package, small."""
    torch.manual_seed(0)
    cases = {f"images_{n}": quantized(with_statistics(b()), 3, *size) for n, (b, size) in enumerate(NETWORKS.values())}
    tcn, lstm = TCNNetwork((30, 14), [32] * 4, 3, 2, 1, 125.0), LSTMNetwork(14, [1, 4, 1], 1, 125.0)
    return cases | {"tcn": quantized(tcn, 30, 14), "lstm_1_4_1": quantized(lstm, 30, 14)}


def broad() -> dict[str, QuantizedGraph]:
    """Every operator between scales of several kinds, random networks, and the architectures of this package."""
    cases = {}
    for position, (operator, shapes) in enumerate(OPERATORS):
        for seed in range(4):
            name = f"operator_{position}_{seed}"
            cases[name] = OperatorCase(operator, shapes).deployed(seed, Scheme())[0].quantized
    for seed in range(30):
        network, shape = random_network(seed)
        cases[f"random_{seed}"] = quantized(network, *shape)
    few_bits = Scheme(weight_bits=4, container="int4")
    cases["few_bits"] = quantized(
        nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(80, 3)), 3, 6, 6, scheme=few_bits
    )
    for name, scheme in named_schemes().items():
        if scheme.activation_bits == Scheme().activation_bits:
            cases[f"scheme_{name}"] = quantized(Everything(), 4, 9, 8, scheme=scheme)
    return cases | architectures()


@pytest.mark.slow
def test_no_output_of_many_networks_differs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cases = broad()
    for options in ((), DSP):
        library = compiled(cases, tmp_path, "-O1", *options)
        assert {name: differing(library, name, each) for name, each in cases.items()} == dict.fromkeys(cases, 0)


def test_the_file_gives_the_same_c(found: dict[str, QuantizedGraph]) -> None:
    for name, each in found.items():
        program = each.program()
        read = read_tflite(write_tflite(program), each.graph.border)
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


def test_what_has_no_kernel_is_named(found: dict[str, QuantizedGraph]) -> None:
    wide = quantized(nn.Sequential(nn.Linear(4, 3)), 4, scheme=Scheme(activation_bits=16))
    with pytest.raises(NotCoveredError, match=r"FULLY_CONNECTED: values of int16, not of 8 bits"):
        Standalone.of("wide", wide.program())
    unknown = replace(found["dense_by_output"].program().operators[0], kind="GELU")
    program = found["dense_by_output"].program()
    program.operators[0] = unknown
    with pytest.raises(NotCoveredError, match=r"^GELU: there is no C kernel for it$"):
        Standalone.of("other", program)
