"""Boxes in C: those that Python makes of the runtime's outputs, in C99 and in C++17, without a warning."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import torch
from tests.deployment.firmware_models import C99, CXX17

from qanas.deployment.firmware.folder import Firmware
from qanas.deployment.firmware.golden import GoldenVectors
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.networks.fastestdet import BackboneSettings, FastestDetByName, HeadSettings
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace
from qanas.tasks.detection import Detection

if TYPE_CHECKING:
    from pathlib import Path

    from qanas.tasks.detection.boxes import Fitting

MAIN = """#include <stdio.h>
#include "boxes.h"
#include "boxes_postprocessing.h"
int main(void) { printf("%d\\n", boxes_golden_answers_wrong()); return 0; }
"""

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or shutil.which("c++") is None, reason="no C and C++ compiler on this machine"
)


def firmware(classes: int, fit: Fitting) -> Firmware:
    task = Detection("nowhere", width=96, aspect=2 / 3, fit=fit)
    torch.manual_seed(classes)
    head = HeadSettings(channels=8, spp_kernels=((3,),), objectness_kernel=3, box_kernel=2, class_kernel=3)
    network = FastestDetByName(task.size, classes, head, BackboneSettings(8, 4, (16, 16, 16), (1, 1, 1))).eval()
    for parameter in network.branches.parameters():
        parameter.data *= 3  # answers of all sizes and scores
    samples = torch.randn(8, 3, *task.size, generator=torch.Generator().manual_seed(0))
    graph, scheme = trace(network, (3, *task.size)), Scheme()
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples, scheme), scheme)
    content = write_tflite(quantized.program())
    model = LiteRTModel(content, border=graph.border)
    shapes = {port.name: port.order.torch_shape(model.output_shapes[port.name][1:]) for port in graph.border.outputs}
    notes = {"classes": [str(number) for number in range(classes)]}
    golden = GoldenVectors.record(model, samples[:3].numpy())
    back_end = task.back_end(notes, shapes)
    return Firmware("boxes", content, graph.border, 0, golden, notes, back_end=back_end)


@needs_compiler
@pytest.mark.parametrize(("classes", "fit", "compiler"), [(1, "stretch", "c++"), (3, "letterbox", "cc")])
def test_c_makes_the_boxes_that_python_makes(tmp_path: Path, classes: int, fit: Fitting, compiler: str) -> None:
    found = firmware(classes, fit)
    for name, text in found.files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    answers = (tmp_path / "src" / "boxes_golden_answers.c").read_text()
    assert answers.count("\n  {") > 12  # there is something to compare
    language = C99 if compiler == "cc" else CXX17
    (tmp_path / "golden.c").write_text(MAIN if compiler == "cc" else MAIN.replace("(void)", "()"))
    sources = [f"src/boxes{part}.c" for part in ("", "_golden", "_postprocessing", "_golden_answers")]
    command = [compiler, *language, "-Isrc", "golden.c", *sources, "-o", compiler, "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / compiler], capture_output=True, text=True, check=True).stdout
    assert said == "0\n"
