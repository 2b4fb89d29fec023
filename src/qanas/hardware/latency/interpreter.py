"""Instructions of TFLite Micro with CMSIS-NN on an emulated Cortex-M55, of the network and of each operator."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from qanas.core.errors import InputError
from qanas.deployment.boards.board import EMULATOR, BoardError, version
from qanas.deployment.boards.cmsis_nn import Interpreted, Runner
from qanas.deployment.boards.cmsis_nn import lacking as lacking_here
from qanas.deployment.tflite import write_tflite
from qanas.deployment.tflite_reader import read_tflite
from qanas.hardware.latency.base import Figure, LatencySource, random_inputs
from qanas.quantization.program import Program


class Interpreter(LatencySource):
    """Arm's build of TFLite Micro with CMSIS-NN, in QEMU: the file as it ships, half a second a small network.

    Instructions of random codes, the same in every run; no cycles: there are no caches, and vector instructions take
    more than one. What was counted is kept by the file's digest as long as the process lives.

    Attributes:
        runner: the path of Arm's program, relative ones start from the device's file; empty: that of $QANAS_CMSIS_NN,
            which ``make emulator`` fetches.
        timeout_s: seconds after which a run is stopped.
    """

    method: Literal["interpreter"]
    runner: str = ""
    timeout_s: float = Field(default=300.0, gt=0)

    @property
    def figure(self) -> Figure:
        """Instructions."""
        return "instructions"

    @property
    def described(self) -> str:
        """The interpreter, its kernels, and what it runs on."""
        return f"TFLite Micro with CMSIS-NN on an emulated Cortex-M55, counted by QEMU {version(EMULATOR) or 'lacking'}"

    @property
    def lacking(self) -> str:
        """The runner, or a tool."""
        why = lacking_here(self.runner)
        return f"device: on an emulated Cortex-M55: {why}" if why else ""

    def of(self, contents: Sequence[bytes]) -> list[float]:
        """Return the instructions of each file.

        Raises:
            InputError: the runner or a tool isn't there, or it refuses a file.
        """
        return [float(found.instructions) for found in self._ran(contents)]

    def by_operator(self, program: Program) -> list[float]:
        """Return the instructions of each operator.

        Raises:
            InputError: the runner or a tool isn't there, or it refuses the program.
        """
        return list(map(float, self._ran([write_tflite(program)])[0].by_operator))

    def _ran(self, contents: Sequence[bytes]) -> list[Interpreted]:
        keys = [(self.runner, hashlib.sha256(content).hexdigest()) for content in contents]
        lacking = {key: content for key, content in zip(keys, contents, strict=True) if key not in _RAN}
        if lacking:
            for content in lacking.values():
                read_tflite(content)  # refuses what is no .tflite file
            try:
                with tempfile.TemporaryDirectory(prefix="board-") as folder:
                    runner = Runner.made(Path(folder), self.runner)
                    for key, content in lacking.items():
                        given = b"".join(array.tobytes() for array in random_inputs(content).values())
                        _RAN[key] = runner.run(content, given, self.timeout_s)
            except BoardError as error:
                raise InputError(f"device: on an emulated Cortex-M55: {error}") from error
        return [_RAN[key] for key in keys]


_RAN: dict[tuple[str, str], Interpreted] = {}
"""What was run in this process, by runner and digest of the file."""
