"""From a camera's frame to boxes in C: those that Python makes of the runtime's outputs, in C99 and C++17."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
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
from qanas.tasks.frames import Frame

if TYPE_CHECKING:
    from pathlib import Path

    from qanas.tasks.detection.boxes import Fitting

MAIN = """#include <stdio.h>
#include "boxes.h"
#include "boxes_golden.h"
#include "boxes_postprocessing.h"
static int8_t input[BOXES_INPUT_SIZE];
int main(void) {
  int apart = 0;
  for (int vector = 0; vector < BOXES_GOLDEN_COUNT; ++vector) {
    apart += %s;
  }
  (void)input;
  printf("%%d answers wrong, %%d steps off\\n", boxes_golden_answers_wrong(), apart);
  return 0;
}
"""

FRAME = Frame(40, 60, 3, "rgb565")

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or shutil.which("c++") is None, reason="no C and C++ compiler on this machine"
)


def firmware(classes: int, fit: Fitting) -> Firmware:
    """Return a detector's firmware; of a letterbox from a camera's frames on.

    What the simulation computes is what LiteRT does, to the code.
    """
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
    inputs, raw, camera = samples[:3].numpy(), [], None
    if fit == "letterbox":
        seen = {"frame": FRAME.notes, "height": 64, "width": 96, "fit": fit}
        camera = task.front_end({**seen, "means": [120.0, 110.0, 130.0], "deviations": [60.0, 70.0, 80.0]})
        assert camera is not None
        raw = list(np.random.default_rng(0).integers(0, 256, (3, 40, FRAME.row_bytes)).astype(np.uint8))
        inputs = np.stack([camera.input_of(frame) for frame in raw])
    (name,) = graph.border.input_names
    simulated = quantized.codes({name: torch.from_numpy(inputs)}, "exact")
    for output, codes in model.codes({name: inputs}).items():
        np.testing.assert_array_equal(simulated[output].numpy(), codes)
    back_end = task.back_end(notes, shapes)
    golden = GoldenVectors.record(model, inputs, raw)
    return Firmware("boxes", content, graph.border, 0, golden, notes, front_end=camera, back_end=back_end)


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
    from_raw = "(int)boxes_golden_from_raw(vector, input)" if found.front_end else "0"
    main = MAIN % from_raw
    (tmp_path / "golden.c").write_text(main if compiler == "cc" else main.replace("(void)", "()", 1))
    parts = ["", "_golden", "_postprocessing", "_golden_answers", *(["_preprocessing"] if found.front_end else [])]
    sources = [f"src/boxes{part}.c" for part in parts]
    command = [compiler, *language, "-Isrc", "golden.c", *sources, "-o", compiler, "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / compiler], capture_output=True, text=True, check=True).stdout
    assert said == "0 answers wrong, 0 steps off\n"
