"""Which numbers in a mask file mean which class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qanas.core.errors import InputError

VOID = 255
"""The class of a pixel that counts for nothing, in masks as they are kept here; no file has to use it."""

UNKNOWN = -1
MOST_CLASSES = 255
_FEWEST_CLASSES = 2
_IDS = 256

CAMVID_CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign_symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
"""In the order of their ids, as Badrinarayanan et al. (2017) group those of Brostow et al. (2009)."""

CAMVID_VOID = 11

CITYSCAPES_IDS = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic_light": 19,
    "traffic_sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
"""The ids in ``*_labelIds.png`` of the 19 classes that count, in the order of their train ids (Cordts et al. 2016)."""

_CITYSCAPES_LAST_ID = 33


@dataclass(frozen=True)
class Labels:
    """The classes, and what each number in a mask file means.

    Attributes:
        names: of the classes, from class 0.
        class_of: the class of each id that may occur, or `VOID`.
    """

    names: tuple[str, ...]
    class_of: Mapping[int, int]

    @property
    def table(self) -> NDArray[np.int16]:
        """The class of every 8-bit id, `VOID`, or `UNKNOWN`; shape (256,)."""
        table = np.full(_IDS, UNKNOWN, dtype=np.int16)
        table[list(self.class_of)] = list(self.class_of.values())
        return table

    def described(self) -> str:
        """Return the ids that may occur, for messages."""
        classes = sorted(number for number, label in self.class_of.items() if label != VOID)
        void = sorted(number for number, label in self.class_of.items() if label == VOID)
        parts = [f"{_spans(classes)} are classes", *([f"{_spans(void)} void"] if void else [])]
        return ", ".join(parts)


def _spans(numbers: Sequence[int]) -> str:
    """Return ascending numbers with runs shortened.

    >>> _spans([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    starts = [n for i, n in enumerate(numbers) if i == 0 or n != numbers[i - 1] + 1]
    ends = [n for i, n in enumerate(numbers) if i == len(numbers) - 1 or n + 1 != numbers[i + 1]]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def numbered_labels(names: Sequence[str], void_id: int) -> Labels:
    """Return classes whose ids are 0, 1, 2, ... in the order of their names.

    Args:
        names: of the classes; metrics are named after them.
        void_id: the id of pixels that don't count.

    Raises:
        InputError: names that can't be names of metrics, too few or too many, or a void id that is a class's.
    """
    if not _FEWEST_CLASSES <= len(names) <= MOST_CLASSES:
        raise InputError(
            f"task.classes: {len(names)} names; give {_FEWEST_CLASSES} to {MOST_CLASSES}, in the order of their ids"
        )
    for index, name in enumerate(names):
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise InputError(f"task.classes: '{name}': use small letters, digits and _: iou_{name} is to be a metric")
        if name in names[:index]:
            raise InputError(f"task.classes: '{name}' is there twice; give every class a name of its own")
    if void_id < len(names):
        raise InputError(
            f"task.void_id: {void_id} is the class '{names[void_id]}'; take an id from {len(names)} to 255, "
            "one that no mask has if all pixels count"
        )
    return Labels(tuple(names), {index: index for index in range(len(names))} | {void_id: VOID})


def cityscapes_labels() -> Labels:
    """Return Cityscapes' 19 classes; its other ids are void."""
    classes = {number: index for index, number in enumerate(CITYSCAPES_IDS.values())}
    return Labels(tuple(CITYSCAPES_IDS), dict.fromkeys(range(_CITYSCAPES_LAST_ID + 1), VOID) | classes)
