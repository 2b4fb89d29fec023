"""Images and masks at one size, what they need to be learnt from, and masks of two classes that tools save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qanas.core.errors import InputError
from qanas.tasks.frames import Camera
from qanas.tasks.pictures import (
    DEEP_MODES,
    LEAST_OF_UPPER,
    Bytes,
    Images,
    Size,
    open_picture,
    readable_name,
    resized,
)
from qanas.tasks.segmentation.files import UNKNOWN, VOID, Labels, Pair

RESIZING = (
    "images with a triangle filter (bilinear; as much wider as the image shrinks), pixel centres at halves; "
    "masks nearest neighbour"
)
MASK_MODES = ("L", "P", "1")
"""Pillow's names of one number a pixel: grey, palette, black and white."""

ONE_NUMBER = "a mask has one 8-bit number a pixel, the id of its class"

FEW_BITS: Mapping[str, int] = {"L;2": 85, "L;4": 17}
"""Pillow's names of how grey pixels of 2 and 4 bits are stored, and what it multiplies them with: white is 255."""


@dataclass(frozen=True)
class Read:
    """The images and masks of one split, each at one size.

    Attributes:
        images: red, green and blue from 0 to 255, shape (n, 3, height, width); of `DEEP_MODES` the values as they are
            in the file, in single precision, three times the same.
        masks: classes and `VOID`, shape (n, height, width).
        names: of the image files without suffix, shape (n,).
        turned: how many images were turned as their EXIF tag says.
        halved: how many have colours of 16 bits, of which the upper 8 are read.
        frames: heights and widths of the images, as the camera sees them.
        grey: whether all are of one byte a pixel.
    """

    images: Images
    masks: Bytes
    names: NDArray[np.str_]
    turned: int = 0
    halved: int = 0
    frames: frozenset[Size] = frozenset()
    grey: bool = False

    @property
    def deep(self) -> bool:
        """Whether values are more than bytes."""
        return self.images.dtype != np.uint8


def read_pairs(pairs: Sequence[Pair], labels: Labels, size: Size, mask_size: Size, camera: Camera) -> Read:
    """Read pairs, each file once.

    Args:
        pairs: at least one.
        labels: what the masks' numbers mean.
        size: height and width to bring images to.
        mask_size: height and width to bring masks to.
        camera: what images are brought to before; masks keep what it sees of them.

    Raises:
        InputError: a file is damaged, a mask doesn't fit its image, or it has a number that means nothing; or colours
            of 16 bits use few of them.
    """
    deep = open_picture(pairs[0].image)[0].mode in DEEP_MODES
    images = np.empty((len(pairs), 3, *size), dtype=np.float32 if deep else np.uint8)
    masks = np.empty((len(pairs), *mask_size), dtype=np.uint8)
    table = labels.table
    turned, halved, largest, grey = 0, 0, 0, True
    frames: set[Size] = set()
    for index, pair in enumerate(pairs):
        image, was_turned, was_halved = open_picture(pair.image)
        mask, _, mask_halved = open_picture(pair.mask)
        turned += was_turned
        halved += was_halved
        _require_same_size(pair, image, mask, was_turned=was_turned)
        if (image.mode in DEEP_MODES) != deep:
            modes = f"{image.mode}, those of {pairs[0].image.name} {'more than bytes' if deep else 'bytes'}"
            raise InputError(f"{pair.image}: its pixels are {modes}: save all images with values of the same kind")
        classes = _classes(pair.mask, mask_ids(pair.mask, mask, mask_halved), table, labels)
        top, left, height, width = camera.part((mask.height, mask.width))
        rows, columns = nearest_pixels(top, height, mask_size[0]), nearest_pixels(left, width, mask_size[1])
        image = camera.seen(pair.image, image)
        frames.add((image.height, image.width))
        grey &= image.mode == "L" and "transparency" not in image.info
        images[index] = resized(pair.image, image, size)
        largest = max(largest, 0 if deep else int(images[index].max()))
        masks[index] = classes[rows[:, None], columns]
    if halved and largest < LEAST_OF_UPPER:
        raise InputError(
            f"{pairs[0].image.parent}: colours of 16 bits are read by their upper 8, and those are at most {largest}: "
            "save images of 8 bits a colour, scaled to the whole range"
        )
    names = np.array([readable_name(pair.image.stem) for pair in pairs])
    return Read(images, masks, names, turned, halved, frozenset(frames), grey)


def _require_same_size(pair: Pair, image: Image.Image, mask: Image.Image, *, was_turned: bool) -> None:
    if image.size == mask.size:
        return
    sizes = f"{mask.width} x {mask.height} pixels, but {pair.image.name} has {image.width} x {image.height}"
    if was_turned and image.size == mask.size[::-1]:
        raise InputError(
            f"{pair.mask}: {sizes} turned upright, as its EXIF orientation says: the mask is of the picture as it is "
            "stored; save the image without the tag"
        )
    raise InputError(f"{pair.mask}: {sizes}: give both the same size")


