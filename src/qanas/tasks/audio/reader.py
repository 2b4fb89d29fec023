"""Sound files: decoded, made mono, brought to a sampling rate and cut into clips."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from qanas.core.errors import InputError
from qanas.tasks.audio.features import Samples
from qanas.tasks.samples import FloatArray

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".aiff", ".aif")

_ALMOST = 1e-2
"""Of a clip's length: a recording that lacks no more has the clip, too."""


@dataclass(frozen=True)
class Recording:
    """A recording's clips, and what was seen of it.

    Attributes:
        clips: of 16-bit samples, shape (clips, length).
        starts: of each clip, in seconds.
        rate: samples a second in the file.
        channels: in the file.
        seconds: of the file.
        silent: whether every sample is the same.
        cancelled: whether there is something in its channels, and next to nothing in their mean, which is heard.
        cut_off: whether much of it is beyond full scale, which 16 bits don't hold.
    """

    clips: Samples
    starts: tuple[float, ...]
    rate: int
    channels: int
    seconds: float
    silent: bool
    cancelled: bool = False
    cut_off: bool = False


def read_recording(path: Path, sample_rate: int, seconds: float) -> Recording:
    """Read a recording as clips, one behind the other as far as they are whole; behind a shorter one are zeros.

    Args:
        path: of the file.
        sample_rate: samples a second that are wanted; others are resampled.
        seconds: of a clip.

    Raises:
        InputError: it is damaged.
    """
    values, rate = _decoded(path)
    duration = len(values) / rate
    count = _clips(duration, seconds)
    mono = values.mean(axis=1)
    silent, cancelled = bool(np.ptp(values) == 0), _cancelled(values)
    cut_off = bool((np.abs(values) > 1).mean() > _MOST_CUT_OFF)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
    length = round(seconds * sample_rate)
    whole = np.zeros(count * length, np.float32)
    kept = min(len(whole), len(mono))
    whole[:kept] = mono[:kept]
    clips = (whole.astype(np.float64) * 32768).round().clip(-32768, 32767).astype(np.int16).reshape(count, length)
    starts = tuple(seconds * place for place in range(count))
    return Recording(clips, starts, rate, values.shape[1], duration, silent, cancelled, cut_off)


def clips_in(path: Path, seconds: float) -> int:
    """Return how many clips a recording is cut into.

    Args:
        path: of the file.
        seconds: of a clip.

    Raises:
        InputError: it is damaged.
    """
    values, rate = _decoded(path)
    return _clips(len(values) / rate, seconds)


def _clips(duration: float, seconds: float) -> int:
    """Return how many clips of some seconds are heard of a duration in seconds."""
    return max(1, int(duration / seconds + _ALMOST))


_MOST_CUT_OFF = 1e-3
"""Share of a recording's samples: single ones are beyond full scale where files with losses are decoded."""

_LEAST_LEFT = 1e-2
"""Of the channels' amplitude: below, their mean is what is left of signals in opposite phase."""


def _cancelled(values: FloatArray) -> bool:
    """Tell whether a recording's channels, shape (samples, channels), cancel each other."""
    moving = values - values.mean(axis=0)
    return bool(moving.mean(axis=1).std() < _LEAST_LEFT * moving.std())


_RIFF, _HEADER = 12, 8
"""Bytes in front of a WAV file's chunks, and of a chunk in front of its content."""

_LARGEST = 2**32 - 1
"""Bytes that such a file can have."""


def opened(path: Path) -> Path | io.BytesIO:
    """Return a sound file for `soundfile`; a WAV stream's, whose sizes are 0, with those that it has.

    A program that writes into a pipe can't go back and put them in.
    """
    with path.open("rb") as file:
        start, whole = file.read(_RIFF), path.stat().st_size
        if start[:4] != b"RIFF" or start[8:] != b"WAVE":
            return path
        place = _RIFF
        while len(header := file.read(_HEADER)) == _HEADER and header[:4] != b"data":
            size = int.from_bytes(header[4:], "little")
            place += _HEADER + size + size % 2
            file.seek(place)
        told = int.from_bytes(start[4:8], "little") + _HEADER
        if header != b"data\0\0\0\0" or told == whole or whole > _LARGEST:
            return path
    content = bytearray(path.read_bytes())
    content[4:8] = (whole - _HEADER).to_bytes(4, "little")
    content[place + 4 : place + _HEADER] = (whole - place - _HEADER).to_bytes(4, "little")
    return io.BytesIO(bytes(content))


