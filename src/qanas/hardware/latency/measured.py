"""Latency on this machine, measured so that it agrees with itself."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from qanas.core.errors import InputError
from qanas.hardware.latency.base import Figure, LatencySource, asked_script, written

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
            answer = self._asked(written(contents, Path(folder)))
        if "ms" not in answer:
            raise InputError(f"LiteRT refuses the model: {answer['reason']}")
        return [float(value) for value in answer["ms"]]

    def _asked(self, paths: Sequence[Path]) -> dict[str, Any]:
        """Return what the process says."""
        asked = {**self.model_dump(exclude={"method"}), "files": [str(path) for path in paths]}
        code, answer = asked_script("invocations.py", asked)
        if code:
            raise InputError(f"LiteRT refuses the model: its process ended with code {code}")
        return answer
