"""Seeded hums of motors, some of them with a rattle, for tests and first steps without a download."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

NORMAL, ANOMALOUS = 40, 16
RATE, SECONDS = 8000, 0.5
_NOISE = 0.02


def write_hums(folder: Path, seed: int) -> None:
    """Write ``normal/03.wav`` and ``rattle/03.wav`` and so on, 16 bits, half a second each.

    Args:
        folder: an existing folder.
        seed: the same files come from the same seed.
    """
    for number, (label, count) in enumerate((("normal", NORMAL), ("rattle", ANOMALOUS))):
        (folder / label).mkdir()
        for index in range(count):
            generator = np.random.default_rng([seed, number, index])
            time = np.arange(round(RATE * SECONDS)) / RATE
            hertz = generator.uniform(95, 105)
            hum = sum(generator.uniform(0.5, 1) * np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 9))
            load = generator.uniform(0.3, 1.5)  # all bands go up and down with it
            noise = generator.normal(0, _NOISE, len(time))
            if label == "rattle":
                noise *= 1 + 1.5 * (np.sin(2 * np.pi * generator.uniform(8, 14) * time) > 0)
            content = io.BytesIO()  # soundfile waits for the disk when it writes to one
            samples = load * (0.15 * hum + noise)
            soundfile.write(content, samples, RATE, subtype="PCM_16", format="WAV")
            (folder / label / f"{index:02d}.wav").write_bytes(content.getvalue())