def _decoded(path: Path) -> tuple[FloatArray, int]:
    """Return samples, shape (samples, channels), and how many there are in a second."""
    try:
        values, rate = soundfile.read(opened(path), dtype="float32", always_2d=True)
    except (RuntimeError, OSError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a readable sound file: fetch it again, or take it away") from error
    if not len(values):
        raise InputError(f"{path}: no samples: fetch it again, or take it away")
    if not np.isfinite(values).all():
        raise InputError(
            f"{path}: sample {int(np.argmax(~np.isfinite(values).all(axis=1))) + 1} is NaN or infinite: mend it"
        )
    return values, int(rate)


PRINT_BANDS = (100, 200, 400, 600, 900, 1300, 1900, 2700, 3600)
"""Borders of a print's bands in Hz: all that a file of 8 kHz holds."""

PRINT_PARTS, _PRINT_SECONDS = 24, 0.032
_QUIET, _LEAST = 1e-3, 1e-30
"""Energies far below the loudest one are the format's noise; the least keeps silence finite."""


def print_of_recording(path: Path) -> FloatArray:
    """Return how loud bands are in 24 parts of a recording, in logarithms, shape (192,): alike in copies of it.

    Each band's mean over the recording is taken off: machines differ by their spectrum, recordings of one by what
    happens when. Other formats, rates and volumes leave that as it is.

    Raises:
        InputError: it is damaged.
    """
    values, rate = _decoded(path)
    mono = values.mean(axis=1)
    length = max(16, round(_PRINT_SECONDS * rate))
    mono = np.concatenate([mono, np.zeros(max(0, length - len(mono)), np.float32)])
    count = max(PRINT_PARTS, len(mono) // length)
    starts = np.linspace(0, len(mono) - length, count).round().astype(np.intp)
    frames = mono[starts[:, None] + np.arange(length)] * np.hanning(length).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1)))
    lines = np.searchsorted(np.fft.rfftfreq(length, 1 / rate), PRINT_BANDS)
    sums = np.concatenate([np.zeros((count, 1)), power.cumsum(axis=1)], axis=1)[:, np.minimum(lines, power.shape[1])]
    parts = [part.sum(axis=0) for part in np.array_split(np.diff(sums, axis=1), PRINT_PARTS)]
    energies = np.stack(parts) / [[len(part)] for part in np.array_split(starts, PRINT_PARTS)]
    loudness = np.log(energies + _QUIET * energies.max() + _LEAST)
    found: FloatArray = (loudness - loudness.mean(axis=0)).astype(np.float32).reshape(-1)
    return found


@dataclass
class Heard:
    """What a person should know of the recordings of a data set."""

    rates: dict[int, int]
    stereo: int = 0
    silent: Sequence[str] = ()
    cancelled: Sequence[str] = ()
    cut_off: Sequence[str] = ()
    short: int = 0
    long: int = 0

    def add(self, name: str, recording: Recording, seconds: float) -> None:
        """Count a recording."""
        self.rates[recording.rate] = self.rates.get(recording.rate, 0) + 1
        self.stereo += recording.channels > 1
        self.silent = [*self.silent, name] if recording.silent else self.silent
        self.cancelled = [*self.cancelled, name] if recording.cancelled else self.cancelled
        self.cut_off = [*self.cut_off, name] if recording.cut_off else self.cut_off
        self.short += recording.seconds < seconds * (1 - _ALMOST)
        self.long += len(recording.starts) > 1

    def lines(self, sample_rate: int, seconds: float) -> list[str]:
        """Return it, a line each."""
        lines = []
        others = {rate: count for rate, count in sorted(self.rates.items()) if rate != sample_rate}
        if others:
            told = ", ".join(f"{count} of {rate} Hz" for rate, count in others.items())
            lines.append(f"recordings are resampled to {sample_rate} Hz: {told}")
        low = [rate for rate in others if rate < sample_rate]
        if low:
            lines.append(
                f"above {min(low) // 2} Hz some recordings hold nothing: task.sample_rate = {min(low)} is enough"
            )
        if self.stereo:
            lines.append(f"{self.stereo} recordings have several channels: their mean is heard")
        if self.short:
            lines.append(f"{self.short} recordings are shorter than {seconds:g} s: zeros follow")
        if self.long:
            lines.append(
                f"{self.long} recordings are longer than {seconds:g} s: cut into clips, what is left over is not heard"
            )
        if self.cancelled:
            lines.append(
                f"the channels of {len(self.cancelled)} recordings cancel each other, such as {self.cancelled[0]}: "
                "next to nothing is heard of them: save one channel"
            )
        if self.cut_off:
            lines.append(
                f"{len(self.cut_off)} recordings go beyond full scale, such as {self.cut_off[0]}: what does is cut "
                "off; save them from -1 to 1, or in 16 bits"
            )
        if self.silent:
            lines.append(f"{len(self.silent)} recordings are silent, such as {self.silent[0]}")
        return lines
