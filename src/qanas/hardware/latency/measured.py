"""Latency on this machine, measured so that it agrees with itself."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from qanas.core.errors import InputError
from qanas.hardware.latency.base import Figure, LatencySource

MeasuredKernels = Literal["reference", "optimized", "xnnpack"]


class MeasuredHere(LatencySource):
    """On this machine, in LiteRT, on one thread: the least of many invocations in turns, in a process of its own.

    Attributes:
        kernels: which of the runtime's kernels: they differ by more than networks do.
        rounds: in each every file has its turn, in another order.
        invocations: that count, in a turn.
    """

    method: Literal["measured"]
    kernels: MeasuredKernels
    rounds: int = Field(default=20, ge=1)
    invocations: int = Field(default=3, ge=1)

    @property
    def figure(self) -> Figure:
        """Milliseconds."""
        return "latency_ms"

    @property
    def described(self) -> str:
        """The kernels, and what is counted."""
        return f"LiteRT {self.kernels}, 1 thread, least of {self.rounds * self.invocations} in {self.rounds} rounds"

    @property
    def repeatable(self) -> bool:
        """It is measured."""
        return False

    def of(self, contents: Sequence[bytes]) -> list[float]:
        """Return the milliseconds of each file.

        Raises:
            InputError: LiteRT refuses a file, or dies of it.
        """
        with tempfile.TemporaryDirectory(prefix="latency-") as folder:
            paths = [Path(folder) / f"{number}.tflite" for number in range(len(contents))]
            for path, content in zip(paths, contents, strict=True):
                path.write_bytes(content)
            answer = self._asked(paths)
        if "ms" not in answer:
            raise InputError(f"LiteRT refuses the model: {answer['reason']}")
        return [float(value) for value in answer["ms"]]

    def _asked(self, paths: Sequence[Path]) -> dict[str, Any]:
        """Return what the process says."""
        asked = {**self.model_dump(exclude={"method"}), "files": [str(path) for path in paths]}
        script = resources.files("qanas.hardware.latency").joinpath("invocations.py")
        with resources.as_file(script) as path:
            done = subprocess.run(  # noqa: S603 - our own script
                [sys.executable, str(path)], input=json.dumps(asked), capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise InputError(f"LiteRT refuses the model: its process ended with code {done.returncode}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found
