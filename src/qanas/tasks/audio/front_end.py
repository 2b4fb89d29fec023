"""From samples of sound to a network's input, in Python and in C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.audio.features import FLOOR, MelFrames
from qanas.tasks.front_end import CForm, FrontEnd, FrontEndCost, RawType
from qanas.tasks.samples import FloatArray

Layout = Literal["image", "sequence", "vector"]

IMAGE_AXES = (1, 2, 0)
"""Of a stored picture with one channel: its values lie as those of the sequence do."""


@dataclass(frozen=True)
class SoundFrontEnd(FrontEnd):
    """A clip's frames, standardised.

    Attributes:
        frames: how clips become frames.
        means: of each value, shape (values,).
        factors: what it is multiplied with then, shape (values,).
        layout: "image": with an axis of one channel in front; "sequence"; or "vector": laid out flat.
    """

    frames: MelFrames
    means: FloatArray
    factors: FloatArray
    layout: Layout

    raw_type: ClassVar[RawType] = "int16_t"
    row_size: ClassVar[int] = 1

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> SoundFrontEnd:
        """Return the front end that has these notes, see `MelFrames.notes`."""
        names = ("frame_length", "hop", "bands", "coefficients")
        frames = MelFrames(notes["sample_rate"], notes["samples"], *(notes[name] for name in names))
        means, deviations = (np.asarray(notes[name], np.float32) for name in ("means", "deviations"))
        return cls(frames, means, (1 / deviations).astype(np.float32), notes["layout"])

    @property
    def rows(self) -> int:
        """Samples of a clip."""
        return self.frames.length

    @property
    def described(self) -> str:
        """What a row is."""
        return f"A row is a sample of 16 bits, mono, {self.frames.sample_rate} a second; the last one is the latest."

    @property
    def cost(self) -> FrontEndCost:
        """What it takes, a frame at a time."""
        frames = self.frames
        tables = frames.frame_length + frames.fft_size + 2 * frames.bands + int((frames.filters > 0).sum())
        return FrontEndCost(
            macs=frames.multiply_adds,
            ram_bytes=8 * frames.fft_size + 4 * (frames.bands + frames.values) + 2 * frames.frame_length,
            flash_bytes=4 * (tables + frames.coefficients * frames.bands + 2 * frames.values),
        )

    def scaled(self, features: FloatArray) -> FloatArray:
        """Return standardised features, shape (..., values)."""
        found: FloatArray = (features - self.means) * self.factors
        return found

    def input_of(self, raw: NDArray[Any]) -> FloatArray:
        """Return a network's input, shape (1, frames, values), (frames, values) or (frames * values,).

        Args:
            raw: samples, shape (samples, 1); behind fewer than a clip's there are zeros.
        """
        clip = np.zeros(self.frames.length, np.int16)
        clip[: len(raw)] = raw[:, 0]
        found = self.scaled(self.frames.of(clip))
        if self.layout == "vector":
            return found.reshape(-1)
        return found[None] if self.layout == "image" else found

    def c_form(self, name: str, axes: tuple[int, ...]) -> CForm | None:
        """Return it as C, in single precision; None where a file stores frames in another order.

        Args:
            name: what every identifier begins with.
            axes: of the stored input.
        """
        if axes and not (self.layout == "image" and axes == IMAGE_AXES):
            return None
        frames = self.frames
        angles = 2 * np.pi * np.arange(frames.fft_size // 2) / frames.fft_size
        lines = [np.flatnonzero(row) for row in frames.filters]
        values = {
            "name": name,
            "front_end": self,
            "frames": frames,
            "window": (frames.window / 32768).tolist(),
            "cosines": np.cos(angles).tolist(),
            "sines": np.sin(angles).tolist(),
            "first_lines": [int(found[0]) if len(found) else 0 for found in lines],
            "line_counts": [len(found) for found in lines],
            "shares": [float(row[line]) for row, found in zip(frames.filters, lines, strict=True) for line in found],
            "transform": frames.cosines.tolist(),
            "means": self.means.tolist(),
            "factors": self.factors.tolist(),
            "floor": FLOOR,
        }
        return CForm.rendered(__package__, "front_end", **values)
