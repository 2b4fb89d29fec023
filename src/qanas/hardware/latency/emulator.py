"""Instructions of a network as C without an interpreter, counted on an emulated Cortex-M."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from qanas.core.errors import InputError
from qanas.deployment.boards.board import (
    BOARDS,
    COMPILER,
    EMULATOR,
    NAME,
    PACKAGES,
    BoardError,
    Core,
    lacking,
    version,
)
from qanas.deployment.standalone.emitter import NotCoveredError
from qanas.deployment.standalone.footprint import Optimized
from qanas.deployment.standalone.model import Standalone
from qanas.deployment.tflite_reader import read_tflite
from qanas.hardware.latency.base import Figure, LatencySource


class Emulator(LatencySource):
    """QEMU's Cortex-M, which counts the instructions of one inference: the same in every run, and no cycles.

    The candidate is written as C, compiled and run, a few seconds a network; what was counted is kept by the file's
    digest as long as the process lives.

    Attributes:
        core: of the emulated board.
        optimized: what the compiler is told.
        timeout_s: seconds after which a run is stopped.
    """

    method: Literal["emulator"]
    core: Core
    optimized: Optimized = "-O2"
    timeout_s: float = Field(default=300.0, gt=0)

    @property
    def figure(self) -> Figure:
        """Instructions."""
        return "instructions"

    @property
    def described(self) -> str:
        """The emulated board, and what compiled for it."""
        compiler, emulator = (version(tool) or "lacking" for tool in (COMPILER, EMULATOR))
        board = f"an emulated {self.core} ({BOARDS[self.core].machine})"
        return f"qanas' C on {board}, counted by QEMU {emulator}, gcc {compiler} {self.optimized}"

    @property
    def lacking(self) -> str:
        """The compiler, or QEMU."""
        missing = lacking((COMPILER, EMULATOR))
        if not missing:
            return ""
        return (
            f"device: an emulated {self.core} needs {' and '.join(missing)}; make emulator, or on Debian and Ubuntu "
            f"apt-get install {PACKAGES}"
        )

    def of(self, contents: Sequence[bytes]) -> list[float]:
        """Return the instructions of each file.

        Raises:
            InputError: a tool isn't there, there is no C form of a file, or it doesn't fit or run on the board.
        """
        if self.lacking:
            raise InputError(self.lacking)
        return [self._counted(content) for content in contents]

    def _counted(self, content: bytes) -> float:
        key = (self.core, self.optimized, hashlib.sha256(content).hexdigest())
        if key not in _COUNTED:
            try:
                model = Standalone.of(NAME, read_tflite(content))
                _COUNTED[key] = BOARDS[self.core].inference(model, self.optimized, self.timeout_s).instructions
            except (NotCoveredError, BoardError) as error:
                raise InputError(f"device: on an emulated {self.core}: {error}") from error
        return _COUNTED[key]


_COUNTED: dict[tuple[str, str, str], float] = {}
"""What was counted in this process, by core, option and digest of the file."""
