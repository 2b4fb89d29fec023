"""What a model answers of classes: which it takes for which, how good it is at each, and when it is no success."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

_STRICT = ConfigDict(extra="forbid", frozen=True)

Counts = NDArray[np.int64]

FEWEST_CLASSES = 2

MOST_WRITTEN = 32
"""Classes whose whole confusion matrix a card has."""


def confusion(predicted: NDArray[Any], targets: NDArray[Any], classes: int) -> Counts:
    """Count which class was taken for which.

    Args:
        predicted: classes, any shape.
        targets: true classes, of the same number; what is no class, such as void, doesn't count.
        classes: how many there are.

    Returns:
        Samples, or pixels, by true and by predicted class, shape (classes, classes).
    """
    true, taken = targets.reshape(-1).astype(np.int64), predicted.reshape(-1).astype(np.int64)
    counted = (true >= 0) & (true < classes)
    pairs = np.bincount(true[counted] * classes + taken[counted], minlength=classes**2)
    return pairs.reshape(classes, classes).astype(np.int64)


class ClassScore(BaseModel):
    """How good a model is at one class; a share without samples to be over is null.

    Attributes:
        samples: that are of the class; pixels where each has one.
        predicted: that the model takes for it.
        recall: share of its samples that the model finds.
        precision: share of what the model takes for it that is.
        iou: intersection over union of the two.
    """

    model_config = _STRICT
    samples: int
    predicted: int
    recall: float | None
    precision: float | None
    iou: float | None


class Classes(BaseModel):
    """What the deployed model answers, class by class.

    Attributes:
        scores: by split and class.
        confusion: by split: samples by true (row) and predicted class; none where there are too many classes to read.
    """

    model_config = _STRICT
    scores: dict[str, dict[str, ClassScore]]
    confusion: dict[str, list[list[int]]] = {}

    @classmethod
    def of(cls, counts: Mapping[str, Counts], names: Sequence[str]) -> Classes:
        """Summarise counts by split, each of shape (classes, classes), of classes with these names."""
        scores = {
            split: {name: _score(found, place) for place, name in enumerate(names)} for split, found in counts.items()
        }
        written = counts if len(names) <= MOST_WRITTEN else {}
        return cls(scores=scores, confusion={split: found.tolist() for split, found in written.items()})

    def never_predicted(self, split: str) -> dict[str, int]:
        """Return the classes that a split has and the model never answers, and how many samples they have."""
        scores = self.scores.get(split, {})
        return {name: score.samples for name, score in scores.items() if score.samples and not score.predicted}


def _score(counts: Counts, place: int) -> ClassScore:
    right, samples, predicted = int(counts[place, place]), int(counts[place].sum()), int(counts[:, place].sum())

    def share(of: int) -> float | None:
        return right / of if of else None

    return ClassScore(
        samples=samples,
        predicted=predicted,
        recall=share(samples),
        precision=share(predicted),
        iou=share(samples + predicted - right),
    )


def class_names(told: object, classes: int) -> list[str]:
    """Return names of classes: those that are told where they are as many and differ, else numbers.

    Args:
        told: by a task or a card.
        classes: how many there are.

    >>> class_names(["road", "sky"], 2), class_names(None, 2)
    (['road', 'sky'], ['0', '1'])
    """
    names = [str(name) for name in told] if isinstance(told, list | tuple) else []
    return names if len(set(names)) == classes == len(names) else [str(place) for place in range(classes)]


class Degenerate(BaseModel):
    """Why a model is no success, however small it is; judged on validation data, as all decisions are.

    Attributes:
        never_predicted: classes that are there and that it never answers, with their samples.
        constant_reaches: the score that a constant answer has, by metric, where it is as good as the model's.
    """

    model_config = _STRICT
    never_predicted: dict[str, int] = {}
    constant_reaches: dict[str, float] = {}

    def __bool__(self) -> bool:
        """Tell whether there is such a reason."""
        return bool(self.never_predicted or self.constant_reaches)

    @property
    def grade(self) -> int:
        """How bad it is: 1 where classes are missing, as rare ones often are, 2 where a constant would do."""
        return 2 if self.constant_reaches else 1

    def told(self) -> str:
        """Return it in words, to be put behind the model's name."""
        parts = []
        if self.never_predicted:
            named = list(self.never_predicted)
            few = ", ".join(named[:_FEW]) + (f" and {len(named) - _FEW} more classes" if len(named) > _FEW else "")
            parts.append(f"never predicts {few}")
        parts += [
            f"is no better than a constant answer ({name.replace('_', ' ')} {score:.4g})"
            for name, score in self.constant_reaches.items()
        ]
        return " and ".join(parts)


_FEW = 4
