"""Seeded street scenes in CamVid's layout and classes, for tests and first steps without a download.

They imitate what makes CamVid hard for small networks: objects of one class differ in colour, classes share
colours, the light changes from scene to scene, near things hide far ones, and poles and signs are a few pixels wide.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qanas.tasks.segmentation.files import (
    CAMVID_CLASSES,
    CAMVID_VOID,
    Dataset,
    Pairs,
    find_cityscapes_pairs,
    find_pairs,
)
from qanas.tasks.segmentation.layouts import Division, find_folders

SYNTHETIC = "synthetic"
"""In place of a folder: generated scenes."""

_SEED = 0

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

SCENES = {"train": 120, "val": 40, "test": 60}
HEIGHT, WIDTH = 120, 160

_NOISE = 6.0
_OBJECT_SPREAD = 22.0
_HOOD_SHARE = 0.3

# Mean colours, red, green, blue. Several are close to one another on purpose.
_COLOURS = {
    "sky": (185, 200, 220),
    "building": (130, 115, 105),
    "pole": (120, 120, 118),
    "road": (95, 92, 95),
    "pavement": (135, 128, 125),
    "tree": (70, 88, 55),
    "sign_symbol": (170, 90, 80),
    "fence": (105, 95, 80),
    "car": (110, 100, 110),
    "pedestrian": (95, 75, 75),
    "bicyclist": (90, 85, 100),
}


def write_synthetic(folder: Path, seed: int) -> None:
    """Write ``train/``, ``trainannot/``, ``val/`` and so on, of 160 x 120 pixels.

    Args:
        folder: an existing folder.
        seed: the same files come from the same seed.
    """
    for part, (split, scenes) in enumerate(SCENES.items()):
        images, masks = folder / split, folder / f"{split}annot"
        images.mkdir()
        masks.mkdir()
        for index in range(scenes):
            scene = draw_scene(np.random.default_rng([seed, part, index]))
            name = f"{split}_{index:03d}"
            Image.fromarray(scene.pixels()).save(images / f"{name}.bmp")  # noise doesn't compress: no time spent on it
            Image.fromarray(scene.labels).save(masks / f"{name}.png", compress_level=0)


@dataclass(frozen=True)
class Scene:
    """A scene that is painted from the back to the front.

    Attributes:
        generator: of everything random.
        objects: which thing each pixel belongs to, shape (height, width).
        shading: how light each pixel is, shape (height, width).
        things: the CamVid id and the colour (red, green, blue) of each thing.
        horizon: row of the vanishing point.
        centre: column of it.
    """

    generator: np.random.Generator
    objects: NDArray[np.int16]
    shading: Floats
    things: list[tuple[int, Floats]]
    horizon: float
    centre: float

    @property
    def rows(self) -> Floats:
        """Row numbers, shape (height, 1)."""
        return np.arange(HEIGHT, dtype=np.float64)[:, None]

    @property
    def columns(self) -> Floats:
        """Column numbers, shape (1, width)."""
        return np.arange(WIDTH, dtype=np.float64)[None]

    def nearness(self, row: float) -> float:
        """Return how large things appear whose feet are in a row: 0 at the horizon, 1 at the lower edge."""
        return (row - self.horizon) / (HEIGHT - self.horizon)

    def paint(self, where: Booleans, name: str, spread: float = _OBJECT_SPREAD) -> None:
        """Fill a region, shape (height, width), with a class, in a colour that is drawn around the class's."""
        colour = np.array(_COLOURS[name]) + self.generator.normal(0, spread, 3) * 0.5 + self.generator.normal(0, spread)
        self.put(where, CAMVID_CLASSES.index(name), colour)

    def put(self, where: Booleans, label: int, colour: Floats) -> None:
        """Fill a region, shape (height, width), with a thing of a colour, shape (3,)."""
        self.objects[where] = len(self.things)
        self.shading[where] = 1.0
        self.things.append((label, colour))

    def shade(self, where: Booleans, factor: float) -> None:
        """Make a region, shape (height, width), darker or lighter without changing what it is."""
        self.shading[where] *= factor

    def box(self, bottom: float, height: float, left: float, width: float) -> Booleans:
        """Return the region of an upright rectangle, at least one pixel wide, shape (height, width)."""
        rows = (self.rows <= bottom) & (self.rows > bottom - height)
        return rows & (self.columns >= left) & (self.columns < left + max(width, 1.0))

    def ellipse(self, row: float, column: float, height: float, width: float) -> Booleans:
        """Return the region of an ellipse of some height and width, shape (height, width) of the picture."""
        inside = ((self.rows - row) * 2 / height) ** 2 + ((self.columns - column) * 2 / width) ** 2 <= 1
        return np.asarray(inside)

    @property
    def labels(self) -> NDArray[np.uint8]:
        """CamVid's ids, shape (height, width)."""
        return np.array([label for label, _ in self.things], dtype=np.uint8)[self.objects]

    def pixels(self) -> NDArray[np.uint8]:
        """Return the picture under its own light and with noise, shape (height, width, 3)."""
        light = self.generator.uniform(0.75, 1.2) * self.generator.uniform(0.93, 1.07, 3)
        colours = np.stack([colour for _, colour in self.things])[self.objects] * self.shading[:, :, None]
        noisy = colours * light + self.generator.normal(0, _NOISE, colours.shape)
        return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def draw_scene(generator: np.random.Generator) -> Scene:
    """Return a scene."""
    scene = Scene(
        generator,
        objects=np.zeros((HEIGHT, WIDTH), dtype=np.int16),
        shading=np.ones((HEIGHT, WIDTH)),
        things=[],
        horizon=generator.uniform(0.42, 0.52) * HEIGHT,
        centre=generator.uniform(0.4, 0.6) * WIDTH,
    )
    _sky(scene)
    _buildings(scene)
    _ground(scene)
    if generator.random() < 0.6:  # noqa: PLR2004 - a share of the scenes, like those below
        _fence(scene)
    # What stands on the ground, from far to near.
    things = [_tree] * 3 + [_car] * 3 + [_pedestrian] * 3 + [_bicyclist] * 1 + [_pole] * 4
    feet = np.sort(scene.horizon + (HEIGHT - scene.horizon) * generator.uniform(0.08, 0.75, len(things)))
    for row, index in zip(feet, generator.permutation(len(things)), strict=True):
        if generator.random() < 0.8:  # noqa: PLR2004
            things[index](scene, float(row))
    if generator.random() < _HOOD_SHARE:
        scene.put(scene.ellipse(HEIGHT + 2, WIDTH / 2, 24, WIDTH), CAMVID_VOID, np.full(3, 40.0))
    return scene


