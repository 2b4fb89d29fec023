"""A few pictures with true and found boxes, for the report, chosen by what is true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qanas.core.even_spread import evenly_spread
from qanas.tasks.detection.boxes import KIND, OBJECT, letterboxed
from qanas.tasks.detection.decoding import SHOWN_FROM, Found
from qanas.tasks.pictures import colours
from qanas.tasks.samples import Split

KEPT_PICTURES = 6
MOST_SHOWN = 20
"""Boxes of a picture."""


def shown_boxes(found: Sequence[Found], split: Split, preprocessing: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return pictures with boxes in their pixels.

    Pictures with objects, spread evenly over the split, and one without where there is such.

    Args:
        found: of every sample.
        split: the samples.
        preprocessing: ``means`` and ``deviations`` of the colours.

    Returns:
        ``box_pictures``, shape (kept, rows, columns, 3), stretched, in 8 bits; ``box_image``, the files'
        names, shape (kept,); ``box_true``, shape (kept, rows, 7), see `qanas.tasks.detection.boxes`; ``box_found``,
        shape (kept, `MOST_SHOWN`, 6): left, top, right, bottom, class and score, which is 0 where there is none.
    """
    targets = np.asarray(split.targets)
    there = (targets[:, :, KIND] == OBJECT).any(axis=1)
    full, empty = np.flatnonzero(there), np.flatnonzero(~there)
    kept = sorted([*full[evenly_spread(len(full), KEPT_PICTURES - 1)], *empty[len(empty) // 2 :][:1]])
    inputs, _ = split.batch(np.array(kept, np.intp))
    pictures = colours(inputs[:, :3], preprocessing["means"], preprocessing["deviations"]).transpose(0, 2, 3, 1)
    if preprocessing["fit"] == "letterbox":
        pictures = np.stack([_inner(one, rows[0, [3, 2]]) for one, rows in zip(pictures, targets[kept], strict=True)])
    boxes = np.zeros((len(kept), MOST_SHOWN, 6), np.float32)
    for at, place in enumerate(kept):
        answer = found[place]
        shown = np.flatnonzero(answer.scores >= SHOWN_FROM)[:MOST_SHOWN]
        boxes[at, : len(shown), :4] = answer.boxes[shown]
        boxes[at, : len(shown), 4], boxes[at, : len(shown), 5] = answer.classes[shown], answer.scores[shown]
    return {
        "box_pictures": pictures,
        "box_image": np.array([str(split.extras["file"][place]) for place in kept]),
        "box_true": targets[kept],
        "box_found": boxes,
    }


def _inner(pixels: NDArray[np.uint8], picture: NDArray[Any]) -> NDArray[np.uint8]:
    """Return what is in a letterbox, brought to its whole size, shape (rows, columns, 3).

    Args:
        pixels: of the letterbox, of the same shape.
        picture: height and width of what is in it, shape (2,).
    """
    size = pixels.shape[:2]
    height, width = letterboxed((size[0], size[1]), (float(picture[0]), float(picture[1])))
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    inner = Image.fromarray(np.ascontiguousarray(pixels[top : top + height, left : left + width]))
    return np.asarray(inner.resize(size[::-1]))
