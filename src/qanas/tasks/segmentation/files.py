"""A data set on disk: which file is whose mask, and what its numbers mean."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qanas.core.errors import InputError
from qanas.tasks.folders import read_bytes, require_folder, visible_files
from qanas.tasks.pictures import IMAGE_SUFFIXES

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

Dataset = Literal["camvid", "cityscapes", "folders"]

CAMVID_VOID = 11
FOLDERS_VOID = 255

OWN_VOID = -1
"""The setting ``void_id`` that stands for the data set's own."""

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


def labels_of(dataset: Dataset, classes: Sequence[str], void_id: int) -> Labels:
    """Return what the numbers in a data set's masks mean.

    Args:
        dataset: its layout.
        classes: names of its classes; none: its own.
        void_id: of pixels that don't count, or `OWN_VOID`.

    Raises:
        InputError: settings that don't fit together.
    """
    if dataset == "cityscapes":
        if classes or void_id != OWN_VOID:
            raise InputError("task.dataset: 'cityscapes' has its own classes; leave task.classes and void_id out")
        return cityscapes_labels()
    if dataset == "folders" and not classes:
        raise InputError("task.classes: 'folders' has no classes of its own; name them in the order of their ids")
    own_void = FOLDERS_VOID if classes else CAMVID_VOID
    return numbered_labels(classes or CAMVID_CLASSES, void_id if void_id >= 0 else own_void)


SPLITS = ("train", "val", "test")
MASK_SUFFIX = ".png"
MASK_SUFFIXES = (MASK_SUFFIX, ".bmp", ".tif", ".tiff", ".gif")
"""Of files that keep every number as it is."""

_MASK_ENDINGS = ("_mask", "_masks", "_seg", "_segmentation", "_gt", "_label", "_labels", "_L", "-mask")
_IMAGE_ENDINGS = ("_image", "_img", "_sat")
"""What people put behind a name that image and mask share."""

CITYSCAPES_IMAGE = "_leftImg8bit.png"
CITYSCAPES_MASK = "_gtFine_labelIds.png"
HELD_OUT_CITIES = 0.1
"""Share of Cityscapes' training cities that is validated on: its test set has no public masks."""


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    image: Path
    mask: Path


Pairs = Mapping[str, Sequence[Pair]]
"""The pairs of each of `SPLITS`, in the order of their names."""


def find_pairs(folder: Path) -> Pairs:
    """Return the pairs of a data set laid out as CamVid: ``train/x.jpg`` and ``trainannot/x.png``, and so on.

    Raises:
        InputError: a folder, an image or a mask is missing.
    """
    require_folder(folder, "train/, trainannot/, val/, valannot/, test/ and testannot/")
    return {split: pairs_of(folder / split, folder / f"{split}annot") for split in SPLITS}


def find_cityscapes_pairs(folder: Path) -> Pairs:
    """Return the pairs of Cityscapes: the last tenth of the training cities is val, the official val is test.

    Raises:
        InputError: a folder or a mask is missing, or there are too few cities to split.
    """
    require_folder(folder, "leftImg8bit/ and gtFine/")
    train = _cities(folder, "train")
    names = sorted(train)
    if len(names) < 2:  # noqa: PLR2004 - one to train on, one to validate on
        raise InputError(
            f"{folder / 'leftImg8bit/train'}: one city, {names[0]}; validation needs another: add its folder"
        )
    held_out = names[-max(round(HELD_OUT_CITIES * len(names)), 1) :]
    return {
        "train": [pair for name in names if name not in held_out for pair in train[name]],
        "val": [pair for name in held_out for pair in train[name]],
        "test": [pair for pairs in _cities(folder, "val").values() for pair in pairs],
    }


