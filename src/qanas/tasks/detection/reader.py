"""Folders of pictures with boxes, in the three forms that tools write: COCO's JSON, Pascal VOC's XML, YOLO's text."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

from PIL import Image

from qanas.core.errors import InputError, unknown
from qanas.tasks.archives import archives_in, unpacked
from qanas.tasks.detection.boxes import IGNORED, OBJECT
from qanas.tasks.detection.yolo import are_boxes, class_names, keypoint_numbers, lines_of, text_of
from qanas.tasks.folders import all_files, read_bytes, require_folder, visible_files
from qanas.tasks.labels import Sample
from qanas.tasks.pictures import IMAGE_SUFFIXES, ORIENTATION, readable_name
from qanas.tasks.splits import SPLIT_NAMES

Form = Literal["coco", "voc", "yolo"]

NOTHING_THERE = "nothing"
"""The label of a picture without boxes, by which splits are even."""

OUTSIDE = 0.01
"""The share of a picture's side by which boxes may stick out, or a pixel: rounding. They are clipped."""

_UPRIGHT_SIDEWAYS = range(5, 9)
"""EXIF orientations that swap a picture's sides."""


@dataclass(frozen=True)
class Box:
    """A box as a folder has it.

    Attributes:
        label: its class.
        corners: left, top, right, bottom in pixels.
        kind: `OBJECT` or `IGNORED`.
        area: of the object in pixels, for COCO's sizes.
    """

    label: str
    corners: tuple[float, float, float, float]
    kind: float
    area: float


@dataclass(frozen=True)
class Annotated(Sample):
    """A picture with its boxes.

    Attributes:
        size: height and width as viewers show it.
        boxes: of it.
    """

    size: tuple[int, int] = (0, 0)
    boxes: tuple[Box, ...] = ()

    @property
    def told(self) -> str:
        """Its boxes, too."""
        return repr((self.label, self.size, self.boxes))


@dataclass(frozen=True)
class _Raw:
    """A picture and boxes as they were written.

    Attributes:
        name: of the picture's file.
        split: as the form tells it; empty: it doesn't.
        place: for messages.
        size: height and width as written; None: not written.
        boxes: place, class, corners, kind, and area or None.
    """

    name: str
    split: str
    place: str
    size: tuple[int, int] | None
    boxes: Sequence[tuple[str, str, tuple[float, float, float, float], float, float | None]]


def form_of(folder: Path) -> Form | None:
    """Return the form of a folder's boxes, or None: there are none that are known."""
    tables = _coco_files(folder)
    if any(b'"images"' in content and b'"annotations"' in content for content in map(read_bytes, tables)):
        return "coco"
    if any(_is_voc(path) for path in all_files(folder) if path.suffix.lower() == ".xml"):
        return "voc"
    if _texts_of_pictures(folder) or (folder / "labels").is_dir():
        return "yolo"  # whose tools write JSON about the project beside it
    return "coco" if tables else None


def _texts_of_pictures(folder: Path) -> list[Path]:
    """Return the texts that are called as pictures are."""
    files = all_files(folder)
    stems = {path.stem for path in files if path.suffix.lower() in IMAGE_SUFFIXES}
    return [path for path in files if path.suffix.lower() == ".txt" and path.stem in stems]


def has_boxes(folder: Path) -> bool:
    """Tell whether a folder plainly holds boxes: a table or text beside pictures may be about something else."""
    form = form_of(folder)
    if form == "coco":
        return any(b'"bbox"' in read_bytes(path) for path in _coco_files(folder))
    if form == "yolo":
        texts = _texts_of_pictures(folder)
        # A line that is wrong among right ones is to be told, not passed over.
        keypoints = keypoint_numbers(folder)
        return bool(texts) and 2 * sum(are_boxes(path, keypoints) for path in texts) >= len(texts)
    return form is not None


