"""Hardware in the loop: a command of the user's runs the file on a board and says how long it took."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from qanas.core.errors import InputError
from qanas.core.measures import COST_UNITS
from qanas.deployment.litert import LiteRTModel
from qanas.hardware.latency.base import Figure, LatencySource, random_inputs


class Command(LatencySource):
    """A program with arguments; it prints ``{"ms": [...]}``, ``{"cycles": [...]}`` or ``{"instructions": [...]}``.

    The least of the list counts. It may print ``"outputs": [...]`` as well, the codes of all outputs of that input, one
    behind the other: they are held against LiteRT's reference kernels. It is run without a shell; a board that hangs,
    answers rubbish, computes something else or fails is asked again, and then costs one candidate, not the run.

    Attributes:
        argv: the program and its arguments; ``{model}`` stands for the .tflite file, ``{input}`` for a file of its
            inputs' bytes, one behind the other: random codes, the same for the same file.
        counts: what it counts.
        timeout_s: seconds after which it is stopped.
        attempts: how often it is run before it is given up.
        output_steps: that codes of its outputs may be off; CMSIS-NN rounds dense layers once where TFLite rounds twice.
    """

    method: Literal["command"]
    argv: tuple[str, ...] = Field(min_length=1, strict=False)
    counts: Figure = "latency_ms"
    timeout_s: float = Field(default=60.0, gt=0)
    attempts: int = Field(default=3, ge=1)
    output_steps: int = Field(default=1, ge=0)

    @field_validator("argv")
    @classmethod
    def _has_the_model(cls, argv: tuple[str, ...]) -> tuple[str, ...]:
        if not any("{model}" in part for part in argv):
            raise ValueError("no part holds {model}, the file that is to be run")
        return argv

    @property
    def figure(self) -> Figure:
        """What it counts."""
        return self.counts

    @property
    def described(self) -> str:
        """The program's name."""
        return f"measured by {Path(self.argv[0]).name}, the least of its list"

    @property
    def repeatable(self) -> bool:
        """It is measured."""
        return False

    @property
    def lacking(self) -> str:
        """The program."""
        if shutil.which(self.argv[0]) is not None:
            return ""
        return f"device.latency.argv: no program '{self.argv[0]}' on this machine: mend its name, or install it"

    def of(self, contents: Sequence[bytes]) -> list[float]:
        """Run the command for each file.

        Raises:
            InputError: it gave no answer, however often it was asked.
        """
        return [self._of(content) for content in contents]

    def _of(self, content: bytes) -> float:
        given = random_inputs(content)
        reason = ""
        with tempfile.TemporaryDirectory(prefix="board-") as folder:
            model, inputs = Path(folder) / "model.tflite", Path(folder) / "input.bin"
            model.write_bytes(content)
            inputs.write_bytes(b"".join(array.tobytes() for array in given.values()))
            argv = [part.replace("{model}", str(model)).replace("{input}", str(inputs)) for part in self.argv]
            for _ in range(self.attempts):
                try:
                    answer = self._answered(argv)
                    self._hold_outputs(answer.get("outputs"), content, given)
                    return self._figure(answer)
                except (OSError, ValueError, subprocess.SubprocessError) as error:
                    reason = " ".join(str(error).split())
        raise InputError(f"device.latency.argv: {self.argv[0]} gave no answer in {self.attempts} attempts: {reason}")

    def _answered(self, argv: Sequence[str]) -> dict[str, Any]:
        done = subprocess.run(argv, capture_output=True, timeout=self.timeout_s, check=False)  # noqa: S603 - the user's
        if done.returncode:
            told = done.stderr.decode(errors="replace").strip().splitlines()
            raise ValueError(f"it ended with code {done.returncode}{': ' + told[-1] if told else ''}")
        answer: Any = json.loads(done.stdout)
        return answer if isinstance(answer, dict) else {}

    def _figure(self, answer: Mapping[str, Any]) -> float:
        key = COST_UNITS[self.counts]
        found = answer.get(key)
        values = np.asarray(found if isinstance(found, list) else [found], object)
        if not len(values) or not all(isinstance(value, int | float) and 0 < value < np.inf for value in values):
            raise ValueError(f'it printed no {{"{key}": [...]}} of positive numbers')
        return float(min(values))

    def _hold_outputs(self, said: object, content: bytes, given: Mapping[str, NDArray[Any]]) -> None:
        """Refuse outputs that aren't LiteRT's, if there are any."""
        if said is None:
            return
        outputs = LiteRTModel(content).invoke(given)
        expected = np.concatenate([array.ravel() for array in outputs.values()]).astype(np.float64)
        found = np.array(said if isinstance(said, list) else [], object)
        if found.shape != expected.shape or not all(isinstance(code, int | float) for code in found):
            raise ValueError(f'its "outputs" are no list of {len(expected)} codes')
        off = np.abs(found.astype(np.float64) - expected)
        wrong = int((off > self.output_steps).sum())
        if wrong:
            raise ValueError(f"{wrong} of {len(expected)} outputs aren't LiteRT's, by up to {off.max():g} steps")
