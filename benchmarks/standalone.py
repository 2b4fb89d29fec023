"""Models as C without an interpreter on emulated Cortex-M: flash, RAM, instructions, and outputs that differ.

    PYTHONPATH=. python benchmarks/standalone.py docs/results/standalone.json

Networks have random weights (sizes and instructions hardly depend on them); inputs are random codes. Flash is that of a
linked program that does nothing but run the model: code, weights, and what of the C library it takes; RAM likewise,
without the stack. Instructions are those of one inference, counted by QEMU's clock (-icount), the same in every run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tests.deployment.standalone_models import random_codes, simulated
from tests.networks.image_networks import classifier
from torch import nn

from qanas.core.c_text import array
from qanas.deployment.boards.board import BOARDS, Board
from qanas.deployment.standalone.model import Standalone
from qanas.networks.deeplabv3 import DeepLabV3
from qanas.networks.fastestdet import FastestDet
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.quantization.program import Program
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace

VECTORS = 2

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lstm_1_4_1": (lambda: LSTMNetwork(14, [1, 4, 1], 1, 125.0), (30, 14)),
    "lstm_20": (lambda: LSTMNetwork(14, [20], 1, 125.0), (30, 14)),
    "lstm_100_100": (lambda: LSTMNetwork(14, [100, 100], 1, 125.0), (30, 14)),
    "tcn_32x4": (lambda: TCNNetwork((30, 14), [32] * 4, 3, 2, 1, 125.0), (30, 14)),
    "mobilenet_v2_035_96": (lambda: classifier("mobilenet_v2_0.35", classes=1000), (3, 96, 96)),
    "deeplabv3_050_96x128": (lambda: DeepLabV3((96, 128), 11, width=0.5), (3, 96, 128)),
    "fastestdet_224": (lambda: FastestDet((224, 224)), (3, 224, 224)),
}

OPTIONS = {"-Os": ("-Os",), "-O2": ("-O2",), "-O2, no DSP": ("-O2", "-DQANAS_NO_DSP")}

MAIN = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "{name}_standalone.h"

static const int8_t inputs[{count}][{input_size}] = {{{inputs}}};
static const int8_t outputs[{count}][{output_size}] = {{{outputs}}};

/* The system timer, with a count of how often it ran down. */
#define REGISTER(address) (*(volatile uint32_t *)(address))
static volatile uint32_t rounds;
static uint32_t table[16] __attribute__((aligned(128)));
static void ran_down(void) {{ ++rounds; }}
static uint64_t ticks(void) {{ return (uint64_t)rounds * 0x1000000 + (0xFFFFFF - REGISTER(0xE000E018)); }}

int main(void) {{
  int vector, at;
  memcpy(table, (const void *)REGISTER(0xE000ED08), sizeof table);
  table[15] = (uint32_t)&ran_down;
  REGISTER(0xE000ED08) = (uint32_t)table;
  REGISTER(0xE000E014) = 0xFFFFFF;
  REGISTER(0xE000E018) = 0;
  REGISTER(0xE000E010) = 7;
  for (vector = 0; vector < {count}; ++vector) {{
    int wrong = 0;
    uint64_t start;
    memcpy({name}_standalone_{input}(), inputs[vector], sizeof inputs[vector]);
    start = ticks();
    {name}_standalone_run();
    printf("%lu", (unsigned long)(ticks() - start));
    for (at = 0; at < {output_size}; ++at) {{
      wrong += {name}_standalone_{output}()[at] != outputs[vector][at] ? 1 : 0;
    }}
    printf(" %d\\n", wrong);
  }}
  return 0;
}}
"""

ALONE = """
#include "{name}_standalone.h"
int main(void) {{
  *{name}_standalone_{input}() = 1;
  {name}_standalone_run();
  return *{name}_standalone_{output}();
}}
"""


