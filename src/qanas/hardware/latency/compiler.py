"""Cycles of an Ethos-U accelerator, as its compiler estimates them for the whole network."""

from __future__ import annotations

import collections
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from qanas.core.errors import InputError
from qanas.hardware.latency.base import Figure, LatencySource, asked_script, written

EXTRA = "ethos-u"


class Compiler(LatencySource):
    """Arm's Vela: performance of the compiled network by its model of the accelerator and its memories.

    The whole candidate is compiled: where layers share memory, their sum is not the network. Vela counts no cycle for
    what it leaves to the CPU: that is refused, or has a price. Where weights stream from flash, cycles depend on their
    values: before training they are those of weights that can't be compressed, an upper bound.

    Attributes:
        accelerator: as Vela calls it, such as ``ethos-u55-128``.
        system_config: of Vela's: clocks and bandwidths; it decides as much as the accelerator.
        memory_mode: of Vela's: which memory holds what.
        cpu_operators: "forbid" refuses a network of which some operators run on the CPU; "price" counts
            ``cpu_cycles`` for each.
        cpu_cycles: of the accelerator's, for an operator on the CPU and the switch to it and back.
        overhead_cycles: of an inference, whatever the network: a driver's.
        source: where what Vela doesn't say is from.
    """

    method: Literal["compiler"]
    accelerator: str = Field(pattern=r"^ethos-u\d+-\d+$")
    system_config: str
    memory_mode: str
    cpu_operators: Literal["forbid", "price"] = "forbid"
    cpu_cycles: float = Field(default=0.0, ge=0)
    overhead_cycles: float = Field(default=0.0, ge=0)
    source: str = ""

    @property
    def figure(self) -> Figure:
        """Cycles."""
        return "cycles"

    @property
    def described(self) -> str:
        """The compiler and its configuration."""
        return f"estimated by Vela, {self.accelerator}, {self.system_config}, {self.memory_mode}"

    @property
    def overhead(self) -> float:
        """The driver's."""
        return self.overhead_cycles

    @property
    def available(self) -> bool:
        """Whether the compiler is installed."""
        return importlib.util.find_spec("ethosu") is not None

    @property
    def lacking(self) -> str:
        """The compiler."""
        return "" if self.available else f"device: {self.accelerator} needs Arm's Vela; pip install 'qanas[{EXTRA}]'"

    def of(self, contents: Sequence[bytes]) -> list[float]:
        """Return the cycles of each file.

        Raises:
            InputError: Vela is not installed, refuses a file, dies of it, or leaves to the CPU what may not run there.
        """
        if self.lacking:
            raise InputError(self.lacking)
        with tempfile.TemporaryDirectory(prefix="vela-") as name:
            folder = Path(name)
            paths = written(contents, folder)
            found = self._compiled(paths, folder)
            if found is None:  # one that kills the compiler takes the others with it
                found = [self._alone(path, folder) for path in paths]
        return [self._cycles(entry) for entry in found]

    def _cycles(self, found: dict[str, Any]) -> float:
        on_cpu = collections.Counter(found["cpu"])
        if on_cpu and self.cpu_operators == "forbid":
            told = ", ".join(f"{count} {kind}" for kind, count in sorted(on_cpu.items()))
            raise InputError(f"{self.accelerator} leaves {on_cpu.total()} operators to the CPU: {told}")
        return float(found["cycles"]) + self.overhead_cycles + self.cpu_cycles * on_cpu.total()

    def _alone(self, path: Path, folder: Path) -> dict[str, Any]:
        found = self._compiled([path], folder)
        if found is None:
            raise InputError(f"Vela refuses the network for {self.accelerator}, or dies of it")
        return found[0]

    def _compiled(self, paths: Sequence[Path], folder: Path) -> list[dict[str, Any]] | None:
        """Return what the process says; None where it failed."""
        arguments = ["--accelerator-config", self.accelerator, "--system-config", self.system_config]
        arguments += ["--memory-mode", self.memory_mode]
        asked = {"files": [str(path) for path in paths], "folder": str(folder), "arguments": arguments}
        code, answer = asked_script("compilations.py", asked)
        return None if code else list(answer["found"])
