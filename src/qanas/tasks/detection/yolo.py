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

_YAML = (".yaml", ".yml")
_NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels")


def text_of(path: Path) -> str:
    """Return a file's text, without the byte order mark that some editors put in front."""
    return read_bytes(path).decode("utf-8-sig", "replace")


def lines_of(path: Path, keypoints: int = 0) -> list[tuple[int, int, list[float]]]:
    """Return the boxes of a file: number of the line, class, and x, y, width, height.

    Args:
        path: of the file.
        keypoints: numbers of keypoints behind each box, see `keypoint_numbers`.

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
        box = _box_of(values[1:NUMBERS] if keypoints and len(values) == NUMBERS + keypoints else values[1:])
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


def are_boxes(path: Path, keypoints: int = 0) -> bool:
    """Tell whether all lines of a file are boxes."""
    try:
        lines_of(path, keypoints)
    except InputError:
        return False
    return True


def class_names(folder: Path) -> tuple[list[str], str]:
    """Return the names of the classes in the order of their numbers, and the file that has them; none: nobody says."""
    for path in _files_about(folder):
        if path.name in _NAME_LISTS:
            lines = text_of(path).splitlines()
            return [line.strip() for line in lines if line.strip()], path.name
        if path.suffix in _YAML:
            names = _names_in(text_of(path))
            if names:
                return names, path.name
    return [], ""


def keypoint_numbers(folder: Path) -> int:
    """Return how many numbers of keypoints are behind each box, as a YAML file says in ``kpt_shape``; 0: none does."""
    found = (_keypoints_in(text_of(path)) for path in _files_about(folder) if path.suffix in _YAML)
    return next((numbers for numbers in found if numbers), 0)


def _files_about(folder: Path) -> list[Path]:
    """Return the files that may say something of all boxes."""
    return [path for place in (folder, folder / "labels") if place.is_dir() for path in visible_files(place)]


def _keypoints_in(text: str) -> int:
    r"""Return the product of the entry ``kpt_shape`` of a YAML file, such as 17 points of 3 numbers; 0: it has none.

    >>> _keypoints_in("nc: 1\nkpt_shape: [17, 3]  # x, y, visible"), _keypoints_in("kpt_shape:\n- 4\n- 2\n")
    (51, 8)
    """
    found = re.search(r"^kpt_shape:[\s\[-]*(\d+)[\s,-]+(\d+)", text, re.MULTILINE)
    return 0 if found is None else int(found[1]) * int(found[2])


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
