"""Seeded pictures of figures with boxes, for tests and first steps without a download, in COCO's form.

A figure has a head and a body, brighter than what is around it; bars and discs alone are none.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PICTURES = 120
SIDES = (120, 160)
"""Height and width."""

_HEIGHTS = ((20, 34), (40, 76), (104, 116))
"""Of small, middle and large figures in COCO's sense."""

_SHAPE = 0.86
"""Width of a figure as a share of its height."""

_NOISE = 14.0


def write_scenes(folder: Path, seed: int, pictures: int = PICTURES) -> None:
    """Write ``images/000.bmp`` and so on, and ``annotations.json``; every fifth picture shows nobody.

    Args:
        folder: an existing folder.
        seed: the same files come from the same seed.
        pictures: how many; more of them begin with the same.
    """
    (folder / "images").mkdir()
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in range(pictures):
        generator = np.random.default_rng([seed, number])
        picture, boxes = _draw(generator, 0 if number % 5 == 4 else number % 3 + 1)  # noqa: PLR2004 - every fifth
        name = f"{number:03d}.bmp"
        Image.fromarray(picture).save(folder / "images" / name)
        images.append({"id": number, "file_name": name, "height": SIDES[0], "width": SIDES[1]})
        for box in boxes:
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": box})
    table = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (folder / "annotations.json").write_text(json.dumps(table), "utf-8")


def _draw(generator: np.random.Generator, figures: int) -> tuple[NDArray[np.uint8], list[list[float]]]:
    """Return a picture, shape (height, width, 3), and its figures' boxes: left, top, width, height."""
    height, width = SIDES
    picture = np.broadcast_to(generator.uniform(20, 100, 3), (height, width, 3)).copy()
    for _ in range(2):  # what is no figure
        radius, (y, x) = generator.uniform(6, 14), generator.uniform(0, (height, width))
        picture[_disc(y, x, radius)] = generator.uniform(120, 220, 3)
    boxes: list[list[float]] = []
    sizes = generator.permutation(3)[:figures] if figures < 3 else [0, 1]  # noqa: PLR2004 - three sizes
    for size in sizes:
        tall = int(generator.integers(*_HEIGHTS[size]))
        wide = round(_SHAPE * tall)
        left, top = int(generator.integers(0, width - wide + 1)), int(generator.integers(0, height - tall + 1))
        if any(_shared((left, top, wide, tall), box) for box in boxes):
            continue
        colour = generator.uniform(140, 240, 3)
        head = tall / 3
        picture[_disc(top + head / 2, left + wide / 2, head / 2)] = colour
        picture[round(top + head) : top + tall, left : left + wide] = colour
        boxes.append([left, top, wide, tall])
    noisy = picture + generator.normal(0, _NOISE, picture.shape)
    return noisy.round().clip(0, 255).astype(np.uint8), boxes


def _disc(y: float, x: float, radius: float) -> NDArray[np.bool_]:
    """Return the pixels of a disc, shape (height, width)."""
    down, right = np.arange(SIDES[0])[:, None] + 0.5 - y, np.arange(SIDES[1])[None] + 0.5 - x
    within: NDArray[np.bool_] = down**2 + right**2 <= radius**2
    return within


def _shared(box: tuple[int, int, int, int], other: list[float]) -> bool:
    return all(box[at] < other[at] + other[at + 2] and other[at] < box[at] + box[at + 2] for at in (0, 1))
