"""Folders of images and masks as people have them: beside each other, dealt into splits or not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qanas.core.errors import InputError
from qanas.tasks.folders import read_bytes, require_folder, visible_files, visible_folders
from qanas.tasks.pictures import IMAGE_SUFFIXES, readable_name
from qanas.tasks.segmentation.files import MASK_SUFFIXES, SPLITS, Pair, Pairs, find_pairs, pairs_of
from qanas.tasks.splits import SPLIT_NAMES, completed, shares_held_out, together, told_group

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "photos", "pictures", "frames", "rgb", "inputs", "jpegimages")
MASK_FOLDERS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "annots", "gt", "ground_truth", "groundtruth",
    "segmentations", "segmentation", "segmentationclass", "targets",
)  # fmt: skip
"""What people call them, in small letters."""

EXPECTED = "train/, trainannot/, ..., or images/ and masks/"


@dataclass(frozen=True)
class Division:
    """How pairs are dealt into the splits that no folder tells.

    Attributes:
        val_fraction: share of the images that is validated on.
        test_fraction: share that is tested on.
        split_seed: which ones.
        group_pattern: a regular expression whose one group (...) tells from an image's name what it belongs to, such as
            a drive: that stays in one split. None: each image is by itself.
    """

    val_fraction: float
    test_fraction: float
    split_seed: int
    group_pattern: str | None = None

    def group_of(self, name: str) -> str:
        """Return what an image belongs to, by its name; nothing without a pattern.

        Raises:
            InputError: the pattern is none, or tells nothing of the name.
        """
        if self.group_pattern is None:
            return ""
        return told_group(self.group_pattern, name, name)


def has_masks(folder: Path) -> bool:
    """Tell whether a folder has images and masks in any of the layouts."""
    if (folder / "train").is_dir() and (folder / "trainannot").is_dir():
        return True
    return any(_holds_pictures(masks) for _, _, masks in _sides(folder))


def find_folders(folder: Path, division: Division) -> tuple[Pairs, list[str]]:
    """Return the pairs of each split, and remarks.

    Layouts: ``train/`` and ``trainannot/`` (and so on) as CamVid has them; ``images/`` and ``masks/``, in folders of
    splits, with folders of splits in them, or neither. What is not told is dealt.

    Args:
        folder: of the data.
        division: of what is dealt.

    Raises:
        InputError: an image or a mask is missing, or there are too few.
    """
    require_folder(folder, EXPECTED)
    sides = list(_sides(folder))
    if not sides or (folder / "trainannot").is_dir():
        if not any((folder / f"{split}annot").is_dir() for split in SPLITS):
            raise InputError(f"{folder}: no folders of images and masks: name them {EXPECTED}")
        return find_pairs(folder), []
    given = [(split, pair) for split, images, masks in sides for pair in pairs_of(images, masks)]
    given.sort(key=lambda found: found[1].image.relative_to(folder).as_posix())
    if {split for split, _ in given} == set(SPLITS):
        return {name: [pair for split, pair in given if split == name] for name in SPLITS}, []
    return _dealt(folder, given, division)


def _dealt(folder: Path, given: Sequence[tuple[str, Pair]], division: Division) -> tuple[Pairs, list[str]]:
    """Return pairs by split, those that nobody told dealt: equal images and groups stay together."""
    shares = shares_held_out(division.val_fraction, division.test_fraction)
    pairs = [pair for _, pair in given]
    contents = [hashlib.sha256(read_bytes(pair.image)).hexdigest() for pair in pairs]
    groups = together([division.group_of(readable_name(pair.image.stem)) for pair in pairs], contents)
    told = [split for split, _ in given]
    splits, remarks = completed(["image"] * len(pairs), groups, told, shares, division.split_seed, str(folder))
    copies = len(contents) - len(set(contents))
    if copies:
        remarks = [f"{copies} images equal another one: kept in one split", *remarks]
    dealt = list(zip(splits, pairs, strict=True))
    return {name: [pair for split, pair in dealt if split == name] for name in SPLITS}, remarks


def _sides(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield split, images and masks wherever a folder of images has one of masks beside it; the split may be empty."""
    own = _beside(folder)
    if own is not None:
        images, masks = (_by_split(side) for side in own)
        if images and images.keys() == masks.keys():
            for split, inner in images.items():
                yield split, inner, masks[split]
        else:
            yield "", *own
        return
    for split, inner in _by_split(folder).items():
        beside = _beside(inner)
        if beside is not None:
            yield split, *beside


def _by_split(folder: Path) -> dict[str, Path]:
    """Return the folders of splits in a folder, by split."""
    named = [(SPLIT_NAMES.get(path.name.lower()), path) for path in visible_folders(folder)]
    return {split: path for split, path in named if split is not None}


def _beside(folder: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of masks in a folder."""
    inner = visible_folders(folder)
    images = [path for path in inner if path.name.lower() in IMAGE_FOLDERS]
    masks = [path for path in inner if path.name.lower() in MASK_FOLDERS and _holds_pictures(path)]
    if not images or not masks:
        return None
    for found in (images, masks):
        if len(found) > 1:
            raise InputError(f"{found[1]}: {found[0].name}/ is beside it: take one of them away")
    return images[0], masks[0]


def _holds_pictures(folder: Path) -> bool:
    places = [folder, *_by_split(folder).values()]
    suffixes = (*IMAGE_SUFFIXES, *MASK_SUFFIXES)
    return any(path.suffix.lower() in suffixes for place in places for path in visible_files(place))
