"""What a device's camera gives: pictures of one size, whose pixels have bytes in some order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field

from qanas.core.errors import InputError
from qanas.tasks.pictures import DEEP_MODES, Bytes, Side, Size, open_picture, plain

FrameSize = Annotated[tuple[Side, Side], Field(strict=False)]
"""Height and width of a frame, as recipes give them."""

Pixels = Literal["bytes", "rgb565"]
"""How a frame's pixels lie in memory: red, green and blue, or a grey value, of a byte each; or red, green and blue of
5, 6 and 5 bits in two bytes, the one with the blue first."""

LARGEST_FRAME = 1 << 19
"""Bytes of a frame: firmware is given four of them to check itself with, as text."""

CUT = "brought to the frame, by their largest part about the middle with its proportions"
"""What becomes of pictures where a recipe says which frames the camera gives, for notes."""

_KEPT_BITS = np.array([0xF8, 0xFC, 0xF8], np.uint8)
_BITS = np.array([5, 6, 5])


def rounded_565(colours: Bytes) -> Bytes:
    """Return colours as 5, 6 and 5 bits have them, again from 0 to 255: the upper bits stand for the lost ones.

    Args:
        colours: shape (..., 3).
    """
    kept = colours & _KEPT_BITS
    found: Bytes = kept | (kept >> _BITS).astype(np.uint8)
    return found


@dataclass(frozen=True)
class Camera:
    """How pictures become what a camera would have seen, before all else.

    Attributes:
        frame: height and width of its frames; None: those of the pictures.
        pixels: of them.
    """

    frame: Size | None = None
    pixels: Pixels = "bytes"

    def seen(self, path: Path, image: Image.Image) -> Image.Image:
        """Return a picture as the camera would have seen it: the largest part about its middle that fills the frame.

        Raises:
            InputError: it has deep values, and the camera 16 bits a pixel.
        """
        deep = image.mode in DEEP_MODES
        if self.frame is not None and image.size != self.frame[::-1]:
            image = image.convert("F") if deep else plain(path, image)
            image = ImageOps.fit(image, self.frame[::-1], Image.Resampling.BILINEAR)
        if self.pixels == "bytes":
            return image
        if deep:
            raise InputError(f'{path}: has one deep value a pixel: leave task.frame_pixels = "{self.pixels}" out')
        return Image.fromarray(rounded_565(np.asarray(plain(path, image).convert("RGB"))))

    def part(self, size: Size) -> tuple[Fraction, Fraction, Fraction, Fraction]:
        """Return what is seen of a picture: top, left, height and width, exactly.

        Args:
            size: height and width of the picture.
        """
        if self.frame is None:
            return Fraction(), Fraction(), Fraction(size[0]), Fraction(size[1])
        factor = max(Fraction(own, side) for own, side in zip(self.frame, size, strict=True))
        height, width = (own / factor for own in self.frame)
        return (size[0] - height) / 2, (size[1] - width) / 2, height, width

    def raw(self, path: Path, frame: Frame) -> Bytes:
        """Return a picture's file as the camera would have given it, shape (height, bytes of a line).

        Args:
            path: of the file.
            frame: as `framed` returns it.
        """
        return frame.raw(path, self.seen(path, open_picture(path)[0]))

    def framed(self, sizes: Collection[Size], *, grey: bool) -> tuple[Frame | None, list[str]]:
        """Return the frame that pictures were made of; where there is none, why, a line.

        Args:
            sizes: heights and widths of the pictures as the camera saw them.
            grey: whether all of them have one byte a pixel.
        """
        more = "give task.frame = [height, width] of the device's camera, and firmware is given the way from there"
        if len(sizes) > 1:
            return None, [f"pictures have {len(sizes)} sizes: {more}"]
        ((height, width),) = sizes
        frame = Frame(height, width, 1 if grey and self.pixels == "bytes" else 3, self.pixels)
        if height * frame.row_bytes > LARGEST_FRAME:
            return None, [f"{height} x {width} pixels are too many for firmware to check itself with: {more}"]
        return frame, []


@dataclass(frozen=True)
class Frame:
    """A frame in memory: lines top down, pixels from left to right.

    Attributes:
        height: lines.
        width: pixels of a line.
        channels: 3, red, green and blue, or 1, grey.
        pixels: how they lie.
    """

    height: int
    width: int
    channels: int
    pixels: Pixels = "bytes"

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> Frame:
        """Return the frame that has these notes."""
        return cls(notes["height"], notes["width"], notes["channels"], notes.get("pixels", "bytes"))

    @property
    def notes(self) -> dict[str, Any]:
        """As the card has it."""
        return {
            "height": self.height,
            "width": self.width,
            "channels": self.channels,
            **({"pixels": self.pixels} if self.pixels != "bytes" else {}),
        }

    @property
    def row_bytes(self) -> int:
        """Of a line."""
        return self.width * (2 if self.pixels == "rgb565" else self.channels)

    @property
    def described(self) -> str:
        """What a row of it is, for people."""
        if self.pixels == "rgb565":
            pixel = "two bytes, the low one first: red, green and blue in 5, 6 and 5 bits from above"
        else:
            pixel = "red, green and blue" if self.channels > 1 else "its grey value"
        return f"A row is {self.width} pixels from left to right, each {pixel}; {self.height} rows, top down."

    def raw(self, path: Path, image: Image.Image) -> Bytes:
        """Return a picture that the camera has seen as it lies in memory, shape (height, row_bytes)."""
        colours = np.asarray(plain(path, image).convert("L" if self.channels == 1 else "RGB"))
        if self.pixels == "rgb565":
            red, green, blue = np.moveaxis(colours.astype(np.uint16), 2, 0)
            words = (red >> 3) << 11 | (green >> 2) << 5 | blue >> 3
            colours = np.stack([words & 0xFF, words >> 8], axis=2).astype(np.uint8)
        return colours.reshape(self.height, self.row_bytes)

    def image_of(self, raw: NDArray[Any]) -> Image.Image:
        """Return a frame as a picture, from its bytes, shape (height, row_bytes)."""
        pixels = raw.astype(np.uint8).reshape(self.height, self.width, -1)
        if self.pixels == "rgb565":
            words = pixels[..., 0].astype(np.uint16) | pixels[..., 1].astype(np.uint16) << 8
            upper = np.stack([words >> 11 << 3, (words >> 5 & 0x3F) << 2, (words & 0x1F) << 3], axis=2)
            return Image.fromarray(rounded_565(upper.astype(np.uint8)))
        return Image.fromarray(pixels if self.channels > 1 else pixels[..., 0])
