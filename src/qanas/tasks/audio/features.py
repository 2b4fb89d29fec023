"""Sound to what networks hear: the energies of mel bands over short frames, in logarithms, or their cosines (MFCC).

For a clip x of 16-bit samples over 32768, frame t and band b:

    X[t, k] = sum over n < frame_length of x[t hop + n] w[n] exp(-2 pi i k n / fft_size)
    w[n]    = 0.5 - 0.5 cos(2 pi n / frame_length)                                             (Hann)
    E[t, b] = log(sum over k of F[b, k] |X[t, k]|^2 + FLOOR)
    C[t, c] = s[c] sum over b of E[t, b] cos(pi c (b + 0.5) / bands)                            (DCT II, orthonormal)

F are triangles between bands + 2 frequencies that are spread evenly, from low_hz to high_hz, on the mel scale of
O'Shaughnessy (1987): mel(f) = 2595 log10(1 + f / 700). In double precision, then rounded to single.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.samples import FloatArray

Floats = NDArray[np.float64]
Samples = NDArray[np.int16]

FLOOR = 1e-6
"""Added to energies: those of rounding to 16 bits are of this size."""

LOW_HZ = 20.0


@dataclass(frozen=True)
class MelFrames:
    """Frames of a clip and their bands.

    Attributes:
        sample_rate: samples a second.
        length: samples of a clip.
        frame_length: samples of a frame.
        hop: samples from one frame to the next.
        bands: mel bands.
        coefficients: cosines that are kept of them; 0 keeps the bands.
    """

    sample_rate: int
    length: int
    frame_length: int
    hop: int
    bands: int
    coefficients: int = 0

    @property
    def frames(self) -> int:
        """Frames that lie within the clip."""
        return 1 + (self.length - self.frame_length) // self.hop

    @property
    def values(self) -> int:
        """Of a frame."""
        return self.coefficients or self.bands

    @property
    def fft_size(self) -> int:
        """The next power of two: what a frame is filled up to with zeros."""
        return 1 << (self.frame_length - 1).bit_length()

    @cached_property
    def window(self) -> Floats:
        """Of Hann, shape (frame_length,)."""
        return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.frame_length) / self.frame_length))

    @cached_property
    def filters(self) -> Floats:
        """Shares of the spectrum's lines in each band, shape (bands, fft_size / 2 + 1)."""
        return mel_filters(self.bands, self.fft_size, self.sample_rate)

    @cached_property
    def cosines(self) -> Floats:
        """Shape (coefficients, bands)."""
        orders, bands = np.arange(self.coefficients)[:, None], np.arange(self.bands)[None]
        scale = np.where(orders == 0, np.sqrt(1 / self.bands), np.sqrt(2 / self.bands))
        return np.asarray(scale * np.cos(np.pi * orders * (bands + 0.5) / self.bands))

    def of(self, clip: Samples) -> FloatArray:
        """Return a clip's features, shape (frames, values).

        Args:
            clip: shape (length,).
        """
        starts = self.hop * np.arange(self.frames)
        frames = clip[starts[:, None] + np.arange(self.frame_length)] / 32768.0 * self.window
        spectrum = np.fft.rfft(frames, self.fft_size)
        energies = np.log((spectrum.real**2 + spectrum.imag**2) @ self.filters.T + FLOOR)
        found: FloatArray = (energies @ self.cosines.T if self.coefficients else energies).astype(np.float32)
        return found

    def notes(self) -> dict[str, Any]:
        """Return what it takes to compute bands from samples."""
        names = ("sample_rate", "frame_length", "hop", "fft_size", "bands", "coefficients", "frames")
        return {
            "samples": self.length,
            **{name: getattr(self, name) for name in names},
            "samples_are": "16 bits, mono, over 32768",
            "window": "Hann: 0.5 - 0.5 cos(2 pi n / frame_length)",
            "energies": f"log(sum of |FFT|^2 times triangles + {FLOOR:g}); triangles between bands + 2 frequencies "
            f"spread evenly in 2595 log10(1 + f / 700) from {LOW_HZ:g} Hz to half the sample rate",
        }

    @property
    def multiply_adds(self) -> int:
        """What a clip's features cost, about: windows, transforms of 4 operations a butterfly, bands, cosines."""
        size = self.fft_size
        butterflies = size // 2 * (size.bit_length() - 1)
        lines = int((self.filters > 0).sum())
        return self.frames * (self.frame_length + 4 * butterflies + size + lines + self.coefficients * self.bands)


def mel_filters(bands: int, fft_size: int, sample_rate: int) -> Floats:
    """Return triangles on the mel scale, shape (bands, fft_size / 2 + 1).

    >>> mel_filters(2, 8, 8000).round(2).tolist()
    [[0.0, 0.7, 0.0, 0.0, 0.0], [0.0, 0.3, 0.92, 0.46, 0.0]]
    """
    frequencies = np.arange(fft_size // 2 + 1) * sample_rate / fft_size
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (LOW_HZ, sample_rate / 2))
    corners = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    rising = (frequencies - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - frequencies) / (corners[2:] - corners[1:-1])[:, None]
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)))
