"""Where the images and masks of a data set are: every image has a mask, and every split has images."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qanas.core.errors import InputError

SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
MASK_SUFFIX = ".png"

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
    _require_folder(folder, "train/, trainannot/, val/, valannot/, test/ and testannot/")
    return {split: _pairs_of(folder / split, folder / f"{split}annot") for split in SPLITS}


def find_cityscapes_pairs(folder: Path) -> Pairs:
    """Return the pairs of Cityscapes: the last tenth of the training cities is val, the official val is test.

    Raises:
        InputError: a folder or a mask is missing, or there are too few cities to split.
    """
    _require_folder(folder, "leftImg8bit/ and gtFine/")
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
                content = _read_bytes(path)
                total.update(f"{split}/{path.relative_to(folder).as_posix()}/{len(content)}/".encode())
                total.update(content)
    return total.hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}: make it readable") from error


def _require_folder(folder: Path, expected: str) -> None:
    if not folder.is_dir():
        reason = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"task.data: {folder} {reason}: give the folder that holds {expected}, or 'synthetic'")


def _files(folder: Path) -> list[Path]:
    """Return a folder's files by name, hidden ones left out."""
    if not folder.is_dir():
        raise InputError(f"{folder} is missing: put that folder there, or change task.data or task.dataset")
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _pairs_of(images: Path, masks: Path) -> list[Pair]:
    """Return the pairs of one split; names are equal up to the suffix."""
    found = [path for path in _files(images) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise InputError(f"{images}: no images: put files there that end in {', '.join(IMAGE_SUFFIXES)}")
    for path, following in itertools.pairwise(found):
        if path.stem == following.stem:
            raise InputError(f"{following}: {path.name} is beside it and has the same mask; take one of them away")
    stems = {path.stem for path in found}
    for path in _files(masks):
        if path.suffix.lower() == MASK_SUFFIX and path.stem not in stems:
            raise InputError(f"{path}: {images} has no image of that name; put it there, or take the mask away")
    return _with_masks([Pair(path, masks / f"{path.stem}{MASK_SUFFIX}") for path in found])


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
        others = f" (and those of {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise InputError(
            f"{lacking[0].mask} is missing{others}: put it there, or take the image {lacking[0].image.name} away"
        )
    return pairs
