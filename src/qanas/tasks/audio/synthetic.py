"""Seeded tones of several speakers, for tests and first steps without a download: a folder a class.

Classes are told apart by how the pitch moves; every speaker has a pitch, a pace and overtones of their own.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

CALLS = ("fall", "rise", "steady")
SPEAKERS = 10
CLIPS = 3
"""Of each speaker and class."""

RATE = 8000
SECONDS = 0.5
_NOISE = 0.01


def write_recordings(folder: Path, seed: int) -> None:
    """Write ``rise/speaker03_1.wav`` and so on, 16 bits, half a second each.

    Args:
        folder: an existing folder.
        seed: the same files come from the same seed.
    """
    for call in CALLS:
        (folder / call).mkdir()
    for speaker in range(SPEAKERS):
        traits = np.random.default_rng([seed, speaker])
        pitch, overtone = traits.uniform(250, 700), traits.uniform(0.1, 0.6)
        for number, call in enumerate(CALLS):
            for clip in range(CLIPS):
                generator = np.random.default_rng([seed, speaker, number, clip])
                samples = _draw(generator, call, pitch, overtone)
                content = io.BytesIO()  # soundfile waits for the disk when it writes to one
                soundfile.write(content, samples, RATE, subtype="PCM_16", format="WAV")
                (folder / call / f"speaker{speaker:02d}_{clip}.wav").write_bytes(content.getvalue())


def _draw(
    generator: np.random.Generator, call: str, pitch: float, overtone: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return a clip, shape (samples,)."""
    count = round(RATE * SECONDS)
    time = np.arange(count) / RATE
    begin, end = generator.uniform(0.02, 0.12), generator.uniform(0.38, 0.48)
    progress = np.clip((time - begin) / (end - begin), 0, 1)
    octaves = {"rise": 1.0, "fall": -1.0, "steady": 0.0}[call] * generator.uniform(0.8, 1.2)
    frequency = pitch * generator.uniform(0.95, 1.05) * 2.0 ** (octaves * (progress - 0.5))
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    loudness = np.sin(np.pi * progress) * generator.uniform(0.1, 0.5)
    tone = np.sin(phase) + overtone * np.sin(2 * phase)
    return np.asarray(0.6 * loudness * tone + generator.normal(0, _NOISE, count))
