"""What tasks share that tell the class of a file: losses, weights and metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from qanas.core.measures import Direction
from qanas.tasks.classification import (
    CLASS_LOSSES,
    CLASS_METRICS,
    ClassWeights,
    balanced_weights,
    class_loss,
    class_metrics,
    require_weights,
)
from qanas.tasks.labelled_files import Divided, LabelledFiles
from qanas.tasks.labels import Sample
from qanas.tasks.remembered import Remembered
from qanas.tasks.samples import FloatArray, Split

_COUNTS = Remembered[tuple[int, ...]]()
"""Training samples by class."""


@dataclass(frozen=True)
class ClassifiedFiles(LabelledFiles):
    """Tell the class of a file.

    Attributes:
        class_weights: how much a sample of each class counts in the loss, in the order of the classes' names;
            "balanced": rare ones as much as common ones in all. By default all samples count alike.
    """

    class_weights: ClassWeights = None

    metrics: ClassVar[Mapping[str, Direction]] = CLASS_METRICS
    losses: ClassVar[tuple[str, ...]] = CLASS_LOSSES
    parity_tolerance: ClassVar[Mapping[str, float]] = {"accuracy": 0.01, "balanced_accuracy": 0.01}

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return a batch's mean cross-entropy by the classes' weights, a scalar.

        Args:
            kind: one of `losses`.
            outputs: logits, shape (batch, classes).
            targets: classes, shape (batch,).
        """
        return class_loss(kind, outputs, targets, self._weights())

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        """Return the metrics, see `qanas.tasks.classification.class_metrics`.

        Args:
            outputs: logits, shape (n, classes).
            split: the samples.
        """
        return class_metrics(outputs, split.targets)

    def _divide(self, folder: Path) -> Divided:
        found = super()._divide(folder)
        require_weights(self.class_weights, found.classes)
        if self.class_weights == "balanced":
            _COUNTS.keep(self._source, self._training_counts(found))
        return found

    def samples_in(self, sample: Sample) -> int:
        """Return how many samples a file is cut into, which have its class each: by default it is one.

        Raises:
            InputError: it is damaged.
        """
        del sample
        return 1

    def _training_counts(self, found: Divided) -> tuple[int, ...]:
        counts: Counter[str] = Counter()
        for sample in found.samples["train"]:
            counts[sample.label] += self.samples_in(sample)
        return tuple(counts[name] for name in found.classes)

    def division_notes(self, found: Divided) -> dict[str, Any]:
        """Return how splits and scores come about, for protocols."""
        return {
            **super().division_notes(found),
            "balanced_accuracy": "mean recall of the classes that are there",
            "macro_f1": "mean over classes that are there or predicted",
            **({"class_weights": list(self._weights() or ())} if self.class_weights else {}),
        }

    @property
    def _source(self) -> tuple[object, ...]:
        """What the division follows from, whatever the input."""
        return (type(self), *(getattr(self, entry.name) for entry in fields(ClassifiedFiles)))

    def _weights(self) -> tuple[float, ...] | None:
        if self.class_weights is None or isinstance(self.class_weights, tuple):
            return self.class_weights
        return balanced_weights(_COUNTS.of(self._source, self._count))

    def _count(self) -> None:
        with self.divided():
            pass  # that counts
