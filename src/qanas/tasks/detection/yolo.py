"""What YOLO's folders have in text: a line a box, and the names of the classes, in one of the ways that tools write."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from qanas.core.errors import InputError
from qanas.tasks.folders import read_bytes, visible_files

NUMBERS = 5
"""Of a line: class, and centre, width and height in shares of the picture."""

_FEWEST_CORNERS = 3
"""Of a polygon, as files for segmentation have."""

_BEYOND = 0.05
"""Of the picture: how far outside of it a corner may lie; what is further, or NaN, is of something else."""

_YAML = (".yaml", ".yml")

_MOST_CLASSES = 10**5
_POINT_SHAPE = ("points", "numbers of each")
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
        names = _named(_described_in(path).get("names"), path)
        if names:
            return names, path.name
    return [], ""


def keypoint_numbers(folder: Path) -> int:
    """Return how many numbers of keypoints are behind each box, as a YAML file says in ``kpt_shape``; 0: none does."""
    for path in _files_about(folder):
        shape = _described_in(path).get("kpt_shape")
        if isinstance(shape, list) and len(shape) == len(_POINT_SHAPE) and all(str(side).isdecimal() for side in shape):
            return math.prod(map(int, shape))
    return 0


def _files_about(folder: Path) -> list[Path]:
    """Return the files that may say something of all boxes."""
    return [path for place in (folder, folder / "labels") if place.is_dir() for path in visible_files(place)]


def _described_in(path: Path) -> dict[str, Any]:
    """Return the entries of a YAML file that describes data; none where it is of something else.

    Raises:
        InputError: it can't be read, and would describe the data.
    """
    if path.suffix.lower() not in _YAML:
        return {}
    text = text_of(path)
    try:
        found = _mapping(text)
    except yaml.YAMLError:
        try:  # what is beside these is nothing to us
            found = _mapping("\n".join(entry[0] for entry in _ENTRY.finditer(text)))
        except yaml.YAMLError as error:
            raise InputError(f"{path}: no YAML: {' '.join(str(error).split())[:120]}: mend it") from error
    return found


_ENTRY = re.compile(r"^(?:names|kpt_shape):.*(?:\n(?:[ \t]+\S.*|-.*|[\]}].*|[ \t]*$))*", re.MULTILINE)


def _mapping(text: str) -> dict[str, Any]:
    # Nothing but texts, lists and mappings: a class may be called "no", or 1.
    documents = yaml.load_all(text, Loader=yaml.BaseLoader)  # which makes no objects of other kinds
    return {key: value for one in documents if isinstance(one, dict) for key, value in one.items()}


def _named(names: object, path: Path) -> list[str]:
    """Return the names of the classes in the order of their numbers, of a list or of names by their numbers.

    Raises:
        InputError: a number is none.

    >>> _named({"1": "dog", "0": "person", "3": "bus"}, Path("data.yaml"))
    ['person', 'dog', 'class_2', 'bus']
    """
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",") if name.strip()]
    if isinstance(names, list):
        return [str(name) or f"class_{number}" for number, name in enumerate(names)]
    if not isinstance(names, dict):
        return []
    wrong = next((key for key in names if not str(key).isdecimal() or int(key) >= _MOST_CLASSES), None)
    if wrong is not None:
        raise InputError(f"{path}: names: {wrong} is no class's number: write numbers from 0 on, such as 0: person")
    numbered = {int(number): str(name) for number, name in names.items()}
    return [numbered.get(number, f"class_{number}") for number in range(max(numbered, default=-1) + 1)]