def find_pictures(folder: Path, wanted: Sequence[str]) -> tuple[list[Annotated], tuple[str, ...], list[str]]:
    """Return the pictures in the order of their names, the classes in that of their names, and remarks.

    Args:
        folder: of the data.
        wanted: classes whose boxes count, in this order; none: all that there are.

    Raises:
        InputError: a box or a picture is wrong; names the file, the place in it, and the mend.
    """
    require_folder(folder, "pictures, and their boxes as COCO's JSON, Pascal VOC's XML or YOLO's text")
    form = form_of(folder)
    if form is None:
        raise InputError(
            f"{folder}: no boxes: put annotations.json (COCO), Annotations/*.xml (Pascal VOC) or labels/*.txt (YOLO) "
            "beside the pictures"
        )
    raws = {"coco": _coco, "voc": _voc, "yolo": _yolo}[form](folder)
    known = Counter(label for raw in raws for _, label, *_ in raw.boxes)
    classes = tuple(wanted) or tuple(sorted(known))
    if not classes:
        raise InputError(f"{folder}: none of {len(raws)} pictures has a box: there is nothing to find")
    for name in classes:
        if name not in known:
            raise InputError(f"task.classes: {unknown('class', name, known)}")
    where = _Pictures(folder)
    clipped = [0]
    found = [_annotated(raw, where.path_of(raw), folder, classes, clipped) for raw in raws]
    twice = [name for name, count in Counter(sample.name for sample in found).items() if count > 1]
    if twice:
        raise InputError(f"{folder}: {twice[0]} is named twice: give each picture one entry")
    remarks = []
    if clipped[0]:
        remarks.append(f"{clipped[0]} boxes stick out of their picture by up to a pixel or {OUTSIDE:.0%}: clipped")
    others = {label: count for label, count in known.items() if label not in classes}
    if others:
        told = ", ".join(f"{label} ({count})" for label, count in sorted(others.items())[:6])
        remarks.append(f"boxes of {len(others)} other classes are left out, such as {told}")
    return sorted(found, key=lambda sample: sample.name), classes, remarks


class _Pictures:
    """Where the pictures of a folder are: beside the boxes, or in an archive there.

    Args:
        folder: of the data.
    """

    def __init__(self, folder: Path) -> None:
        """Look for archives only once a picture is missing."""
        self.folder = folder
        self.known = self._in(folder)
        self.archives = archives_in(folder)

    @staticmethod
    def _in(folder: Path) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in all_files(folder):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                found.setdefault(path.name, []).append(path)
        return found

    def path_of(self, raw: _Raw) -> Path:
        """Return the file of a picture.

        Raises:
            InputError: it is missing, or there are two.
        """
        name = Path(raw.name.replace("\\", "/"))
        if (self.folder / name).is_file():
            return self.folder / name
        while name.name not in self.known and self.archives:
            self.known |= self._in(unpacked(self.archives.pop()))
        places = self.known.get(name.name, [])
        own = [path for path in places if not raw.split or _split_in(path, self.folder) in ("", raw.split)]
        if not own:
            raise InputError(f"{raw.place}: {name} is missing: put the picture there, or take its entry away")
        if len(own) > 1:
            raise InputError(f"{raw.place}: is {name} {own[0]} or {own[1]}? Write its path from {self.folder}")
        return own[0]


def _annotated(raw: _Raw, path: Path, folder: Path, classes: Sequence[str], clipped: list[int]) -> Annotated:
    """Return a picture with its boxes, checked; counts those that were clipped."""
    size = _size_of(path)
    if raw.size is not None and raw.size != size:
        height, width = size
        turned = ", turned upright as its EXIF orientation says" if raw.size == size[::-1] else ""
        raise InputError(
            f"{raw.place}: {raw.size[1]} x {raw.size[0]} pixels are written of {path.name}, which has {width} x "
            f"{height}{turned}: mend the size, and the boxes with it"
        )
    boxes = []
    for place, label, corners, kind, area in raw.boxes:
        inside = _within(place, corners, size, clipped)
        if label in classes:
            own = (inside[2] - inside[0]) * (inside[3] - inside[1])
            boxes.append(Box(label, inside, kind, own if area is None else area))
    there = {box.label for box in boxes if box.kind == OBJECT}
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else raw.name
    label = next((label for label in reversed(classes) if label in there), NOTHING_THERE)
    return Annotated(path, readable_name(name), label, split=raw.split, place=raw.place, size=size, boxes=tuple(boxes))


