"""What is kept of each training of a finalist until it ships: its record, and files that the record has digests of."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from qanas.core.candidate import Candidate
from qanas.core.card import Kind, SplitName
from qanas.core.measures import Precision
from qanas.core.run_folder import RunFolder, digest, write_atomically
from qanas.core.trials import CurvePoint
from qanas.deployment.parity import ParitySteps
from qanas.performance_estimation.procedure import Procedure
from qanas.search_space.start import Start

logger = logging.getLogger("qanas")

Metrics = Mapping[Precision, Mapping[SplitName, Mapping[str, float]]]


@dataclass(frozen=True)
class Finalist:
    """A candidate that may ship.

    Attributes:
        identity: the name of its folder.
        candidate: its settings.
        start: the weights that its trainings start from.
        procedure: how it is trained.
        variant: what sets its trainings apart from those of the same candidate in the search; empty if nothing does.
        kind: where it comes from.
        described: what it is, of a baseline; goes onto its card.
    """

    identity: str
    candidate: Candidate
    start: Start
    procedure: Procedure
    variant: str = ""
    kind: Kind = "found"
    described: str = ""


@dataclass(frozen=True)
class Training:
    """One finished training of a finalist.

    Attributes:
        repetition: its number, from 0.
        metrics: by precision, split and metric; empty if it failed.
        parity: distance between simulated and deployed outputs.
        failure: why it can't ship; empty if it can.
        sha256: of the file.
        cpu_seconds: of all that the training took, export and scores included; 0 in the records of early runs.
        digests: of all files that ship, by their suffix; none in the records of early runs.
        units: how many independent ones each split has; none in the records of early runs.
        losses: on training data, by epoch; empty where weights were cached, and in the records of early runs.
        train: the FP32 network's metrics on training samples, as many as validation has; likewise.
        curve: scores on training and on validation samples at a few epochs; likewise.
        noise: where integers lose it, by layer; none in the records of early runs.
    """

    repetition: int
    metrics: Metrics
    parity: ParitySteps
    failure: str = ""
    sha256: str = ""
    cpu_seconds: float = 0.0
    digests: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[SplitName, int] = field(default_factory=dict)
    losses: Sequence[float] = field(default_factory=list)
    train: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[CurvePoint] = field(default_factory=list)
    noise: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def failed(cls, repetition: int, reason: str) -> Training:
        """Return a training without a model."""
        return cls(repetition, {}, ParitySteps(0, 0.0, 0), reason)


SHIPPED_SUFFIXES = (".tflite", ".safetensors", ".npz")
"""Of the files of a training that ship."""

RECORD_DIGEST = "record_digest"
"""The key of a training's record under which its own digest is."""


def _digest_of(record: Mapping[str, Any]) -> str:
    return digest(json.dumps(record, sort_keys=True).encode())


@dataclass(frozen=True)
class TrainingFiles:
    """Where one repetition of a finalist is kept until it ships."""

    folder: Path
    repetition: int

    @property
    def result(self) -> Path:
        """Metrics and parity, written last: where it is, the others are."""
        return self.folder / f"{self.repetition}.json"

    @property
    def model(self) -> Path:
        """The .tflite file."""
        return self.folder / f"{self.repetition}.tflite"

    @property
    def weights(self) -> Path:
        """The FP32 weights."""
        return self.folder / f"{self.repetition}.safetensors"

    @property
    def predictions(self) -> Path:
        """Of the deployed outputs what the task keeps, for the report."""
        return self.folder / f"{self.repetition}.npz"

    def write(self, training: Training, contents: Mapping[str, bytes]) -> Training:
        """Write what a training left, and then its record with the digests of all of it, which is returned.

        Args:
            training: finished, without digests.
            contents: by suffix: of the model, the weights and the predictions.
        """
        for suffix, content in contents.items():
            write_atomically(self.folder / f"{self.repetition}{suffix}", content)
        finished = replace(training, digests={suffix: digest(content) for suffix, content in contents.items()})
        record = asdict(finished)
        write_atomically(self.result, json.dumps({**record, RECORD_DIGEST: _digest_of(record)}).encode())
        return finished

    def read(self) -> Training | None:
        """Return the finished training, or None where it isn't finished, or anything of it was damaged since."""
        if not self.result.is_file():
            return None
        try:
            content = json.loads(self.result.read_text("utf-8"))
            found = content.pop(RECORD_DIGEST, None)
            intact = found is None or found == _digest_of(content)
            content["parity"] = ParitySteps(**content["parity"])
            if "seed" in content:  # as version 0.1 called it
                content["repetition"] = content.pop("seed")
            training = Training(**content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            intact = False
        if intact and all(self.content(suffix, training) is not None for suffix in SHIPPED_SUFFIXES):
            return training
        logger.warning("%s, or what belongs to it, was damaged: the training is done again", self.result)
        return None

    def content(self, suffix: str, training: Training) -> bytes | None:
        """Return one of the files, or None where it isn't there as it was written.

        Args:
            suffix: one of `SHIPPED_SUFFIXES`.
            training: with the digests of its files.
        """
        try:
            content = (self.folder / f"{self.repetition}{suffix}").read_bytes()
        except OSError:
            return None
        known = training.digests.get(suffix, training.sha256 if suffix == ".tflite" else digest(content))
        return content if digest(content) == known else None


def training_files(folder: RunFolder, finalist: Finalist, repetition: int) -> TrainingFiles:
    """Return where a repetition of a finalist is kept, by all that tells it from others of the run."""
    parts = [finalist.candidate.key, "" if finalist.start.trained else finalist.start.digest, finalist.variant]
    return TrainingFiles(folder.trainings / "-".join(part for part in parts if part), repetition)
