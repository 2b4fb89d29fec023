"""What YOLO's folders have in text: a line a box, and the names of the classes, in one of the ways that tools write."""

from __future__ import annotations

import re
from pathlib import Path

from qanas.core.errors import InputError
from qanas.tasks.folders import read_bytes, visible_files

NUMBERS = 5
"""Of a line: class, and centre, width and height in shares of the picture."""

_FEWEST_CORNERS = 3
"""Of a polygon, as files for segmentation have."""

_BEYOND = 0.05
"""Of the picture: how far outside of it a corner may lie; what is further, or NaN, is of something else."""

_NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels")


def text_of(path: Path) -> str:
    """Return a file's text, without the byte order mark that some editors put in front."""
    return read_bytes(path).decode("utf-8-sig", "replace")


def lines_of(path: Path) -> list[tuple[int, int, list[float]]]:
    """Return the boxes of a file: number of the line, class, and x, y, width, height.

    Raises:
        InputError: a line is something else; names it.
    """
    found = []
    for number, line in enumerate(text_of(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        box = _box_of(values[1:])
        if box is None or not values[0].is_integer():
            raise InputError(
                f"{path}: line {number}: '{line.strip()[:60]}': write class, and centre x, centre y, width and height "
                "as shares of the picture, or a polygon's corners"
            )
        found.append((number, int(values[0]), box))
    return found


def _box_of(numbers: list[float]) -> list[float] | None:
    """Return centre, width and height; of a polygon's corners, x and y by turns, those of the box around it.

    >>> _box_of([0.25, 0.5, 0.75, 0.5, 0.5, 1.0])
    [0.5, 0.75, 0.5, 0.5]
    """
    if len(numbers) == NUMBERS - 1:
        return numbers
    inside = all(-_BEYOND <= one <= 1 + _BEYOND for one in numbers)
    if not inside or len(numbers) < _FEWEST_CORNERS * 2 or len(numbers) % 2:
        return None
    (left, right), (top, bottom) = ((min(part), max(part)) for part in (numbers[::2], numbers[1::2]))
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def are_boxes(path: Path) -> bool:
    """Tell whether all lines of a file are boxes."""
    try:
        lines_of(path)
    except InputError:
        return False
    return True


def class_names(folder: Path) -> tuple[list[str], str]:
    """Return the names of the classes in the order of their numbers, and the file that has them; none: nobody says."""
    for place in (folder, folder / "labels"):
        for path in visible_files(place) if place.is_dir() else ():
            if path.name in _NAME_LISTS:
                lines = text_of(path).splitlines()
                return [line.strip() for line in lines if line.strip()], path.name
            if path.suffix in (".yaml", ".yml"):
                names = _names_in(text_of(path))
                if names:
                    return names, path.name
    return [], ""


def _names_in(text: str) -> list[str]:
    r"""Return the entry ``names`` of a YAML file: a list in a line, a line an entry, or number: name.

    >>> _names_in("nc: 2\nnames: ['a', b]"), _names_in("names:\n  0: a\n  1: b\nnc: 2"), _names_in("names:\n- a")
    (['a', 'b'], ['a', 'b'], ['a'])
    """
    found = re.search(r"^names:[ \t]*(.*)$((?:\n(?:[ \t]+|-).*)*)", text, re.MULTILINE)
    if found is None:
        return []
    inline = found[1].strip().strip("[]{}")
    entries = inline.split(",") if inline else found[2].strip().splitlines()
    plain = [re.sub(r"^\s*(?:-|\d+\s*:)\s*", "", entry.partition("#")[0]).strip().strip("'\"") for entry in entries]
    return [entry for entry in plain if entry]
