"""Average precision as COCO computes it (Lin et al. 2014; pycocotools' `COCOeval`, whose results it equals to 1e-6).

Per class and threshold of overlap, boxes of a picture are matched best first, each to the object that it overlaps most;
what is ignored, or of another size than is asked for, makes an answer count for nothing. Precision is the best at that
recall or a higher one, read at 101 recalls. Matching is picture by picture and done once: pictures that are drawn
several times, as for intervals, count by how often they are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qanas.core.overlaps import Floats, areas, overlaps
from qanas.tasks.detection.boxes import AREA, CLASS, IGNORED, KIND, OBJECT
from qanas.tasks.detection.decoding import MOST_BOXES, Found
from qanas.tasks.samples import FloatArray

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
_SMALL, _LARGE, _ENDLESS = 32.0**2, 96.0**2, 1e10
SIZES: Mapping[str, tuple[float, float]] = {
    "all": (0.0, _ENDLESS),
    "small": (0.0, _SMALL),
    "medium": (_SMALL, _LARGE),
    "large": (_LARGE, _ENDLESS),
}
"""Areas of objects in pixels of the picture, both borders within."""


@dataclass(frozen=True)
class Matches:
    """What became of the answers of one class and size of objects.

    Attributes:
        pictures: by threshold, of the answers that count, the best first: which picture each is of, shape (answers,).
        hits: by threshold, which of them are right, shape (right,).
        objects: that count in each picture, shape (pictures,).
    """

    pictures: Sequence[NDArray[np.intp]]
    hits: Sequence[NDArray[np.intp]]
    objects: NDArray[np.int64]

    def scores(self, times: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Return average precision and the highest recall by threshold, both of shape (thresholds,).

        NaN where there are no objects. Precision is looked at where an answer is right: in between it only falls.

        Args:
            times: how often each picture is there, shape (pictures,).
        """
        objects = int(times @ self.objects)
        if objects == 0:
            return np.full(len(THRESHOLDS), np.nan), np.full(len(THRESHOLDS), np.nan)
        precisions, recalls = np.zeros(len(THRESHOLDS)), np.zeros(len(THRESHOLDS))
        for at, (pictures, hits) in enumerate(zip(self.pictures, self.hits, strict=True)):
            if not len(hits):
                continue
            right = np.cumsum(times[pictures[hits]]).astype(np.float64)
            precision = right / (np.cumsum(times[pictures])[hits] + np.spacing(1))
            best = np.maximum.accumulate(precision[::-1])[::-1]
            place = np.searchsorted(right / objects, RECALLS, side="left")
            precisions[at] = np.append(best, 0.0)[place].mean()
            recalls[at] = right[-1] / objects
        return precisions, recalls


def matched(found: Sequence[Found], targets: FloatArray, label: int, sizes: tuple[float, float]) -> Matches:
    """Match answers with objects.

    Args:
        found: of every picture.
        targets: shape (pictures, rows, 7), see `qanas.tasks.detection.boxes`.
        label: the class.
        sizes: smallest and largest area of objects that count.
    """
    pictures, scores, right, counted, objects = [], [], [], [], []
    for at, (answer, rows) in enumerate(zip(found, targets.astype(np.float64), strict=True)):
        own = np.flatnonzero(answer.classes == label)[:MOST_BOXES]
        boxes = answer.boxes[own].astype(np.float64)
        truth = rows[np.isin(rows[:, KIND], (OBJECT, IGNORED)) & (rows[:, CLASS] == label)]
        outside = (truth[:, AREA] < sizes[0]) | (truth[:, AREA] > sizes[1])
        ignored = (truth[:, KIND] == IGNORED) | outside
        order = np.argsort(ignored, kind="stable")
        good, ignoring = _match(boxes, truth[order], ignored[order])
        of_other_size = (areas(boxes) < sizes[0]) | (areas(boxes) > sizes[1])
        pictures.append(np.full(len(own), at))
        scores.append(answer.scores[own])
        right.append(good)
        counted.append(~(ignoring | (~good & of_other_size[None])))
        objects.append(int((~ignored).sum()))
    best_first = np.argsort(-np.concatenate(scores), kind="mergesort")
    of_picture = np.concatenate(pictures)[best_first]
    good, counts = (np.concatenate(rows, axis=1)[:, best_first] for rows in (right, counted))
    kept = [np.flatnonzero(row) for row in counts]
    return Matches(
        [of_picture[places] for places in kept],
        [np.flatnonzero(row[places]) for row, places in zip(good, kept, strict=True)],
        np.array(objects),
    )


