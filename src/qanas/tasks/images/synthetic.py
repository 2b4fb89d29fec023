"""Seeded pictures of shapes, for tests and first steps without a download: a folder a class.

Shape alone tells the class: places, sizes and colours are random, shapes brighter than what is around them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SHAPES = ("cross", "disc", "square")
PICTURES = 60
"""Of each class."""

SIDE = 32
_NOISE = 16.0


def write_pictures(folder: Path, seed: int) -> None:
    """Write ``disc/000.png`` and so on.

    Args:
        folder: an existing folder.
        seed: the same files come from the same seed.
    """
    for number, shape in enumerate(SHAPES):
        (folder / shape).mkdir()
        for index in range(PICTURES):
            picture = _draw(np.random.default_rng([seed, number, index]), shape)
            Image.fromarray(picture).save(folder / shape / f"{index:03d}.png", compress_level=1)


def _draw(generator: np.random.Generator, shape: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return a picture, shape (side, side, 3)."""
    radius = generator.uniform(7, 12)
    centre = SIDE / 2 + generator.uniform(-3, 3, 2)
    down, right = np.abs(np.arange(SIDE)[:, None] - centre[0]), np.abs(np.arange(SIDE)[None] - centre[1])
    within = {
        "disc": down**2 + right**2 <= radius**2,
        "square": np.maximum(down, right) <= 0.89 * radius,
        "cross": (np.minimum(down, right) <= 0.3 * radius) & (np.maximum(down, right) <= radius),
    }[shape]
    back, front = generator.uniform(20, 110, 3), generator.uniform(140, 235, 3)
    picture = np.where(within[..., None], front, back) + generator.normal(0, _NOISE, (SIDE, SIDE, 3))
    return picture.round().clip(0, 255).astype(np.uint8)
