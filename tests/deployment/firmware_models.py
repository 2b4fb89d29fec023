"""Small models of one run with their firmware folders, and a C program over all of them with what it has to print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.core.c_text import identifier, reals
from qanas.deployment.firmware.folder import Firmware
from qanas.deployment.firmware.golden import GoldenVectors
from qanas.deployment.litert import LiteRTModel, dequantize
from qanas.deployment.tflite import write_tflite
from qanas.hardware.memory import peak_ram_bytes
from qanas.networks.lstm import LSTMNetwork
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace
from qanas.tasks.frames import Frame
from qanas.tasks.front_end import FrontEnd
from qanas.tasks.picture_front_end import PictureFrontEnd
from qanas.tasks.turbofan.front_end import EngineFrontEnd
from qanas.tasks.turbofan.preprocessing import Preprocessing

Rows = NDArray[np.float64]
Samples = NDArray[np.float32]

STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wdouble-promotion", "-Werror")
C99 = ("-std=c99", *STRICT, "-Wstrict-prototypes", "-Wmissing-prototypes")
CXX17 = ("-std=c++17", *STRICT, "-Wold-style-cast", "-x", "c++")


@dataclass(frozen=True)
class Model:
    """A quantized network with its firmware."""

    firmware: Firmware

    @cached_property
    def litert(self) -> LiteRTModel:
        return LiteRTModel(self.firmware.content, border=self.firmware.border)

    @property
    def name(self) -> str:
        return self.firmware.name

    def write(self, folder: Path) -> Path:
        """Write the folder; return it."""
        for name, text in self.firmware.files().items():
            path = folder / self.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return folder / self.name


def model_of(
    name: str,
    network: nn.Module,
    samples: Samples | Mapping[str, Samples],
    *,
    raw: Sequence[NDArray[Any]] = (),
    front_end: FrontEnd | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    scheme: Scheme | None = None,
) -> Model:
    """Quantize a network on samples, (n, *shape); the first ones become golden vectors, as many as there are raw."""
    scheme = scheme or Scheme()
    if isinstance(samples, np.ndarray):
        graph = trace(network.eval(), samples.shape[1:])
        by_name = {graph.border.input_names[0]: samples}
    else:
        graph = trace(network.eval(), {key: values.shape[1:] for key, values in samples.items()})
        by_name = dict(samples)
    tensors = {key: torch.from_numpy(values) for key, values in by_name.items()}
    program = QuantizedGraph.quantize(graph, graph.calibrate(tensors), scheme).program()
    content = write_tflite(program)
    golden_inputs = {key: values[: len(raw) or 2] for key, values in by_name.items()}
    golden = GoldenVectors.record(LiteRTModel(content, border=graph.border), golden_inputs, raw)
    identity, peak = identifier("a run 2", name), peak_ram_bytes(program)
    return Model(Firmware(identity, content, graph.border, peak, golden, preprocessing or {}, front_end))


def engines(seed: int, conditions: int, count: int = 40) -> tuple[Preprocessing, list[Rows]]:
    """Constants of random rows in some conditions, and random engines of 3 to 60 rows, one of them constant."""
    generator = np.random.default_rng(seed)
    centres = generator.uniform(0, 100, (conditions, 3)).round()

    def rows(cycles: int) -> Rows:
        settings = centres[generator.integers(conditions, size=cycles)] + generator.normal(0, 1e-3, (cycles, 3))
        sensors = np.linspace(10, 9000, 21) + generator.normal(0, 1, (cycles, 21)) * np.linspace(0, 40, 21)
        return np.hstack([settings, sensors.round(2)])

    fitted = rows(400)
    lengths = [3, 60, *generator.integers(3, 60, count - 2)]
    return Preprocessing.fit(fitted[:, :3], fitted[:, 3:]), [rows(int(length)) for length in lengths]


def engine_model(name: str, front_end: EngineFrontEnd, raw: list[Rows], network: nn.Module, scheme: Scheme) -> Model:
    inputs = np.stack([front_end.input_of(rows[-front_end.window :]) for rows in raw])
    golden = [rows[-front_end.window :] for rows in raw[:3]]
    return model_of(name, network, inputs, raw=golden, front_end=front_end, scheme=scheme)


class Cell(nn.Module):
    """Two inputs, two outputs, the second with a blank in its name."""

    def __init__(self) -> None:
        super().__init__()
        self.take, self.head = nn.Linear(9, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        state = torch.relu(self.take(torch.cat([x, state], 1)))
        return {"state": state, "class scores": self.head(state)}


CONSTANTS = {
    "note": "text is left out",
    "conditions": [{"means": [1.0, 2.5, -3.0]}],
    "4 sensors": [3, 5],
    "4-sensors": [float("nan"), 1e300],
}


def models() -> list[Model]:
    """An LSTM over windows, a dense network over features, a convolution of 16 bits over thinned windows of several
    conditions, one over a camera's frames, and one of several inputs and outputs."""
    torch.manual_seed(0)
    generator = np.random.default_rng(1)
    one, raw = engines(0, 1)
    several, others = engines(1, 4)
    sensors, kinds = len(one.sensors), len(several.sensors)
    four = ("mean", "slope", "deviation", "last")
    dense = nn.Sequential(nn.Linear(4 * sensors, 6), nn.ReLU(), nn.Linear(6, 1))
    conv = nn.Sequential(nn.Unflatten(1, (1, 11)), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AvgPool2d((9, kinds - 2)))
    images = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 2, 1))
    frames = list(generator.integers(0, 256, (30, 13, 21 * 3)).astype(np.uint8))
    constants = np.array([120.0, 130, 110]), np.array([40.0, 50, 60])
    camera = PictureFrontEnd(Frame(13, 21, 3), (0, 4, 13, 13), (9, 9), (9, 9), False, *constants)
    pixels = np.stack([camera.input_of(frame) for frame in frames])
    cell = {"x": generator.normal(size=(30, 4)), "state": generator.uniform(size=(30, 5))}
    described = EngineFrontEnd(one, window=20, features=four, mean_window=15)
    return [
        engine_model("seed", EngineFrontEnd(one, window=10), raw, LSTMNetwork(sensors, [4], 1, 125.0), Scheme()),
        engine_model("baseline-dense-6", described, raw, dense, Scheme()),
        engine_model("3f2a", EngineFrontEnd(several, window=31, thinning=3), others, conv, Scheme(activation_bits=16)),
        model_of("images", images, pixels, raw=frames[:2], front_end=camera),
        model_of("cell", Cell(), {k: v.astype(np.float32) for k, v in cell.items()}, preprocessing=CONSTANTS),
    ]


