"""TFLite Micro: what a microcontroller runs, from Python."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qanas.deployment.litert import LiteRTModel
from qanas.quantization.border import Border

runtime: Any = pytest.importorskip(
    "tflite_micro.python.tflite_micro.runtime",
    reason="tflite-micro (extra dev, Linux on x86-64 alone) is not installed",
)

LARGE_ARENA = 1 << 23


@dataclass(frozen=True)
class Arena:
    """What the interpreter says of its memory, in bytes.

    Attributes:
        planned: values and kernels' buffers, placed by the planner.
        states: of LSTMs.
        used: all of it, the runtime's own part included.
    """

    planned: int
    states: int
    used: int


class TFLMModel:
    """A .tflite file in TFLite Micro's interpreter."""

    def __init__(self, content: bytes, border: Border) -> None:
        self.interpreter = runtime.Interpreter.from_bytes(content, arena_size=LARGE_ARENA)
        self.litert = LiteRTModel(content, border=border)

    def codes(self, inputs: NDArray[np.float32]) -> NDArray[np.int64]:
        """The codes of the only output for the only input's real values, (n, ...), in the torch network's order."""
        (name,) = self.litert.inputs
        (codes,) = self.codes_by_name({name: inputs}).values()
        return codes

    def codes_by_name(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.int64]]:
        """The output codes of real inputs, each (n, ...), by their names, all in the torch network's order."""
        stored = self.litert.quantize(inputs)
        found: dict[str, list[NDArray[Any]]] = {name: [] for name in self.litert.outputs}
        for at in range(len(next(iter(stored.values())))):
            self.interpreter.reset()
            for place, values in enumerate(stored.values()):
                self.interpreter.set_input(np.ascontiguousarray(values[at : at + 1]), place)
            self.interpreter.invoke()
            for place, name in enumerate(found):
                found[name].append(self.interpreter.get_output(place))
        orders = {port.name: port.order for port in self.litert.border.outputs}
        whole = {name: np.concatenate(parts).astype(np.int64) for name, parts in found.items()}
        return {name: values.transpose(orders[name].to_torch(values.ndim)) for name, values in whole.items()}

    def arena(self, capfd: pytest.CaptureFixture[str]) -> Arena:
        """What it says, which it does on standard error only."""
        capfd.readouterr()
        self.interpreter.print_allocations()
        said = capfd.readouterr().err
        total, head = (re.search(rf"allocation {part} (\d+)", said) for part in ("total", "head"))
        states = re.search(r"variable buffer data' used (\d+)", said)
        assert total is not None
        assert head is not None
        return Arena(int(head[1]), 0 if states is None else int(states[1]), int(total[1]))


RUN = """
import sys
from pathlib import Path
from tflite_micro.python.tflite_micro import runtime
for path in map(Path, sys.argv[1:]):
    print(path.stem, flush=True)
    runtime.Interpreter.from_bytes(path.read_bytes(), arena_size=int(path.stem.split("-")[1])).invoke()
"""


def run_in_arenas(files: dict[str, tuple[bytes, int]], folder: Path) -> None:
    """Run files once, each in an arena of some bytes; another process does: too small a one may end it."""
    paths = []
    for name, (content, size) in files.items():
        paths.append(folder / f"{name.replace('-', ' ')}-{size}.tflite")
        paths[-1].write_bytes(content)
    done = subprocess.run([sys.executable, "-c", RUN, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]}: {done.stderr}"