def quantized(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> QuantizedGraph:
    """Quantize a network with random weights on random samples of a shape."""
    torch.manual_seed(0)
    graph = trace(build().eval(), shape)
    return QuantizedGraph.quantize(graph, graph.calibrate(torch.randn(4, *shape)), Scheme())


def write(name: str, network: QuantizedGraph, folder: Path) -> str:
    """Write a network's sources, and programs around it; return the model's."""
    standalone = Standalone.of(name, network.program())
    for file, text in standalone.files().items():
        (folder / file).write_text(text, "utf-8")
    codes = random_codes(network, VECTORS)
    wanted = simulated(network, codes)
    given, answers = (next(iter(side.values())).reshape(VECTORS, -1) for side in (codes, wanted))
    label = "output" if len(wanted) == 1 else f"output_{next(iter(wanted))}"
    labels = {"name": name, "input": "input", "output": label.lower()}
    rows = {"inputs": _rows(given), "outputs": _rows(answers)}
    sizes = {"count": VECTORS, "input_size": given.shape[1], "output_size": answers.shape[1]}
    (folder / "main.c").write_text(MAIN.format(**labels, **sizes, **rows), "utf-8")
    (folder / "alone.c").write_text(ALONE.format(**labels), "utf-8")
    return f"{name}_standalone.c"


def _rows(codes: np.ndarray) -> str:
    return ",\n".join(f"{{{array(row)}}}" for row in codes.tolist())


def said(command: list[str], folder: Path) -> str:
    """Run one of this file's commands; return what it prints."""
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout  # noqa: S603


def flash_and_ram(board: Board, folder: Path, source: str, options: tuple[str, ...]) -> tuple[int, int]:
    """Return what a program takes that does nothing but run the model, in bytes."""
    command = ["arm-none-eabi-gcc", *board.core, "-mthumb", "-std=c99", *options, "-ffunction-sections"]
    command += ["-fdata-sections", "alone.c", source, "-nostartfiles", "--specs=nano.specs", "-Wl,--gc-sections"]
    said([*command, "-Wl,-e,main", "-o", "alone.elf"], folder)
    text, data, bss = map(int, said(["arm-none-eabi-size", "alone.elf"], folder).splitlines()[1].split()[:3])
    return text + data, data + bss


def measured(name: str, network: QuantizedGraph) -> dict[str, object]:
    """Return what is known of a network, by board and options of the compiler."""
    program: Program = network.program()
    stored = sum(tensor.stored_bytes for tensor in program.constants())
    found: dict[str, object] = {"weight_bytes": stored, "macs": _macs(network)}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = write(name, network, folder)
        for core, board in BOARDS.items():
            for label, options in OPTIONS.items():
                flash, ram = flash_and_ram(board, folder, source, options)
                lines = board.run(board.linked(folder, ["main.c", source], *options)).stdout.split("\n")[:VECTORS]
                ticks, wrong = zip(*(map(int, line.split()) for line in lines), strict=True)
                instructions = [round(each * board.instructions_of_tick) for each in ticks]
                found[f"{core}, {label}"] = {
                    "flash_bytes": flash, "ram_bytes": ram, "instructions": instructions, "differing": sum(wrong),
                }  # fmt: skip
                print(name, core, label, found[f"{core}, {label}"], flush=True)
    return found


def _macs(network: QuantizedGraph) -> int:
    shapes = network.graph.shapes
    return sum(node.operator.macs(*(shapes[name] for name in node.inputs)) for node in network.graph.nodes)


def main() -> None:
    """Measure, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="JSON file; results of other networks in it are kept")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    arguments = parser.parse_args()
    out, compiler = arguments.out, said(["arm-none-eabi-gcc", "--version"], Path()).splitlines()[0]
    found: dict[str, object] = json.loads(out.read_text("utf-8")) if out.is_file() else {"compiler": compiler}
    if found["compiler"] != compiler:
        parser.error(f"{out} is of {found['compiler']}, here is {compiler}: begin another file")
    for name in arguments.networks:
        found[name] = measured(name, quantized(*NETWORKS[name]))
        out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
