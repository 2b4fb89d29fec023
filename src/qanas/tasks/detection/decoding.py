"""From a network's map of cells to boxes in a picture: FastestDet's decoding, and suppression of what overlaps.

A cell at (row, column) of a map of h x w says, raw: objectness o, the box b0 to b3, the classes' logits c.

    centre      (tanh(b0) + column, tanh(b1) + row), in cells
    width       sigmoid(b2) of the input's width; height sigmoid(b3) of its height
    score       sigmoid(o), with several classes sigmoid(o) ** 0.6 * max softmax(c) ** 0.4

All is computed in double precision and kept in single, in C as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.errors import InputError
from qanas.core.overlaps import Floats
from qanas.tasks.detection.boxes import Fitting, kept_by_suppression, placed
from qanas.tasks.samples import FloatArray

OBJECTNESS, BOX, CLASSES = "objectness", "box", "classes"
"""The names of a detector's outputs; a network of one output has them behind each other in that order."""

OBJECTNESS_POWER, CLASS_POWER = 0.6, 0.4
BOX_NUMBERS = 4
MOST_BOXES = 100
"""That a picture is answered with, the best first: as many as COCO's rules count."""

SCORED_FROM = 0.01
"""The least score of a box that is scored; below, boxes cost time and change average precision by nothing."""

SHOWN_FROM = 0.25
"""The least score of a box that firmware answers and reports show."""

MOST_OVERLAP = 0.45


@dataclass(frozen=True)
class Found:
    """The boxes of one picture, the best first.

    Attributes:
        boxes: left, top, right, bottom in pixels, shape (n, 4).
        scores: shape (n,).
        classes: shape (n,).
    """

    boxes: FloatArray
    scores: FloatArray
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.scores)


def parts_of(outputs: Any, classes: int) -> dict[str, Any]:  # noqa: ANN401 - arrays or tensors
    """Return a detector's outputs by name, each of shape (n, channels, h, w).

    Args:
        outputs: by name, or one of shape (n, 5, h, w), with several classes (n, 5 + classes, h, w).
        classes: how many there are.

    Raises:
        InputError: it is something else.
    """
    wanted = {OBJECTNESS: 1, BOX: BOX_NUMBERS, **({CLASSES: classes} if classes > 1 else {})}
    if not isinstance(outputs, Mapping):
        borders = np.cumsum([0, *wanted.values()])
        outputs = {name: outputs[:, borders[at] : borders[at + 1]] for at, name in enumerate(wanted)}
    for name, channels in wanted.items():
        found = tuple(outputs[name].shape) if name in outputs else ()
        if len(found) != 4 or found[1] != channels:  # noqa: PLR2004 - batch, channels, height, width
            raise InputError(
                f"detection: output '{name}' has shape {found}: a network has to put out maps of shape (batch, "
                f'{channels}, h, w) there, such as space.name = "fastestdet"'
            )
    return dict(outputs)


def sigmoid(values: Floats) -> Floats:
    """Return 1 / (1 + exp(-value)), of the same shape."""
    found: Floats = 1.0 / (1.0 + np.exp(-values))
    return found


@dataclass(frozen=True)
class Decoder:
    """How boxes are had of a network's outputs.

    Attributes:
        size: height and width of the network's input.
        classes: how many there are.
        fit: how pictures lie in the input.
        least: score of a box.
        most_overlap: of two boxes of a class; of more the worse one goes.
    """

    size: tuple[int, int]
    classes: int
    fit: Fitting
    least: float = SCORED_FROM
    most_overlap: float = MOST_OVERLAP

    def __call__(self, parts: Mapping[str, FloatArray], picture: tuple[float, float]) -> Found:
        """Return a picture's boxes, in its pixels, within its borders.

        Args:
            parts: a sample's outputs by name, each of shape (channels, h, w).
            picture: its height and width.
        """
        rows, columns = parts[OBJECTNESS].shape[1:]
        flat = {name: part.reshape(len(part), -1).astype(np.float64) for name, part in parts.items()}
        scores = sigmoid(flat[OBJECTNESS][0])
        kinds = np.zeros(len(scores), np.int64)
        if self.classes > 1:
            logits = flat[CLASSES]
            kinds = logits.argmax(axis=0)
            best = 1.0 / np.exp(logits - logits.max(axis=0)).sum(axis=0)
            scores = scores**OBJECTNESS_POWER * best**CLASS_POWER
        single = scores.astype(np.float32)
        order = np.argsort(-single, kind="stable")
        order = order[single[order] >= np.float32(self.least)]
        middles = np.tanh(flat[BOX][:2, order]) + np.stack([order % columns, order // columns])
        halves = 0.5 * sigmoid(flat[BOX][2:, order]) * np.array([[columns], [rows]])
        # From cells to pixels of the input, and from there to those of the picture.
        across, down, left, top = placed(self.size, picture, self.fit)
        pixels = np.array([[self.size[1] / columns], [self.size[0] / rows]])
        offset, factor = np.array([[left], [top]]), np.array([[across], [down]])
        corners = [((middles + sign * halves) * pixels - offset) / factor for sign in (-1, 1)]
        most = np.array([[picture[1]], [picture[0]]], np.float64)
        boxes = np.concatenate([np.clip(corner, 0, most) for corner in corners]).T.astype(np.float32)
        kept = kept_by_suppression(boxes.astype(np.float64), kinds[order], self.most_overlap)[:MOST_BOXES]
        return Found(boxes[kept], single[order][kept], kinds[order][kept])

    def all(self, outputs: Any, pictures: NDArray[Any]) -> list[Found]:  # noqa: ANN401 - arrays, by name or one
        """Return the boxes of every picture.

        Args:
            outputs: of the network on n samples, see `parts_of`.
            pictures: height and width of each, shape (n, 2).
        """
        parts = parts_of(outputs, self.classes)
        return [
            self({name: part[at] for name, part in parts.items()}, (float(height), float(width)))
            for at, (height, width) in enumerate(pictures)
        ]