def _sky(scene: Scene) -> None:
    everywhere = np.ones((HEIGHT, WIDTH), dtype=bool)
    scene.paint(everywhere, "sky")
    scene.shading[:] += 0.12 * scene.rows / HEIGHT


def _buildings(scene: Scene) -> None:
    """Paint a row of houses with windows; gaps let the sky through."""
    left = -scene.generator.uniform(0, 20)
    while left < WIDTH:
        width = scene.generator.uniform(15, 40)
        away = abs(left + width / 2 - scene.centre) / WIDTH
        height = scene.generator.uniform(12, 22) + 60 * away * scene.generator.uniform(0.5, 1.1)
        if scene.generator.random() < 0.85:  # noqa: PLR2004
            house = scene.box(scene.horizon + 4, height, left, width)
            scene.paint(house, "building")
            windows = ((scene.rows + scene.horizon) % 9 < 4) & ((scene.columns - left) % 7 < 3)  # noqa: PLR2004
            scene.shade(house & windows, scene.generator.uniform(0.6, 0.9))
        left += width


def _ground(scene: Scene) -> None:
    """Paint road and pavement, which meet in the vanishing point, and what lies beyond as building or tree."""
    below = scene.rows > scene.horizon
    depth = (scene.rows - scene.horizon) / (HEIGHT - scene.horizon)
    aside = np.abs(scene.columns - scene.centre)
    road = scene.generator.uniform(0.5, 0.65) * WIDTH * depth + 2
    scene.paint(np.broadcast_to(below, scene.objects.shape), "building" if scene.generator.random() < 0.5 else "tree")  # noqa: PLR2004
    scene.paint(below & (aside < road * 1.5 + 1), "pavement")
    scene.paint(below & (aside < road), "road")
    line = below & (np.abs(scene.columns - scene.centre) < 0.6 + depth) & (depth * 40 % 6 < 3)  # noqa: PLR2004
    scene.shade(line, 1.7)


