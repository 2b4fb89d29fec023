"""Pictures at one size, in colours or grey, as bytes or as deep values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qanas.core.errors import InputError
from qanas.tasks.frames import Camera
from qanas.tasks.pictures import DEEP_MODES, LEAST_OF_UPPER, Images, Size, grey_of, open_picture, resized, standardise
from qanas.tasks.samples import DecodedSplit, FloatArray, Split

Colour = Literal["rgb", "grey"]
Fitting = Literal["stretch", "crop"]


@dataclass(frozen=True)
class Look:
    """How a picture is brought to a network.

    Attributes:
        size: pixels of a side.
        colour: three channels or one.
        fit: "stretch": the whole picture, whatever its sides; "crop": the middle square of it.
        camera: what pictures are brought to before, as it would see them.
    """

    size: int
    colour: Colour
    fit: Fitting
    camera: Camera = field(default_factory=Camera)

    @property
    def channels(self) -> int:
        """How many there are."""
        return 3 if self.colour == "rgb" else 1

    def of(self, path: Path) -> Seen:
        """Return what is seen of a picture.

        Raises:
            InputError: it is damaged.
        """
        image, turned, halved = self.opened(path)
        values = self.of_image(image, path)
        grey = image.mode == GREY_MODE and "transparency" not in image.info
        return Seen(values, (image.height, image.width), grey, turned, halved)

    def opened(self, path: Path) -> tuple[Image.Image, bool, bool]:
        """Return a picture as the camera sees it, whether it was turned and whether it lost 8 bits.

        Raises:
            InputError: it is damaged.
        """
        image, turned, halved = open_picture(path)
        return self.camera.seen(path, image), turned, halved

    def of_image(self, image: Image.Image, path: Path = Path("frame")) -> Images:
        """Return what is seen of a decoded picture, shape (channels, size, size).

        Args:
            image: as the camera sees it.
            path: of it, for messages.
        """
        top, left, height, width = self.part((image.height, image.width))
        if (height, width) != (image.height, image.width):
            image = image.crop((left, top, left + width, top + height))
        values = resized(path, image, (self.size, self.size))
        return grey_of(values) if self.colour == "grey" else values

    def part(self, size: Size) -> tuple[int, int, int, int]:
        """Return what is seen of a picture: top, left, height, width.

        Args:
            size: height and width of the picture.
        """
        if self.fit == "stretch":
            return (0, 0, *size)
        side = min(size)
        return (size[0] - side) // 2, (size[1] - side) // 2, side, side


GREY_MODE = "L"
"""Pillow's name of pixels that are one byte."""


@dataclass(frozen=True)
class Seen:
    """What is seen of a picture.

    Attributes:
        values: shape (channels, size, size).
        frame: height and width that it was made of.
        grey: whether its pixels are one byte.
        turned: whether it was turned as its EXIF tag says.
        halved: whether its colours have 16 bits, of which the upper 8 are read.
    """

    values: Images
    frame: Size
    grey: bool
    turned: bool
    halved: bool


@dataclass(frozen=True)
class Read:
    """The pictures of a split.

    Attributes:
        images: shape (n, channels, size, size), 0 to 255, or deep values.
        turned: how many were turned as their EXIF tag says.
        halved: how many have colours of 16 bits, of which the upper 8 are read.
        frames: heights and widths that they were made of.
        grey: whether all are of one byte a pixel.
    """

    images: Images
    turned: int
    halved: int
    frames: frozenset[Size]
    grey: bool

    @property
    def deep(self) -> bool:
        """Whether values are more than bytes."""
        return self.images.dtype != np.uint8


def read_pictures(paths: Sequence[Path], look: Look) -> Read:
    """Read pictures, each once.

    Raises:
        InputError: one is damaged or of another kind than the others.
    """
    images: Images | None = None
    turned, halved, grey = 0, 0, True
    frames: set[Size] = set()
    for index, path in enumerate(paths):
        seen = look.of(path)
        values = seen.values
        if images is None:
            images = np.empty((len(paths), *values.shape), values.dtype)
        if values.dtype != images.dtype:
            kinds = "more than bytes" if images.dtype != np.uint8 else "bytes"
            raise InputError(
                f"{path}: its pixels are {_kind(path)}, those of {paths[0].name} {kinds}: save all pictures alike"
            )
        images[index] = values
        turned += seen.turned
        halved += seen.halved
        grey &= seen.grey
        frames.add(seen.frame)
    if images is None:
        raise ValueError("no pictures")
    if halved and int(images.max()) < LEAST_OF_UPPER:
        raise InputError(
            f"{paths[0].parent}: colours of 16 bits are read by their upper 8, and those are at most {images.max()}: "
            "save pictures of 8 bits a colour, scaled to the whole range"
        )
    return Read(images, turned, halved, frozenset(frames), grey)


def _kind(path: Path) -> str:
    mode = open_picture(path)[0].mode
    return f"{mode}, more than bytes" if mode in DEEP_MODES else f"{mode}, bytes"


MOST_IN_MEMORY = 1 << 30
"""Bytes of a split's inputs that are kept; pictures of larger ones are decoded whenever they are asked for."""


def split_of(
    paths: Sequence[Path],
    read: Read,
    look: Look,
    targets: NDArray[np.int64],
    extras: dict[str, NDArray[np.generic]],
    constants: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> Split:
    """Return a split of standardised pictures, in memory where it is small enough.

    Args:
        paths: of the files.
        read: what is in them.
        look: how they were read.
        targets: classes, shape (n,).
        extras: of n rows.
        constants: means and deviations of the channels, both of shape (channels,).
    """
    if read.images.size * 4 <= MOST_IN_MEMORY:
        return Split(standardise(read.images, *constants), targets, extras)
    sources = [(path, int(target)) for path, target in zip(paths, targets, strict=True)]
    return DecodedSplit(sources, partial(_decoded, look, *constants), _target, extras)


def _decoded(
    look: Look, means: NDArray[np.float64], deviations: NDArray[np.float64], source: tuple[Path, int]
) -> FloatArray:
    alone: FloatArray = standardise(look.of(source[0]).values[None], means, deviations)[0]
    return alone


def _target(source: tuple[Path, int]) -> NDArray[np.int64]:
    return np.array(source[1], np.int64)
