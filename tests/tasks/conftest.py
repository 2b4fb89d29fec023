import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TRAIN_CYCLES = {1: 35, 2: 12, 3: 30, 4: 31, 5: 60, 7: 2}
TEST_CYCLES = {1: 33, 2: 5, 3: 1, 4: 30}
RUL = (10, 200, 0, 130)
CENTRES = ((0.0, 0.0, 100.0), (20.0, 0.7, 60.0))


def _row(generator: random.Random, engine: int, cycle: int) -> str:
    point = generator.randrange(2)
    settings = [value + generator.uniform(-0.003, 0.003) for value in CENTRES[point]]
    sensors = [generator.gauss(10.0 * number + 5 * point, 0.1 * number) for number in range(1, 22)]
    sensors[0] = 518.67  # constant
    sensors[4] = 3.9 + point  # constant in each condition, at another value
    sensors[5] = 21.61 if point == 0 else generator.gauss(15.0, 1.0)  # constant in the first condition only
    sensors[6] = 1.0 if cycle == 9 and engine in {1, 3, 5} else 0.7  # more than 95 % of the rows have one value
    numbers = [f"{value:.4f}" for value in (*settings, *sensors)]
    return " ".join([str(engine), str(cycle), *numbers]) + "  \n"


def _file(generator: random.Random, lengths: dict[int, int]) -> str:
    rows = [(engine, cycle) for engine, length in lengths.items() for cycle in range(1, length + 1)]
    return "".join(_row(generator, *row) for row in rows)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder with a small valid FD001 in two operating conditions, sensors 1, 5 and 7 to be dropped."""
    generator = random.Random(1)  # noqa: S311 - test data
    (tmp_path / "train_FD001.txt").write_text(_file(generator, TRAIN_CYCLES), encoding="ascii")
    (tmp_path / "test_FD001.txt").write_text(_file(generator, TEST_CYCLES), encoding="ascii")
    (tmp_path / "RUL_FD001.txt").write_text("".join(f"{rul} \n" for rul in RUL), encoding="ascii")
    return tmp_path


SCENES = {"train": 4, "val": 2, "test": 3}
SCENE_SIZE = (12, 16)


def save_pair(image: Path, mask: Path, seed: int, ids: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    """Write an image of noise and a mask of these ids."""
    generator = np.random.default_rng(seed)
    image.parent.mkdir(parents=True, exist_ok=True)
    mask.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator.integers(0, 256, (*SCENE_SIZE, 3), dtype=np.uint8)).save(image)
    Image.fromarray(np.array(ids, dtype=np.uint8)[generator.integers(0, len(ids), SCENE_SIZE)]).save(mask)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder of images and masks in CamVid's layout; of the ids 0 to 3, the last one is to be void."""
    for part, (split, count) in enumerate(SCENES.items()):
        for index in range(count):
            name = f"{split}_{index}.png"
            save_pair(tmp_path / split / name, tmp_path / f"{split}annot" / name, 10 * part + index)
    return tmp_path


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    """A folder in Cityscapes' layout: two images in each of twelve training cities and in one of val."""
    cities = [("train", f"city{letter}") for letter in "abcdefghijkl"] + [("val", "cityv")]
    for index, (part, city) in enumerate(cities):
        for frame in range(2):
            name = f"{city}_{frame:06d}_000019"
            image = tmp_path / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png"
            mask = tmp_path / "gtFine" / part / city / f"{name}_gtFine_labelIds.png"
            save_pair(image, mask, 100 + 2 * index + frame, ids=(0, 7, 8, 11))
    return tmp_path