# The program


def probes(scale: float) -> list[float]:
    """Values that are hard to quantize, exact in float32: ties, both ends and beyond, tiny ones."""
    ties = (np.arange(-8, 9) + 0.5) * np.float32(scale)
    found = [0.0, -0.0, 1e-40, 1e30, -1e30, float("inf"), float("-inf"), 200 * scale, -200 * scale, *ties.tolist()]
    return [float(np.float32(value)) for value in found]


MISALIGNED = """
static int misaligned(const void *place) {
#ifdef __cplusplus
  return static_cast<int>(reinterpret_cast<uintptr_t>(place) % 16);
#else
  return (int)((uintptr_t)place % 16);
#endif
}
"""


def program(found: Sequence[Model]) -> str:
    """A C program that includes every header and prints, of every model, a line a thing."""
    parts = [line for model in found for line in _statements(model)]
    headers = [f'#include "{m.name}{part}.h"' for m in found for part in ("", "_golden", *_preprocessing(m))]
    body = "\n".join(f"  {line}" for line in parts)
    return "\n".join(["#include <stdio.h>", *headers, MISALIGNED, "int main(void) {", body, "  return 0;", "}", ""])


def _preprocessing(model: Model) -> list[str]:
    return ["_preprocessing"] if model.firmware.has_preprocessing else []


def _statements(model: Model) -> Iterator[str]:
    name, upper = model.name, model.name.upper()
    yield "{ unsigned long sum = 0; int32_t at;"
    yield f"for (at = 0; at < {upper}_MODEL_BYTES; ++at) sum += {name}_model[at];"
    yield f'printf("{name} %lu %d\\n", sum, misaligned({name}_model)); }}'
    for tensor in model.firmware.tensors:
        label, big = f"{name}_{{}}_{tensor.label}", f"{upper}_{tensor.label.upper()}"
        yield f'printf("{tensor.label} %d %d %d\\n", {big}_INDEX, {big}_SIZE, QANAS_CAST(int, sizeof({big}_TYPE)));'
        if tensor.side == "input":
            values = probes(tensor.affine.scale)
            yield f"{{ static const float given[{len(values) + 1}] = {{ {reals(values)}, NAN }}; int at;"
            yield f'for (at = 0; at < {len(values) + 1}; ++at) printf(" %d", {label.format("quantize")}(given[at]));'
        else:
            low, high = tensor.affine.low, tensor.affine.high
            yield f"{{ static const {big}_TYPE given[3] = {{ {low}, 0, {high} }}; int at;"
            real, golden = label.format("dequantize"), label.format("golden")
            yield f'for (at = 0; at < 3; ++at) printf(" %.7e", QANAS_CAST(double, {real}(given[at])));'
            yield f'printf(" %d", QANAS_CAST(int, {golden}_steps(1, {golden}[0])));'
        yield 'printf("\\n"); }'
    if model.firmware.c_form:
        yield f"{{ static {upper}_INPUT_TYPE codes[{upper}_INPUT_SIZE]; int32_t at; int32_t vector;"
        yield f"for (vector = 0; vector < {upper}_GOLDEN_COUNT; ++vector) {{"
        yield f'printf("raw %d", QANAS_CAST(int, {name}_golden_from_raw(vector, codes)));'
        yield f'for (at = 0; at < {upper}_INPUT_SIZE; ++at) printf(" %d", codes[at]);'
        yield 'printf("\\n"); } }'
    elif model.firmware.has_preprocessing:
        yield (
            f'printf("%.2f %d\\n", QANAS_CAST(double, {name}_preprocessing_conditions_0_means[1]), '
            f"QANAS_CAST(int, {name}_preprocessing_4_sensors[1]));"
        )


def printed(found: Sequence[Model]) -> list[str]:
    """What the program has to print."""
    return [line for model in found for line in _lines(model)]


def _lines(model: Model) -> Iterator[str]:
    golden = model.firmware.golden
    yield f"{model.name} {sum(model.firmware.content)} 0"
    for tensor in model.firmware.tensors:
        affine = tensor.affine
        yield f"{tensor.label} {tensor.index} {tensor.size} {affine.bits // 8}"
        if tensor.side == "input":
            values = np.array(probes(affine.scale), np.float32)
            wanted = model.litert._quantized(tensor.name, values)
            yield " ".join(["", *map(str, wanted.tolist()), str(affine.zero_point)])
        else:
            codes = np.array([affine.low, 0, affine.high])
            first, second = golden.outputs[tensor.name][:2].astype(np.int64)
            steps = int(np.abs(first - second).max())
            yield "".join(f" {value:.7e}" for value in dequantize(codes, affine)) + f" {steps}"
    if model.firmware.c_form:
        for codes in next(iter(golden.inputs.values())):
            yield " ".join(["raw 0", *map(str, codes.reshape(-1).tolist())])
    elif model.firmware.has_preprocessing:
        yield "2.50 5"