def _match(boxes: Floats, truth: Floats, ignored: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which answers have an object, and which have one that is ignored, both of shape (thresholds, n).

    Args:
        boxes: answers of a picture, the best first, shape (n, 4).
        truth: its objects, those that are ignored last, shape (m, 7).
        ignored: which are, shape (m,).
    """
    shape = (len(THRESHOLDS), len(boxes))
    right, ignoring = np.zeros(shape, bool), np.zeros(shape, bool)
    if not len(boxes) or not len(truth):
        return right, ignoring
    regions = truth[:, KIND] == IGNORED
    shared = overlaps(boxes, truth[:, :4], regions)
    near = np.flatnonzero((shared >= THRESHOLDS[0]).any(axis=1))  # all others match nothing, and they are many
    for at, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(len(truth), bool)
        for answer in near:
            chosen = _chosen(shared[answer], min(threshold, 1 - 1e-10), taken & ~regions, ignored)
            if chosen is None:
                continue
            taken[chosen] = True
            right[at, answer], ignoring[at, answer] = True, ignored[chosen]
    return right, ignoring


def _chosen(shared: Floats, threshold: float, gone: NDArray[np.bool_], ignored: NDArray[np.bool_]) -> int | None:
    """Return the object of one answer: that of the largest overlap, of equal ones the last, ignored ones at last.

    Args:
        shared: overlap with each object, shape (m,).
        threshold: the least.
        gone: objects that others have, shape (m,).
        ignored: shape (m,).
    """
    free = ~gone & (shared >= threshold)
    for group in (free & ~ignored, free & ignored):
        places = np.flatnonzero(group)
        if len(places):
            return int(places[shared[places] == shared[places].max()][-1])
    return None


METRICS = ("ap50", "ap", "ap75", "ap_small", "ap_medium", "ap_large", "ar100")
_AT_75 = 5


class Scorer:
    """The metrics of answers, over all pictures or over some of them.

    Args:
        found: of every picture.
        targets: shape (pictures, rows, 7).
        classes: how many there are.
    """

    def __init__(self, found: Sequence[Found], targets: FloatArray, classes: int) -> None:
        """Match all."""
        self.pictures = len(found)
        self.matches = {
            name: [matched(found, targets, label, bounds) for label in range(classes)] for name, bounds in SIZES.items()
        }

    def metrics(self, times: NDArray[np.int64] | None = None) -> dict[str, float]:
        """Return `METRICS`: means over the classes that are there; NaN where there is no object.

        Args:
            times: how often each picture counts, shape (pictures,); None: once.
        """
        own = np.ones(self.pictures, np.int64) if times is None else times
        scores = {name: [one.scores(own) for one in matches] for name, matches in self.matches.items()}
        precision = {name: _mean([found for found, _ in pairs]) for name, pairs in scores.items()}
        recall = _mean([found for _, found in scores["all"]])
        values = (
            precision["all"][0],
            precision["all"].mean(),
            precision["all"][_AT_75],
            *(precision[name].mean() for name in ("small", "medium", "large")),
            recall.mean(),
        )
        return dict(zip(METRICS, map(float, values), strict=True))


def _mean(rows: Sequence[Floats]) -> Floats:
    """Return the mean over the classes that are there, shape (thresholds,); each row of the same shape."""
    there = [row for row in rows if not np.isnan(row).any()]
    found: Floats = np.mean(there, axis=0) if there else np.full(len(THRESHOLDS), np.nan)
    return found
