"""The contract of latency sources."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from qanas.core.errors import InputError
from qanas.deployment.tflite_reader import read_tflite
from qanas.quantization.program import Program, RuntimeTensor

STRICT = ConfigDict(extra="forbid", frozen=True)

Figure = Literal["latency_ms", "cycles", "instructions"]
"""What a source counts, as costs are called: milliseconds, cycles and instructions are never mixed."""


Figured = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A number of one: nothing takes less than no time."""


class LatencySource(BaseModel, ABC):
    """How latency is had; a file says which by its ``method``. Every one passes `qanas.testing.check_latency`."""

    model_config = STRICT

    @property
    @abstractmethod
    def figure(self) -> Figure:
        """What it counts."""

    @property
    @abstractmethod
    def described(self) -> str:
        """What took the time, and how it was taken, for cards."""

    @property
    def repeatable(self) -> bool:
        """Whether the same file always has the same figure; what is measured has not, and wants a quiet machine."""
        return True

    @property
    def additive(self) -> bool:
        """Whether a network's figure is the sum of its operators', whatever is beside them."""
        return False

    @property
    def overhead(self) -> float | None:
        """What every inference has once, whatever the network, in the figure's unit; None where nobody knows."""
        return None

    @property
    def lacking(self) -> str:
        """Why no figure can be had here; empty where nothing is seen to lack, which is looked at without running."""
        try:
            return "" if self.figure and self.described else "nothing is counted"
        except InputError as error:
            return str(error)

    @property
    def digest(self) -> str:
        """Changes with all that its figures depend on, but for what is measured."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @abstractmethod
    def of(self, contents: Sequence[bytes]) -> list[float]:
        """Return the figure of one inference of each of some .tflite files, in their order.

        Files that are to be compared are given together: what is measured is then measured in turns.

        Raises:
            InputError: a file can't be had a figure of, in one line.
        """

    def by_operator(self, program: Program) -> list[float] | None:
        """Return the figure of each operator of a program, in its order; None where it can't tell them apart.

        Raises:
            InputError: nothing is known of one.
        """
        del program
        return None


def asked_script(name: str, asked: Mapping[str, object]) -> tuple[int, dict[str, Any]]:
    """Run one of this package's scripts in a process of its own, and return its exit code and its answer.

    Args:
        name: of the script's file.
        asked: what it is given, as JSON.

    Returns:
        The exit code, negative where a signal ended it, and what it printed; nothing where it failed.
    """
    script = resources.files("qanas.hardware.latency").joinpath(name)
    with resources.as_file(script) as path:
        done = subprocess.run(  # noqa: S603 - our own script
            [sys.executable, str(path)], input=json.dumps(asked), capture_output=True, text=True, check=False
        )
    return done.returncode, {} if done.returncode else json.loads(done.stdout)


def written(contents: Sequence[bytes], folder: Path) -> list[Path]:
    """Write .tflite files into a folder, and return their paths in their order."""
    paths = [folder / f"network{number}.tflite" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def random_inputs(content: bytes) -> dict[str, NDArray[Any]]:
    """Return codes for each input of a .tflite file, of shape (1, *shape): the same for the same file."""
    numbers = np.random.default_rng(list(hashlib.sha256(content).digest()))
    return {name: _random(tensor, numbers) for name, tensor in read_tflite(content).inputs.items()}


def _random(tensor: RuntimeTensor, numbers: np.random.Generator) -> NDArray[Any]:
    if np.issubdtype(np.dtype(tensor.dtype), np.integer):
        ends = np.iinfo(tensor.dtype)
        return numbers.integers(ends.min, ends.max, tensor.shape, np.dtype(tensor.dtype), endpoint=True)
    return numbers.standard_normal(tensor.shape).astype(tensor.dtype)