def _fence(scene: Scene) -> None:
    """Paint a low fence along one side."""
    side = scene.generator.choice((-1.0, 1.0))
    away = side * (scene.columns - scene.centre)
    foot = scene.horizon + away * 0.62
    tall = 3 + 0.16 * away
    fence = (away > 8) & (scene.rows < foot) & (scene.rows > foot - tall)  # noqa: PLR2004
    scene.paint(fence, "fence")
    scene.shade(fence & (scene.columns % 4 < 1), 0.7)


def _beside(scene: Scene, row: float) -> float:
    """Return a column beside the road for feet in a row."""
    reach = WIDTH * scene.nearness(row) * scene.generator.uniform(0.6, 0.95) + 4
    return float(scene.centre + scene.generator.choice((-1.0, 1.0)) * reach)


def _tree(scene: Scene, row: float) -> None:
    column, size = _beside(scene, row), scene.nearness(row)
    tall = 16 + 75 * size
    scene.paint(scene.box(row, tall * 0.6, column, 1 + 4 * size), "tree")
    for _ in range(3):
        shift = scene.generator.normal(0, 2 + 6 * size, 2)
        crown = scene.ellipse(row - tall * 0.75 + shift[0], column + shift[1], tall * 0.6, tall * 0.5)
        scene.paint(crown, "tree", spread=12)


def _car(scene: Scene, row: float) -> None:
    size = scene.nearness(row)
    column = scene.centre + scene.generator.uniform(-0.45, 0.35) * WIDTH * size
    width, height = 6 + 38 * size, 4 + 24 * size
    body = scene.box(row, height * 0.6, column, width)
    cabin = scene.box(row - height * 0.5, height * 0.5, column + width * 0.15, width * 0.7)
    scene.paint(body | cabin, "car", spread=45)
    scene.shade(cabin, 0.6)
    scene.shade(scene.box(row, height * 0.18, column, width), 0.4)


def _pedestrian(scene: Scene, row: float) -> None:
    column, size = _beside(scene, row) * 0.8 + scene.centre * 0.2, scene.nearness(row)
    tall, wide = 7 + 36 * size, 2 + 9 * size
    scene.paint(scene.ellipse(row - tall * 0.45, column, tall * 0.9, wide), "pedestrian", spread=35)
    scene.paint(scene.ellipse(row - tall * 0.95, column, tall * 0.2, wide * 0.6), "pedestrian")


def _bicyclist(scene: Scene, row: float) -> None:
    size = scene.nearness(row)
    column = scene.centre + scene.generator.choice((-1.0, 1.0)) * WIDTH * size * 0.4
    tall, wide = 8 + 34 * size, 3 + 10 * size
    rider = scene.ellipse(row - tall * 0.65, column, tall * 0.7, wide)
    wheels = scene.ellipse(row - tall * 0.2, column, tall * 0.45, wide * 1.1)
    scene.paint(rider | wheels, "bicyclist", spread=35)
    scene.shade(wheels, 0.5)


def _pole(scene: Scene, row: float) -> None:
    """Paint a pole of one to three pixels, with a sign on it as often as not."""
    column, size = _beside(scene, row), scene.nearness(row)
    tall = 22 + 80 * size
    scene.paint(scene.box(row, tall, column, 1 + 2 * size), "pole")
    if scene.generator.random() < 0.6:  # noqa: PLR2004
        across = 3 + 9 * size
        sign = scene.ellipse(row - tall, column, across, across)
        if scene.generator.random() < 0.5:  # noqa: PLR2004
            sign = scene.box(row - tall + across, across, column - across / 2, across)
        scene.paint(sign, "sign_symbol", spread=40)


@contextmanager
def data_set(data: str, dataset: Dataset, division: Division) -> Iterator[tuple[Path, Pairs, list[str]]]:
    """Yield a data set's folder, its files, and remarks; generated ones live as long as the context.

    Args:
        data: the folder, or `SYNTHETIC`.
        dataset: its layout.
        division: of a user's folders where nobody tells splits.

    Raises:
        InputError: files are missing.
    """
    folder = Path(data)
    match "synthetic" if data == SYNTHETIC else dataset:
        case "synthetic":
            with tempfile.TemporaryDirectory(prefix="segmentation-") as name:
                write_synthetic(Path(name), _SEED)
                yield Path(name), find_pairs(Path(name)), []
        case "cityscapes":
            yield folder, find_cityscapes_pairs(folder), []
        case "folders":
            yield folder, *find_folders(folder, division)
        case _:
            yield folder, find_pairs(folder), []