def nearest_pixels(first: Fraction | int, length: Fraction | int, wanted: int) -> NDArray[np.int64]:
    """Return the source pixel under the centre of each pixel wanted: exact integers, where Pillow's sums round.

    Args:
        first: where what is wanted begins along an axis of the source, in pixels.
        length: of it.
        wanted: pixels of the result, shape (wanted,).
    """
    parts = first.denominator * length.denominator
    doubled = 2 * wanted * int(first * parts) + (2 * np.arange(wanted, dtype=np.int64) + 1) * int(length * parts)
    return doubled // (2 * wanted * parts)


def _classes(path: Path, ids: Bytes, table: NDArray[np.int16], labels: Labels) -> Bytes:
    """Return a mask's classes, shape (height, width)."""
    if not np.isin(ids, (0, 255)).all():  # else black and white, as masks of two classes are saved
        ids = ids // _factor(path)
    classes = table[ids]
    unknown = classes == UNKNOWN
    if unknown.any():
        row, column = np.unravel_index(int(np.argmax(unknown)), unknown.shape)
        raise InputError(
            f"{path}: label {ids[row, column]} in row {row + 1}, column {column + 1}: {labels.described()}: "
            "mend the mask, or change task.classes or task.void_id"
        )
    return classes.astype(np.uint8)


def mask_ids(path: Path, mask: Image.Image, halved: bool) -> Bytes:
    """Return a mask's numbers, shape (height, width): of grey ones that were saved as colours or 16 bits, too.

    Args:
        path: for messages.
        mask: decoded.
        halved: whether that took its lower 8 bits away (`open_picture`).

    Raises:
        InputError: it has colours, or larger numbers.
    """
    values = np.asarray(mask)
    if mask.mode in (*MASK_MODES, *DEEP_MODES):
        with np.errstate(invalid="ignore"):
            ids = values.astype(np.uint8)
        if (ids == values).all():
            return ids
        raise InputError(f"{path}: its pixels reach {values.max():g}: {ONE_NUMBER}: number the classes from 0 on")
    if not halved and mask.mode in ("RGB", "RGBA", "LA"):
        opaque = "A" not in mask.mode or bool((values[..., -1] == np.iinfo(np.uint8).max).all())
        colours = values[..., : 1 if mask.mode == "LA" else 3]
        if opaque and (colours == colours[..., :1]).all():
            return np.ascontiguousarray(colours[..., 0])
    kind = f"{mask.mode} of 16 bits" if halved else mask.mode
    raise InputError(f"{path}: its pixels are {kind}: {ONE_NUMBER}: save it as grey or with a palette")


def _factor(path: Path) -> int:
    """Return what a mask's ids were multiplied with when it was decoded."""
    with Image.open(path) as image:
        stored = str(image.tile)
    return next((factor for name, factor in FEW_BITS.items() if f"'{name}'" in stored), 1)


def require_usable(folder: Path, found: Mapping[str, Read], classes: Sequence[str]) -> None:
    """Refuse what nothing can be learnt from.

    Args:
        folder: of the data set.
        found: what was read, by split.
        classes: their names.

    Raises:
        InputError: a split is void, splits are of different kinds, or there is nothing to tell apart.
    """
    for split, read in found.items():
        if (read.masks == VOID).all():
            raise InputError(f"{folder}: every pixel of the {split} masks is void: label some")
        if read.deep != found["train"].deep:
            raise InputError(f"{folder}: images of train and {split} have different kinds of values; save all alike")
    labels = np.unique(found["train"].masks)
    labels = labels[labels != VOID]
    if len(labels) == 1:
        raise InputError(
            f"{folder}: every pixel of the training masks that isn't void is '{classes[labels[0]]}': there is nothing "
            "to tell apart; give the other classes' pixels their ids, and see task.void_id"
        )


def with_binary_masks(found: dict[str, Read], second: str) -> tuple[dict[str, Read], tuple[str, ...]]:
    """Return masks of 0 and 255 alone as tools save two classes: 255 is the second one there, not void.

    That it was done is the second thing returned, or that some masks may have it as 1 and others as 255.

    Args:
        found: what was read, by split, where nobody said what is void.
        second: the name of the second of two classes.
    """
    labels = {int(label) for read in found.values() for label in np.unique(read.masks)}
    if labels == {0, 1, VOID}:
        return found, _two_ways(found, second)
    if labels != {0, VOID} or not all((read.masks == 0).any() for read in found.values()):
        return found, ()
    taken = {
        split: replace(read, masks=np.where(read.masks == VOID, 1, 0).astype(np.uint8)) for split, read in found.items()
    }
    said = f"masks hold 0 and 255 alone: 255 is read as '{second}'; task.void_id = 255 would make it void"
    return taken, (said,)


def _two_ways(found: Mapping[str, Read], name: str) -> tuple[str, ...]:
    """Say where some masks have the second class as 1 and others, so it seems, as 255."""
    masks = [mask for read in found.values() for mask in read.masks]
    ones, voids = ([bool((mask == label).any()) for mask in masks] for label in (1, VOID))
    if any(one and void for one, void in zip(ones, voids, strict=True)):
        return ()
    said = (
        f"{sum(voids)} masks hold 0 and 255 alone, others 0 and 1: 255 is void; where '{name}' is meant, save it as 1"
    )
    return (said,)
