"""From a camera's frame to a network's input, in Python and in C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qanas.core.c_text import render
from qanas.tasks.base import FloatArray
from qanas.tasks.front_end import CForm, FrontEnd, FrontEndCost, RawType
from qanas.tasks.images.reader import Look
from qanas.tasks.pictures import standardise

IMAGE_AXES = (1, 2, 0)
"""Of a stored picture: channels last."""

LARGEST_FRAME = 1 << 19
"""Bytes of a frame: firmware is given four of them to check itself with, as text."""

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
    """A frame of bytes, its middle cut out or not, resized, in colours or grey, standardised.

    Attributes:
        height: lines of a frame.
        width: pixels of a line.
        frame_channels: bytes of a pixel: 3, red, green and blue, or 1.
        look: what the network sees of it.
        means: shape (channels,).
        deviations: shape (channels,).
    """

    height: int
    width: int
    frame_channels: int
    look: Look
    means: NDArray[np.float64]
    deviations: NDArray[np.float64]

    raw_type: ClassVar[RawType] = "uint8_t"

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> PictureFrontEnd:
        """Return the front end that has these notes, as the task writes them."""
        frame = notes["frame"]
        look = Look(notes["height"], "grey" if notes["channels"] == "grey" else "rgb", notes["fit"])
        constants = (np.asarray(notes[name], np.float64) for name in ("means", "deviations"))
        return cls(frame["height"], frame["width"], frame["channels"], look, *constants)

    @property
    def row_size(self) -> int:
        """Bytes of a line."""
        return self.width * self.frame_channels

    @property
    def rows(self) -> int:
        """Lines of a frame."""
        return self.height

    @property
    def described(self) -> str:
        """What a row is."""
        pixel = "red, green and blue" if self.frame_channels == len("rgb") else "its grey value"
        return f"A row is {self.width} pixels from left to right, each {pixel}; {self.height} rows, top down."

    def input_of(self, raw: NDArray[Any]) -> FloatArray:
        """Return a network's input, shape (channels, size, size).

        Args:
            raw: a whole frame, shape (height, width * frame_channels).
        """
        pixels = raw.astype(np.uint8).reshape(self.height, self.width, self.frame_channels)
        image = Image.fromarray(pixels if self.frame_channels > 1 else pixels[..., 0])
        found: FloatArray = standardise(self.look.of_image(image)[None], self.means, self.deviations)[0]
        return found

    @cached_property
    def filters(self) -> tuple[Filter, Filter]:
        """Of lines, and of columns."""
        height, width, size = self.height, self.width, self.look.size
        if self.look.fit == "stretch":
            return Filter.of(height, size, 0), Filter.of(width, size, 0)
        side = min(height, width)
        return Filter.of(side, size, (height - side) // 2), Filter.of(side, size, (width - side) // 2)

    @property
    def cost(self) -> FrontEndCost:
        """What it takes, a line of the input at a time."""
        lines, columns = self.filters
        read = int(lines.first[-1] + lines.counts[-1] - lines.first[0])
        size, channels = self.look.size, self.frame_channels
        taps = read * len(columns.weights) + len(lines.weights) * size
        grey = size * size * channels * (self.look.channels < channels)
        return FrontEndCost(
            macs=taps * channels + grey + size * size * self.look.channels,
            ram_bytes=int(lines.counts.max()) * size * channels + 4 * size * self.look.channels,
            flash_bytes=4 * sum(len(own.weights) + 2 * size for own in self.filters) + 8 * self.look.channels,
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
            "planar": not axes and self.look.channels > 1,
            "means": self.means.astype(np.float32).tolist(),
            "factors": (1.0 / self.deviations).astype(np.float32).tolist(),
        }
        package = __package__ or ""
        return CForm(
            render(package, "front_end.h.jinja", **values),
            render(package, "front_end.c.jinja", **values),
        )
