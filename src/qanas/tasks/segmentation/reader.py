"""Reads images and masks, checks them, and brings them to one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qanas.core.errors import InputError
from qanas.tasks.segmentation.folders import Pair
from qanas.tasks.segmentation.labels import UNKNOWN, Labels

Bytes = NDArray[np.uint8]
Size = tuple[int, int]

RESIZING = (
    "images with a triangle filter (bilinear; as much wider as the image shrinks), pixel centres at halves; "
    "masks nearest neighbour"
)
MASK_MODES = ("L", "P", "1")
"""Pillow's names of one number a pixel: grey, palette, black and white."""


@dataclass(frozen=True)
class Frames:
    """The images and masks of one split, at one size.

    Attributes:
        images: red, green and blue from 0 to 255, shape (n, 3, height, width).
        masks: classes and `qanas.tasks.segmentation.labels.VOID`, shape (n, height, width).
        names: of the image files without suffix, shape (n,).
    """

    images: Bytes
    masks: Bytes
    names: NDArray[np.str_]


def read_frames(pairs: Sequence[Pair], labels: Labels, size: Size) -> Frames:
    """Read pairs, each file once.

    Args:
        pairs: at least one.
        labels: what the masks' numbers mean.
        size: height and width to bring them to.

    Raises:
        InputError: a file is damaged, a mask doesn't fit its image, or it has a number that means nothing.
    """
    height, width = size
    images = np.empty((len(pairs), 3, height, width), dtype=np.uint8)
    masks = np.empty((len(pairs), height, width), dtype=np.uint8)
    table = labels.table
    for index, pair in enumerate(pairs):
        image, mask = _load(pair.image), _load(pair.mask)
        if image.size != mask.size:
            raise InputError(
                f"{pair.mask}: {mask.width} x {mask.height} pixels, but {pair.image.name} has "
                f"{image.width} x {image.height}: give both the same size"
            )
        classes = _classes(pair.mask, mask, table, labels)
        rows, columns = _nearest(mask.height, height), _nearest(mask.width, width)
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        images[index] = np.moveaxis(np.asarray(resized), 2, 0)
        masks[index] = classes[rows[:, None], columns]
    return Frames(images, masks, np.array([pair.image.stem for pair in pairs]))


def _load(path: Path) -> Image.Image:
    """Return a decoded image."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    # What a damaged file raises depends on its format and on where the damage is.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a readable image"
        raise InputError(f"{path}: {reason}: fetch the file again, or take image and mask away") from error


def _nearest(size: int, wanted: int) -> NDArray[np.int64]:
    """Return the source pixel under the centre of each pixel wanted: exact integers, where Pillow's sums round."""
    return (2 * np.arange(wanted, dtype=np.int64) + 1) * size // (2 * wanted)


def _classes(path: Path, mask: Image.Image, table: NDArray[np.int16], labels: Labels) -> Bytes:
    """Return a mask's classes, shape (height, width)."""
    if mask.mode not in MASK_MODES:
        raise InputError(
            f"{path}: its pixels are {mask.mode}: a mask has one 8-bit number a pixel, the id of its class: "
            "save it as grey or with a palette"
        )
    ids = np.asarray(mask).astype(np.uint8)
    classes = table[ids]
    unknown = classes == UNKNOWN
    if unknown.any():
        row, column = np.unravel_index(int(np.argmax(unknown)), unknown.shape)
        raise InputError(
            f"{path}: label {ids[row, column]} in row {row + 1}, column {column + 1}: {labels.described()}: "
            "mend the mask, or change task.classes or task.void_id"
        )
    return classes.astype(np.uint8)
