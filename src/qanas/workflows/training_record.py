"""What is known of a finished training of a finalist, and the files that it is kept in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qanas.core.card import Precision, SplitName
from qanas.deployment.parity import ParitySteps

Metrics = Mapping[Precision, Mapping[SplitName, Mapping[str, float]]]


@dataclass(frozen=True)
class Training:
    """One finished training of a finalist.

    Attributes:
        seed: the training's number, from 0.
        metrics: by precision, split and metric; empty if it failed.
        parity: distance between simulated and deployed outputs.
        failure: why it can't ship; empty if it can.
        sha256: of the file.
        cpu_seconds: of all that the training took, export and scores included; 0 in the records of early runs.
    """

    seed: int
    metrics: Metrics
    parity: ParitySteps
    failure: str = ""
    sha256: str = ""
    cpu_seconds: float = 0.0

    @classmethod
    def failed(cls, seed: int, reason: str) -> Training:
        """Return a training without a model."""
        return cls(seed, {}, ParitySteps(0, 0.0, 0), reason)


@dataclass(frozen=True)
class TrainingFiles:
    """Where one training of a finalist is kept until it ships."""

    folder: Path
    seed: int

    @property
    def result(self) -> Path:
        """Metrics and parity, written last: where it is, the others are."""
        return self.folder / f"{self.seed}.json"

    @property
    def model(self) -> Path:
        """The .tflite file."""
        return self.folder / f"{self.seed}.tflite"

    @property
    def weights(self) -> Path:
        """The FP32 weights."""
        return self.folder / f"{self.seed}.safetensors"

    @property
    def predictions(self) -> Path:
        """Of the deployed outputs what the task keeps, for the report."""
        return self.folder / f"{self.seed}.npz"

    def read(self) -> Training | None:
        """Return the finished training, or None where it isn't finished."""
        if not self.result.is_file():
            return None
        content = json.loads(self.result.read_text("utf-8"))
        return Training(**{**content, "parity": ParitySteps(**content["parity"])})
