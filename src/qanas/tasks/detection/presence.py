"""Whether something is in a picture, told by its boxes: visual wake words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qanas.core.errors import InputError
from qanas.tasks.detection.boxes import OBJECT
from qanas.tasks.detection.images import as_seen
from qanas.tasks.detection.reader import Annotated, find_pictures
from qanas.tasks.pictures import Size

LEAST_SHARE = 0.005
"""Of its picture's area that an object has to have, to count (Chowdhery et al. 2019)."""


def presence(
    folder: Path, label: str, frame: Size | None = None, *, square: bool = False
) -> tuple[list[Annotated], list[str]]:
    """Return the pictures of a folder with boxes, labelled by whether one shows an object of a class, and remarks.

    Pictures of which nobody can say, where all such objects are too small or to be ignored, are left out. What counts
    is what is seen: an object outside of it is not shown.

    Args:
        folder: of the data.
        label: the class; pictures without it have the label ``no_<class>``.
        frame: height and width of the camera's, which pictures are brought to.
        square: whether the square about their middle is seen alone.

    Raises:
        InputError: a box or a picture is wrong, or all pictures show it, or none.
    """
    pictures, _, remarks = find_pictures(folder, (label,))
    found, unsure = [], 0
    for whole in pictures:
        picture = as_seen(whole, frame)
        if square:
            picture = as_seen(picture, (min(picture.size),) * 2)
        least = LEAST_SHARE * picture.size[0] * picture.size[1]
        shown = any(box.kind == OBJECT and box.area >= least for box in picture.boxes)
        if picture.boxes and not shown:
            unsure += 1
            continue
        found.append(replace(picture, label=label if shown else f"no_{label}"))
    if len({picture.label for picture in found}) == 1:
        raise InputError(f"task.present: all {len(found)} pictures of {folder} are of '{found[0].label}': add others")
    if unsure:
        remarks.append(f"{unsure} pictures show nothing of '{label}' but what is tiny or ignored: left out")
    return found, remarks
