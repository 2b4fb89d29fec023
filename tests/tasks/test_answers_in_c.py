"""From a camera's frame to boxes and classes in C: as Python makes them of the runtime's outputs, in C99 and C++17."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.deployment.firmware_models import C99, CXX17, model_of
from torch import nn

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
from qanas.tasks.segmentation import Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qanas.tasks.detection.boxes import Fitting

MAIN = """#include <stdio.h>
#include "NAME.h"
#include "NAME_golden.h"
#include "NAME_postprocessing.h"
static int8_t input[LARGE_INPUT_SIZE];
int main(void) {
  int apart = 0;
  for (int vector = 0; vector < LARGE_GOLDEN_COUNT; ++vector) {
    apart += FROM_RAW;
  }
  (void)input;
  printf("%d answers wrong, %d steps off\\n", NAME_golden_answers_wrong(), apart);
  return 0;
}
"""

FRAME = Frame(40, 60, 3, "rgb565")

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or shutil.which("c++") is None, reason="no C and C++ compiler on this machine"
)


def boxes(classes: int, fit: Fitting) -> Firmware:
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


def pixels(*, planar: bool) -> Firmware:
    """Return a firmware that tells the classes of pixels, from a camera's frames on; planar: class by class."""
    torch.manual_seed(1)
    by_class = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.Flatten(), nn.Linear(96, 36), nn.Unflatten(1, (3, 3, 4)))
    by_pixel = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 3, 1, bias=False))
    network = by_class if planar else by_pixel
    task = Segmentation("nowhere", "folders", 16, 24, ("a", "b", "c"))
    seen = {"frame": FRAME.notes, "height": 16, "width": 24, "classes": ["a", "b", "c"]}
    camera = task.front_end({**seen, "means": [120.0, 110.0, 130.0], "deviations": [60.0, 70.0, 80.0]})
    assert camera is not None
    blocks = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 2)).astype(np.uint8)
    raw = list(blocks.repeat(8, axis=1).repeat(10, axis=2).reshape(3, 40, FRAME.row_bytes))
    inputs = np.stack([camera.input_of(frame) for frame in raw])
    plain = model_of("pixels", network, inputs, raw=raw, front_end=camera, preprocessing=seen).firmware
    return replace(plain, back_end=task.back_end(seen, {"output": tuple(network(torch.zeros(1, 3, 16, 24)).shape[1:])}))


@needs_compiler
@pytest.mark.parametrize(
    ("make", "compiler"),
    [
        (partial(boxes, 1, "stretch"), "c++"),
        (partial(boxes, 3, "letterbox"), "cc"),
        (partial(pixels, planar=False), "c++"),
        (partial(pixels, planar=True), "cc"),
    ],
    ids=["boxes", "boxes of frames", "classes of frames", "classes, channels first"],
)
def test_c_gives_the_answers_that_python_gives(tmp_path: Path, make: Callable[[], Firmware], compiler: str) -> None:
    found = make()
    for name, text in found.files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    name = found.name
    answers = (tmp_path / "src" / f"{name}_golden_answers.c").read_text()
    if name == "boxes":
        assert answers.count("\n  {") > 12  # there is something to compare
    else:
        assert {"0", "1", "2"} <= set(re.findall(r"\b\d\b", answers.split("golden_answers_wrong")[0]))
    language = C99 if compiler == "cc" else CXX17
    from_raw = f"QANAS_CAST(int, {name}_golden_from_raw(vector, input))" if found.front_end else "0"
    main = MAIN.replace("FROM_RAW", from_raw).replace("LARGE", name.upper()).replace("NAME", name)
    (tmp_path / "golden.c").write_text(main if compiler == "cc" else main.replace("(void)", "()", 1))
    parts = ["", "_golden", "_postprocessing", "_golden_answers", *(["_preprocessing"] if found.front_end else [])]
    sources = [f"src/{name}{part}.c" for part in parts]
    command = [compiler, *language, "-Isrc", "golden.c", *sources, "-o", compiler, "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / compiler], capture_output=True, text=True, check=True).stdout
    assert said == "0 answers wrong, 0 steps off\n"