def _size_of(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            sideways = image.getexif().get(ORIENTATION) in _UPRIGHT_SIDEWAYS
            return (image.width, image.height) if sideways else (image.height, image.width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image: fetch the file again, or take it away") from error


def _within(
    place: str, corners: tuple[float, float, float, float], size: tuple[int, int], clipped: list[int]
) -> tuple[float, float, float, float]:
    """Return a box within its picture.

    Raises:
        InputError: it is none, or sticks out by more than rounding.
    """
    left, top, right, bottom = corners
    told = f"{place}: the box from ({left:g}, {top:g}) to ({right:g}, {bottom:g})"
    if not all(map(math.isfinite, corners)):
        raise InputError(f"{told} has a corner that is no number: mend it, or take it away")
    if right <= left or bottom <= top:
        raise InputError(f"{told} has no size: mend it, or take it away")
    height, width = size
    across, down = max(1.0, OUTSIDE * width), max(1.0, OUTSIDE * height)
    if left < -across or top < -down or right > width + across or bottom > height + down:
        raise InputError(f"{told} is outside of its picture of {width} x {height} pixels: mend it, or take it away")
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        raise InputError(f"{told} is outside of its picture of {width} x {height} pixels: mend it, or take it away")
    clipped[0] += inside != corners
    return inside


# COCO


def _coco_files(folder: Path) -> list[Path]:
    """Return the tables of boxes; of those of captions and keypoints, which COCO has beside them, none."""
    places = [place for place in (folder, folder / "annotations") if place.is_dir()]
    return [
        path
        for place in places
        for path in visible_files(place)
        if path.suffix.lower() == ".json" and not path.name.startswith(("captions", "person_keypoints"))
    ]


def _coco(folder: Path) -> list[_Raw]:
    raws: list[_Raw] = []
    files = _coco_files(folder)
    for path in files:
        try:
            table = json.loads(read_bytes(path))
        except ValueError as error:
            raise InputError(f"{path}: no JSON: {error}") from error
        lacking = [key for key in ("images", "annotations", "categories") if not _is_list(table, key)]
        if lacking:
            raise InputError(f"{path}: no list '{lacking[0]}': a table in COCO's form has one, or take the file away")
        for key in ("images", "annotations", "categories"):
            table[key] = [_coco_entry(path, key, entry) for entry in table[key]]
        raws += _coco_pictures(path, table, _named_split(path.stem) if len(files) > 1 else "")
    return raws


def _is_list(table: object, key: str) -> bool:
    return isinstance(table, Mapping) and isinstance(table.get(key), list)


_COCO_IDS = ("id", "image_id", "category_id")


def _coco_entry(path: Path, key: str, entry: object) -> dict[str, Any]:
    """Return an entry with its ids as numbers where they are written as texts: some tools do one, some the other."""
    if not isinstance(entry, Mapping):
        raise InputError(f"{path}: '{key}' holds {str(entry)[:40]!r}: an entry in COCO's form is an object with an id")
    return {name: _coco_id(value) if name in _COCO_IDS else value for name, value in entry.items()}


def _coco_id(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\d+", value.strip(), re.ASCII):
        return int(value)
    return value if isinstance(value, int | str) or value is None else repr(value)


def _one_of_each_id(path: Path, entries: Sequence[Mapping[str, Any]], key: str, name: str) -> dict[Any, str]:
    """Return what each id stands for.

    Args:
        path: of the table.
        entries: of one of its lists.
        key: of the list.
        name: of what an entry's id stands for.

    Raises:
        InputError: an id stands for two.
    """
    found: dict[Any, str] = {}
    for entry in entries:
        own = str(entry.get(name))
        before = found.setdefault(entry.get("id"), own)
        if before != own:
            raise InputError(
                f"{path}: '{key}': the id {entry.get('id')} is that of '{before}' and of '{own}': give each its own, "
                "there and in 'annotations'"
            )
    return found


def _coco_pictures(path: Path, table: Mapping[str, Any], split: str) -> Iterator[_Raw]:
    names = _one_of_each_id(path, table["categories"], "categories", "name")
    known = _one_of_each_id(path, table["images"], "images", "file_name")
    boxes: dict[Any, list[Any]] = {}
    for entry in table["annotations"]:
        place = f"{path}: annotation {entry.get('id')}"
        if entry.get("category_id") not in names:
            raise InputError(f"{place}: unknown class {entry.get('category_id')}: add it to 'categories', or mend it")
        if entry.get("image_id") not in known:
            raise InputError(f"{place}: there is no image {entry.get('image_id')}: add it to 'images', or mend it")
        if not (isinstance(entry.get("bbox"), list) and len(entry["bbox"]) == 4):  # noqa: PLR2004 - x, y, w, h
            raise InputError(f"{place}: bbox is {entry.get('bbox')}: give [left, top, width, height]")
        left, top, width, height = _numbers(place, entry["bbox"])
        ignored = bool(entry.get("iscrowd")) or bool(entry.get("ignore"))
        area = entry.get("area")
        corners = (left, top, left + width, top + height)
        boxes.setdefault(entry["image_id"], []).append(
            (place, names[entry["category_id"]], corners, IGNORED if ignored else OBJECT,
             float(area) if isinstance(area, int | float) and area > 0 else None)
        )  # fmt: skip
    for entry in table["images"]:
        place = f"{path}: image {entry.get('id')}"
        if not isinstance(entry.get("file_name"), str):
            raise InputError(f"{place}: no file_name: name the picture's file")
        size = (entry.get("height"), entry.get("width"))
        written = size if all(isinstance(side, int) for side in size) else None
        yield _Raw(entry["file_name"], split, place, written, boxes.get(entry.get("id"), ()))


def _numbers(place: str, values: Sequence[Any]) -> list[float]:
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{place}: {str(list(values))[:_SHOWN]} are no numbers: mend them") from None


_SHOWN = 80
"""Letters of what is wrong: a number may have thousands."""


def _named_split(stem: str) -> str:
    """Return the split that a file's name tells: instances_train2017, val."""
    words = "".join(letter if letter.isalpha() else " " for letter in stem.lower()).split()
    return next((SPLIT_NAMES[word] for word in reversed(words) if word in SPLIT_NAMES), "")


# Pascal VOC


def _is_voc(path: Path) -> bool:
    return b"<annotation" in read_bytes(path)[:4096]


def _voc(folder: Path) -> list[_Raw]:
    listed = _image_sets(folder)
    raws = []
    for path in all_files(folder):
        if path.suffix.lower() != ".xml" or not _is_voc(path):
            continue
        try:
            root = ET.fromstring(read_bytes(path))  # noqa: S314 - Python's own refuses what would explode
        except ET.ParseError as error:
            raise InputError(f"{path}: no XML: {error}: mend the file, or take it away") from error
        name = (root.findtext("filename") or "").strip() or f"{path.stem}.jpg"
        size = root.find("size")
        told = [] if size is None else [size.findtext(side) or 0 for side in ("height", "width")]
        sides = [round(side) for side in _numbers(f"{path}: size", told) if math.isfinite(side)]
        split = listed.get(path.stem, "") or _split_in(path, folder)
        raws.append(_Raw(name, split, str(path), _size(sides), [_voc_box(path, at, o)
                         for at, o in enumerate(root.iter("object"), 1)]))  # fmt: skip
    return [raw for raw in raws if raw.split] if listed else raws


def _size(sides: Sequence[int]) -> tuple[int, int] | None:
    return (sides[0], sides[1]) if len(sides) == 2 and all(sides) else None  # noqa: PLR2004 - height and width


def _voc_box(path: Path, number: int, entry: ET.Element) -> tuple[Any, ...]:
    """Return a box; VOC counts pixels from 1, and the last one is within."""
    place = f"{path}: object {number}"
    label = (entry.findtext("name") or "").strip()
    if not label:
        raise InputError(f"{place} has no class: give it a name")
    told = [entry.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    left, top, right, bottom = _numbers(place, told)
    difficult = (entry.findtext("difficult") or "0").strip() == "1"
    return place, label, (left - 1, top - 1, right, bottom), IGNORED if difficult else OBJECT, None


def _image_sets(folder: Path) -> dict[str, str]:
    """Return the split of each picture that VOC's lists name."""
    place = folder / "ImageSets" / "Main"
    found: dict[str, str] = {}
    for path in visible_files(place) if place.is_dir() else ():
        if path.suffix == ".txt" and path.stem in SPLIT_NAMES:
            lines = text_of(path).splitlines()
            found |= {line.split()[0]: SPLIT_NAMES[path.stem] for line in lines if line.strip()}
    return found


# YOLO


def _yolo(folder: Path) -> list[_Raw]:
    names, said = class_names(folder)
    keypoints = keypoint_numbers(folder)
    texts = {path: path for path in all_files(folder) if path.suffix.lower() == ".txt"}
    raws = []
    for path in all_files(folder):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        beside = path.with_suffix(".txt")
        apart = Path(*("labels" if part == "images" else part for part in beside.relative_to(folder).parts))
        text = texts.get(beside) or texts.get(folder / apart) or texts.get(folder / "labels" / beside.name)
        size = _size_of(path)
        boxes = [
            (f"{text}: line {line}", _yolo_class(f"{text}: line {line}", number, names, said),
             _yolo_corners(numbers, size), OBJECT, None)
            for line, number, numbers in (lines_of(text, keypoints) if text is not None else ())
        ]  # fmt: skip
        name = path.relative_to(folder).as_posix()
        raws.append(_Raw(name, _split_in(path, folder), str(text or path), None, boxes))
    if not raws:
        raise InputError(f"{folder}: no pictures beside labels/: put images/ there")
    return raws


def _yolo_class(place: str, number: int, names: Sequence[str], said: str) -> str:
    if names and not 0 <= number < len(names):
        raise InputError(f"{place}: unknown class {number}: {said} names {len(names)}, from 0 on: mend one of them")
    return names[number] if names else f"class_{number}"


def _yolo_corners(numbers: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    x, y, width, height = numbers
    high, wide = size
    return (x - width / 2) * wide, (y - height / 2) * high, (x + width / 2) * wide, (y + height / 2) * high


def _split_in(path: Path, folder: Path) -> str:
    """Return the split that a folder on the way to a file tells."""
    try:
        parts = path.relative_to(folder).parts[:-1]
    except ValueError:  # in an archive
        parts = path.parts[:-1]
    return next((split for part in reversed(parts) if (split := _named_split(part))), "")
