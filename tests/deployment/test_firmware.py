"""The firmware folder: compiled by the C compiler, and what it says held against the model."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor, nn

import qanas.quantization
from qanas.deployment.arena import operator_kinds
from qanas.deployment.firmware import GoldenVectors, firmware_files
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.operators import OPERATOR_KINDS
from qanas.deployment.tflite import write_tflite
from qanas.hardware.memory import peak_ram_bytes
from qanas.networks.lstm import LSTMNetwork
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace

MAIN = r"""
#include <stdio.h>
#include "model.h"
#include "golden.h"
#include "preprocessing.h"
int main(void) {
  unsigned long sum = 0;
  for (int i = 0; i < QANAS_MODEL_BYTES; ++i) sum += qanas_model[i];
  QANAS_MODEL_INPUT_TYPE input = qanas_golden_input[0][0];
  QANAS_MODEL_OUTPUT_TYPE output = qanas_golden_output[0][0];
  if (sizeof input * QANAS_MODEL_INPUT_SIZE != sizeof qanas_golden_input[0]) return 1;
  if (sizeof output * QANAS_MODEL_OUTPUT_SIZE != sizeof qanas_golden_output[0]) return 1;
  printf("%lu %d %d %d %.6f\n", sum, QANAS_GOLDEN_COUNT, (int)sizeof qanas_golden_input[0],
         qanas_golden_output[QANAS_GOLDEN_COUNT - 1][0], (double)qanas_conditions_0_means[1]);
  return 0;
}
"""


@pytest.fixture(scope="module")
def model() -> tuple[bytes, int]:
    torch.manual_seed(0)
    graph = trace(LSTMNetwork(3, [4], 1, 125.0).eval(), (10, 3))
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(torch.randn(50, 10, 3)), Scheme())
    program = quantized.program()
    return write_tflite(program), peak_ram_bytes(program)


def test_the_operators_are_those_of_the_file(model: tuple[bytes, int]) -> None:
    assert operator_kinds(model[0]) == ["FULLY_CONNECTED", "STRIDED_SLICE", "UNIDIRECTIONAL_SEQUENCE_LSTM"]


@pytest.fixture(scope="module")
def wide_model() -> tuple[bytes, int]:
    torch.manual_seed(0)
    graph = trace(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), (10, 3))
    scheme = Scheme(activation_bits=16)
    program = QuantizedGraph.quantize(graph, graph.calibrate(torch.randn(50, 10, 3)), scheme).program()
    return write_tflite(program), peak_ram_bytes(program)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler on this machine")
@pytest.mark.parametrize(("which", "item"), [("model", "int8_t"), ("wide_model", "int16_t")])
def test_the_sources_compile_and_hold_the_model(
    which: str, item: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    content, peak = request.getfixturevalue(which)
    inputs = np.random.default_rng(0).normal(size=(2, 10, 3)).astype(np.float32)
    golden = GoldenVectors.record(LiteRTModel(content), inputs)
    preprocessing = {"note": "text is left out", "conditions": [{"means": [1.0, 2.5, -3.0]}]}
    for name, text in firmware_files(content, peak, preprocessing, golden).items():
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "main.c").write_text(MAIN, "utf-8")
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-const-variable"]
    subprocess.run(["cc", *strict, "main.c", "model.c", "-o", "main"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.split()
    size = {"int8_t": 1, "int16_t": 2}[item]
    expected = [sum(content), 2, 30 * size, int(LiteRTModel(content).codes(inputs)[1].flat[0])]
    assert [int(value) for value in printed[:4]] == expected
    assert float(printed[4]) == 2.5


SEVERAL = """#include "golden.h"
#include "model.h"
#include <stdio.h>
int main(void) {
  printf("%d %d %d %d %d %d %d\\n", QANAS_MODEL_INPUT_STATE_INDEX, QANAS_MODEL_OUTPUT_CLASS_SCORES_INDEX,
         QANAS_MODEL_INPUT_X_SIZE, QANAS_MODEL_OUTPUT_STATE_SIZE, QANAS_MODEL_OUTPUT_CLASS_SCORES_ZERO_POINT,
         qanas_golden_input_x[1][0], qanas_golden_output_class_scores[1][2]);
  return 0;
}
"""


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.take, self.head = nn.Linear(9, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        state = torch.relu(self.take(torch.cat([x, state], 1)))
        return {"state": state, "class scores": self.head(state)}


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler on this machine")
def test_constants_and_golden_vectors_of_several_have_their_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    graph = trace(Cell(), {"x": (4,), "state": (5,)})
    samples = {"x": torch.randn(50, 4), "state": torch.rand(50, 5)}
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples), Scheme())
    content = write_tflite(quantized.program())
    model = LiteRTModel(content, border=graph.border)
    inputs = {name: values[:2].numpy() for name, values in samples.items()}
    golden = GoldenVectors.record(model, inputs)
    for name, text in firmware_files(content, peak_ram_bytes(quantized.program()), {}, golden).items():
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "main.c").write_text(SEVERAL, "utf-8")
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-const-variable"]
    subprocess.run(["cc", *strict, "main.c", "model.c", "-o", "main"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.split()
    codes = model.codes(inputs)
    expected = [1, 1, 4, 5, quantized.outputs["class scores"].zero_point]
    expected += [int(model.quantize(inputs)["x"][1, 0]), int(codes["class scores"][1, 2])]
    assert [int(value) for value in printed] == expected


def test_the_readme_says_that_an_lstm_keeps_its_state(model: tuple[bytes, int]) -> None:
    content, peak = model
    golden = GoldenVectors.record(LiteRTModel(content), np.zeros((1, 10, 3), np.float32))
    files = firmware_files(content, peak, {}, golden)
    assert "keeps its hidden and cell state" in files["README.md"]
    arena = re.search(r"QANAS_MODEL_ARENA_BYTES (\d+)", files["model.h"])
    assert arena is not None
    assert int(arena[1]) > peak
    assert int(arena[1]) % 16 == 0


def test_every_operator_that_the_graph_writes_can_be_deployed() -> None:
    sources = [path.read_text("utf-8") for path in Path(qanas.quantization.__file__).parent.rglob("*.py")]
    written = {kind for text in sources for kind in re.findall(r'"([A-Z][A-Z0-9_]*)"', text)}
    builtin = written & set(dir(schema.BuiltinOperator)) - {"LSTM"}  # torch's name in a message
    assert len(builtin) > 20
    assert builtin <= set(OPERATOR_KINDS)
