"""From a camera's frame to a network's input, in Python and in C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.frames import Frame
from qanas.tasks.front_end import CForm, FrontEnd, FrontEndCost, RawType
from qanas.tasks.pictures import Images, Size, grey_of, resized, standardise
from qanas.tasks.samples import FloatArray

IMAGE_AXES = (1, 2, 0)
"""Of a stored picture: channels last."""

WEIGHT_BITS = 22
"""Of the resizing's weights, as Pillow has them: sums of 255 times them stay below 31 bits."""


@dataclass(frozen=True)
class Filter:
    """How the values of a line become fewer, or more: Pillow's triangle filter, in its integers.

    Attributes:
        first: the first value that each result is made of, shape (size,).
        counts: how many there are, shape (size,).
        weights: of all of them, behind each other; those of a result sum up to about 2 ** WEIGHT_BITS.
    """

    first: NDArray[np.int64]
    counts: NDArray[np.int64]
    weights: NDArray[np.int64]

    @classmethod
    def of(cls, length: int, size: int, offset: int) -> Filter:
        """Return the filter that brings some values of a line to a size.

        Args:
            length: how many values are brought to it.
            size: how many they become.
            offset: of the first of them in the line.
        """
        scale = length / size
        reach = max(scale, 1.0)
        centres = (np.arange(size) + 0.5) * scale
        first = np.maximum(np.trunc(centres - reach + 0.5), 0).astype(np.int64)
        counts = np.minimum(np.trunc(centres + reach + 0.5), length).astype(np.int64) - first
        weights = []
        for centre, start, count in zip(centres, first, counts, strict=True):
            own = np.maximum(1 - np.abs((np.arange(start, start + count) - centre + 0.5) / reach), 0.0)
            weights.append(np.trunc(own / own.sum() * (1 << WEIGHT_BITS) + 0.5).astype(np.int64))
        return cls(first + offset, counts, np.concatenate(weights))


@dataclass(frozen=True)
class PictureFrontEnd(FrontEnd):
    """A part of a frame, resized, in colours or grey, standardised, and with room around it or not.

    Attributes:
        frame: what the camera gives.
        part: of it that is seen: top, left, height, width.
        inner: height and width that it is brought to.
        size: height and width of the input, in whose middle it is; around it is 0.
        grey: whether the input has one channel.
        means: shape (channels,).
        deviations: shape (channels,).
    """

    frame: Frame
    part: tuple[int, int, int, int]
    inner: Size
    size: Size
    grey: bool
    means: NDArray[np.float64]
    deviations: NDArray[np.float64]

    raw_type: ClassVar[RawType] = "uint8_t"

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> PictureFrontEnd | None:
        """Return what brings a whole frame in its colours to the input; None where there is no frame.

        Args:
            notes: of the preprocessing, as the card has them.
        """
        if "frame" not in notes:
            return None
        frame, size = Frame.from_notes(notes["frame"]), (notes["height"], notes["width"])
        means, deviations = (np.asarray(notes[name], np.float64) for name in ("means", "deviations"))
        return cls(frame, (0, 0, frame.height, frame.width), size, size, False, means, deviations)

    @property
    def channels(self) -> int:
        """Of the input."""
        return 1 if self.grey else 3

    @property
    def row_size(self) -> int:
        """Bytes of a line."""
        return self.frame.row_bytes

    @property
    def rows(self) -> int:
        """Lines of a frame."""
        return self.frame.height

    @property
    def described(self) -> str:
        """What a row is."""
        return self.frame.described

    @property
    def corner(self) -> Size:
        """Lines above and columns to the left of what is seen, in the input."""
        return (self.size[0] - self.inner[0]) // 2, (self.size[1] - self.inner[1]) // 2

    def input_of(self, raw: NDArray[Any]) -> FloatArray:
        """Return a network's input, shape (channels, height, width).

        Args:
            raw: a whole frame, shape (height, row_size).
        """
        top, left, height, width = self.part
        image = self.frame.image_of(raw).crop((left, top, left + width, top + height))
        values: Images = resized(Path("frame"), image, self.inner)
        if self.grey:
            values = grey_of(values)
        inner: FloatArray = standardise(values[None], self.means, self.deviations)[0]
        return in_middle(inner, self.size)

    @cached_property
    def filters(self) -> tuple[Filter, Filter]:
        """Of lines, and of columns."""
        top, left, height, width = self.part
        return Filter.of(height, self.inner[0], top), Filter.of(width, self.inner[1], left)

    @property
    def cost(self) -> FrontEndCost:
        """What it takes, a line of the input at a time."""
        lines, columns = self.filters
        channels, (height, width) = self.frame.channels, self.inner
        read = int(lines.first[-1] + lines.counts[-1] - lines.first[0])
        taps = read * len(columns.weights) + len(lines.weights) * width
        grey = height * width * channels * (self.channels < channels)
        unpacked = self.frame.width * channels * (self.frame.pixels != "bytes")
        return FrontEndCost(
            macs=taps * channels + grey + height * width * self.channels,
            ram_bytes=int(lines.counts.max()) * width * channels + unpacked + 4 * self.size[1] * self.channels,
            flash_bytes=4 * sum(len(own.weights) + 2 * len(own.first) for own in self.filters) + 8 * self.channels,
        )

    def c_form(self, name: str, axes: tuple[int, ...]) -> CForm | None:
        """Return it as C, in Pillow's integers up to the resized bytes; None for another order of axes.

        Args:
            name: what every identifier begins with.
            axes: of the stored input: as in torch, or channels last.
        """
        if axes not in ((), IMAGE_AXES):
            return None
        lines, columns = self.filters
        values = {
            "name": name,
            "front_end": self,
            "lines": lines,
            "columns": columns,
            "kept": int(lines.counts.max()),
            "bits": WEIGHT_BITS,
            "planar": not axes and self.channels > 1,
            "means": self.means.astype(np.float32).tolist(),
            "factors": (1.0 / self.deviations).astype(np.float32).tolist(),
        }
        return CForm.rendered(__package__, "picture_front_end", **values)


def in_middle(inner: FloatArray, size: Size) -> FloatArray:
    """Return a standardised picture in the middle of an input, around it 0, shape (channels, height, width).

    Args:
        inner: shape (channels, h, w), no larger than the input.
        size: height and width of the input.
    """
    if inner.shape[1:] == size:
        return inner
    around = np.zeros((len(inner), *size), np.float32)
    top, left = ((side - own) // 2 for side, own in zip(size, inner.shape[1:], strict=True))
    around[:, top : top + inner.shape[1], left : left + inner.shape[2]] = inner
    return around