def digest(folder: Path, pairs: Pairs) -> str:
    """Return the SHA-256 over split, name and bytes of every file, whatever ``folder`` is called.

    Raises:
        InputError: a file can't be read.
    """
    total = hashlib.sha256()
    for split in SPLITS:
        for pair in pairs[split]:
            for path in (pair.image, pair.mask):
                content = read_bytes(path)
                # Names are bytes to the system: not all of them are UTF-8.
                total.update(os.fsencode(f"{split}/{path.relative_to(folder).as_posix()}/{len(content)}/"))
                total.update(content)
    return total.hexdigest()


def _files(folder: Path) -> list[Path]:
    """Return a folder's files by name, hidden ones left out."""
    if not folder.is_dir():
        raise InputError(f"{folder} is missing: put that folder there, or change task.data or task.dataset")
    return visible_files(folder)


def pairs_of(images: Path, masks: Path) -> list[Pair]:
    """Return the pairs of one split; names are equal up to the suffix, and to `_mask` and the like.

    Raises:
        InputError: a folder, an image or a mask is missing.
    """
    found = [path for path in _files(images) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise InputError(f"{images}: no images: put files there that end in {', '.join(IMAGE_SUFFIXES)}")
    for path, following in itertools.pairwise(found):
        if path.stem == following.stem:
            raise InputError(f"{following}: {path.name} is beside it and has the same mask; take one of them away")
    stems = {_without(path.stem, _IMAGE_ENDINGS): path.stem for path in found} | {
        path.stem: path.stem for path in found
    }
    named: dict[str, Path] = {}
    for path in _files(masks):
        if path.suffix.lower() not in MASK_SUFFIXES:
            continue
        stem = stems.get(path.stem) or stems.get(_without(path.stem, _MASK_ENDINGS))
        if stem is None:
            raise InputError(f"{path}: {images} has no image of that name; put it there, or take the mask away")
        if stem in named:
            raise InputError(f"{path}: {named[stem].name} is beside it; an image has one mask: take one away")
        named[stem] = path
    return _with_masks([Pair(path, named.get(path.stem, masks / f"{path.stem}{MASK_SUFFIX}")) for path in found])


def _without(stem: str, endings: Sequence[str]) -> str:
    """Return a name without the first of some endings that it has."""
    return next((stem.removesuffix(ending) for ending in endings if stem.endswith(ending)), stem)


def _cities(folder: Path, part: str) -> dict[str, list[Pair]]:
    """Return the pairs of each city of ``train`` or ``val``, by name."""
    images, masks = folder / "leftImg8bit" / part, folder / "gtFine" / part
    if not images.is_dir():
        raise InputError(f"{images} is missing: unpack Cityscapes' leftImg8bit there, or change task.data")
    cities = {}
    for city in sorted(path for path in images.iterdir() if path.is_dir()):
        paths = [path for path in _files(city) if path.name.endswith(CITYSCAPES_IMAGE)]
        names = [path.name.removesuffix(CITYSCAPES_IMAGE) + CITYSCAPES_MASK for path in paths]
        pairs = [Pair(path, masks / city.name / name) for path, name in zip(paths, names, strict=True)]
        if pairs:
            cities[city.name] = _with_masks(pairs)
    if not cities:
        raise InputError(f"{images}: no images: put Cityscapes' folders of cities there, files *{CITYSCAPES_IMAGE}")
    return cities


def _with_masks(pairs: list[Pair]) -> list[Pair]:
    """Return the pairs.

    Raises:
        InputError: a mask is missing.
    """
    lacking = [pair for pair in pairs if not pair.mask.is_file()]
    if lacking:
        beside = [path for path in visible_files(lacking[0].mask.parent) if path.stem == lacking[0].mask.stem]
        if beside:
            raise InputError(
                f"{beside[0]}: masks have to be PNG: save them anew from what they were made of, for JPEG mixes the "
                "ids of neighbouring pixels"
            )
        others = f" (and those of {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise InputError(
            f"{lacking[0].mask} is missing{others}: put it there, or take the image {lacking[0].image.name} away"
        )
    return pairs
