"""Pictures: read from files as viewers show them, brought to a size, standardised; and which sizes are searched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field

from qanas.core.errors import InputError
from qanas.tasks.samples import FloatArray

Bytes = NDArray[np.uint8]
Images = Bytes | NDArray[np.float32]
Size = tuple[int, int]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

SMALLEST_SIDE, LARGEST_SIDE = 8, 4096
Side = Annotated[int, Field(ge=SMALLEST_SIDE, le=LARGEST_SIDE)]

SEARCHED_SHARES = (0.5, 0.75, 1.25)
"""Sides that are searched beside the task's own, as shares of it, in multiples of `SIDE_STEP`."""

SIDE_STEP = 8

DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's names of one grey value a pixel that is no byte: 16 bits, as of microscopes and thermal cameras, or real."""

ORIENTATION = 0x0112
TURNED = range(2, 9)
"""The EXIF tag that says how a picture is to be turned, and its values where it is."""

SIXTEEN_BITS = ";16"
"""In Pillow's names of how pixels are stored: colours of 16 bits, of which it reads the upper 8."""

LEAST_OF_UPPER = 64
"""What the upper 8 bits of a split's largest colour have to reach: below, two bits and more of them say nothing."""


def open_picture(path: Path, at_least: int | None = None) -> tuple[Image.Image, bool, bool]:
    """Return a decoded image as viewers show it, whether it had to be turned, and whether colours lost 8 bits.

    Args:
        path: of the file.
        at_least: pixels of a side that are enough: JPEG is quicker decoded at half its size and less.
    """
    try:
        with Image.open(path) as image:
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            halved = image.mode not in DEEP_MODES and any(SIXTEEN_BITS in str(tile) for tile in image.tile)
            image.load()
            turned = image.getexif().get(ORIENTATION) in TURNED
            return ImageOps.exif_transpose(image) if turned else image, turned, halved
    # What a damaged file raises depends on its format and on where the damage is.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a readable image"
        raise InputError(f"{path}: {reason}: fetch the file again, or take it away") from error


def plain(path: Path, image: Image.Image) -> Image.Image:
    """Return an image of bytes in red, green and blue, or grey as it is."""
    if "transparency" in image.info:  # what shines through has colours of its own
        image = image.convert("RGBA")
    try:
        return image if image.mode == "L" else image.convert("RGB")
    except ValueError as error:
        raise InputError(f"{path}: its pixels are {image.mode}: save the image as RGB or grey") from error


def resized(path: Path, image: Image.Image, size: Size) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Return an image's colours, or its one deep value three times, shape (3, height, width)."""
    height, width = size
    pixels = image.convert("F") if image.mode in DEEP_MODES else plain(path, image)
    values = np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR))
    if pixels.mode == "L":
        return np.broadcast_to(values, (3, height, width))
    if pixels.mode == "RGB":
        return np.moveaxis(values, 2, 0)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds NaN or infinite values: mend the image, or take it away")
    return np.broadcast_to(values.astype(np.float32), (3, height, width))


GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601)."""


def grey_of(values: Images) -> Images:
    """Return shape (1, height, width) of colours, shape (3, height, width)."""
    if values.dtype != np.uint8:
        return values[:1]
    grey: Images = np.tensordot(np.array(GREY), values, 1).round().astype(np.uint8)[None]
    return grey


PRINT_SIDE = 8


def print_of_picture(path: Path) -> FloatArray:
    """Return a picture's colours in 8 x 8 cells, 0 to 255, shape (192,): alike in copies of it, see `likeness`.

    Raises:
        InputError: it is damaged.
    """
    image, _, _ = open_picture(path, 4 * PRINT_SIDE)
    return resized(path, image, (PRINT_SIDE, PRINT_SIDE)).astype(np.float32).reshape(-1)


def readable_name(name: str) -> str:
    """Return a file's name as text that can be written: bytes that are no UTF-8 become question marks."""
    return os.fsencode(name).decode("utf-8", "replace")


def channel_statistics(images: Images) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each channel's mean and standard deviation over all pixels, both of shape (channels,).

    A channel that is constant has the deviation 1.

    Args:
        images: 0 to 255, or deep values, shape (n, channels, height, width).
    """
    if images.dtype != np.uint8:
        means = images.mean(axis=(0, 2, 3), dtype=np.float64)
        deviations = images.std(axis=(0, 2, 3), dtype=np.float64)
        return means, np.where(np.ptp(images, axis=(0, 2, 3)) > 0, deviations, 1.0)
    values = np.arange(256)
    counts = np.stack(
        [np.bincount(images[:, channel].reshape(-1), minlength=256) for channel in range(images.shape[1])]
    )
    shares = counts / counts.sum(axis=1, keepdims=True)
    means = shares @ values
    deviations = np.sqrt((shares * (values - means[:, None]) ** 2).sum(axis=1))
    return means, np.where(deviations > 0, deviations, 1.0)


def standardise(images: Images, means: NDArray[np.float64], deviations: NDArray[np.float64]) -> FloatArray:
    """Return ``(value - mean) / deviation`` of each channel, in single precision, shape (n, 3, height, width)."""
    offsets, factors = means.astype(np.float32), (1.0 / deviations).astype(np.float32)
    standardised: FloatArray = images.astype(np.float32)
    standardised -= offsets[:, None, None]
    standardised *= factors[:, None, None]
    return standardised


def colours(
    inputs: FloatArray, means: Sequence[float], deviations: Sequence[float], span: tuple[float, float] = (0.0, 255.0)
) -> Bytes:
    """Return the images, 0 to 255, that `standardise` made these inputs of; shape (n, 3, height, width).

    Args:
        inputs: shape (n, 3, height, width).
        means: of the channels.
        deviations: of the channels.
        span: the values that are shown as 0 and 255.
    """
    mean, deviation = (np.asarray(values, dtype=np.float32)[:, None, None] for values in (means, deviations))
    values = inputs * deviation + mean
    if span != (0.0, 255.0):
        values = (values - np.float32(span[0])) * np.float32(255.0 / max(span[1] - span[0], 1e-12))
    images: Bytes = values.round().clip(0, 255).astype(np.uint8)
    return images


def sides_searched(own: int) -> tuple[int, ...]:
    """Return the lengths of a side that are searched, ascending.

    >>> sides_searched(96), sides_searched(30)
    ((48, 72, 96, 120), (16, 24, 30, 40))
    """
    shares = (SIDE_STEP * round(share * own / SIDE_STEP) for share in SEARCHED_SHARES)
    return tuple(sorted({own, *(side for side in shares if SMALLEST_SIDE <= side <= LARGEST_SIDE)}))
