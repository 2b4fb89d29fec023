"""Folders of images and masks as people have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qanas.core.errors import InputError
from qanas.recipe.new import suggestion_for
from qanas.tasks.segmentation.layouts import Division, find_folders, has_masks
from qanas.tasks.segmentation.task import Segmentation

DIVISION = Division(0.2, 0.2, 0)
Layout = Callable[[str, str], tuple[str, str]]
"""Where image and mask of a split and name are."""

UNTOLD: dict[str, Layout] = {
    "beside each other": lambda _, name: (f"images/{name}.jpg", f"masks/{name}.png"),
    "with endings": lambda _, name: (f"imgs/{name}.jpg", f"Labels/{name}_mask.png"),
    "with two endings": lambda _, name: (f"images/{name}_sat.jpg", f"masks/{name}_mask.png"),
    "as pictures that lose nothing": lambda _, name: (f"images/{name}.png", f"masks/{name}_mask.gif"),
}
TOLD: dict[str, Layout] = {
    "splits outside": lambda split, name: (f"{split}/images/{name}.jpg", f"{split}/masks/{name}.png"),
    "splits inside": lambda split, name: (f"images/{split}/{name}.jpg", f"annotations/{split}/{name}.png"),
    "as CamVid": lambda split, name: (f"{split}/{name}.jpg", f"{split}annot/{name}.png"),
}
SPLITS = ("train", "val", "test")
OTHER_NAMES = {"train": "training", "val": "valid", "test": "test"}


def write(folder: Path, layout: Layout, numbers: range, split: str = "") -> None:
    """Write pictures of noise and masks of a square, 24 x 16."""
    generator = np.random.default_rng(numbers.start)
    for number in numbers:
        image, mask = (folder / name for name in layout(split, f"drive{number % 3}_{number:02d}"))
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (16, 24, 3), dtype=np.uint8)).save(image)
        classes = np.zeros((16, 24), np.uint8)
        classes[4:12, 3:15] = 255
        Image.fromarray(classes).save(mask)


@pytest.mark.parametrize("name", UNTOLD)
def test_images_beside_masks_are_dealt(tmp_path: Path, name: str) -> None:
    write(tmp_path, UNTOLD[name], range(20))
    pairs, remarks = find_folders(tmp_path, DIVISION)
    assert {split: len(found) for split, found in pairs.items()} == {"train": 12, "val": 4, "test": 4}
    assert remarks == []
    assert all(pair.image.stem[:9] == pair.mask.stem[:9] for found in pairs.values() for pair in found)
    assert find_folders(tmp_path, DIVISION)[0] == pairs
    assert find_folders(tmp_path, Division(0.2, 0.2, 1))[0] != pairs


@pytest.mark.parametrize("name", TOLD)
def test_splits_that_folders_tell_stay(tmp_path: Path, name: str) -> None:
    for place, split in enumerate(SPLITS):
        write(tmp_path, TOLD[name], range(10 * place, 10 * place + 3 - place), split)
    pairs, remarks = find_folders(tmp_path, DIVISION)
    assert {split: len(found) for split, found in pairs.items()} == {"train": 3, "val": 2, "test": 1}
    assert remarks == []


def test_what_is_not_told_is_cut_from_the_training_images(tmp_path: Path) -> None:
    for place, split in enumerate(("train", "val")):
        write(tmp_path, TOLD["splits outside"], range(20 * place, 20 * place + 10), OTHER_NAMES[split])
    pairs, _ = find_folders(tmp_path, DIVISION)
    assert {split: len(found) for split, found in pairs.items()} == {"train": 8, "val": 10, "test": 2}
    assert {pair.image.parent.parent.name for pair in pairs["val"]} == {"valid"}


def test_groups_and_equal_images_stay_together(tmp_path: Path) -> None:
    layout = UNTOLD["beside each other"]
    write(tmp_path, layout, range(24))
    first, copy = (tmp_path / layout("", f"drive{number % 3}_{number:02d}")[0] for number in (3, 10))
    copy.write_bytes(first.read_bytes())
    pairs, remarks = find_folders(tmp_path, DIVISION)
    assert remarks == ["1 images equal another one: kept in one split"]
    assert sum({first, copy} <= {pair.image for pair in found} for found in pairs.values()) == 1
    copy.unlink()
    (tmp_path / layout("", "drive1_10")[1]).unlink()
    task = Segmentation(str(tmp_path), "folders", 16, 24, ("a", "b"), group_pattern=r"^(drive\d)")
    data = task.load()
    found = {
        name: set(task.units(split)) for name, split in zip(SPLITS, (data.train, data.val, data.test), strict=True)
    }
    assert sorted(len(drives) for drives in found.values()) == [1, 1, 1]
    assert len(set.union(*found.values())) == 3
    assert data.protocol["groups"] == r"by ^(drive\d) of an image's name, whole"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "masks/drive0_00.png").unlink(), "drive0_00.png is missing"),
        (lambda folder: (folder / "masks").rename(folder / "of_masks"), "name them train/, trainannot/"),
        (lambda folder: (folder / "labels").symlink_to(folder / "masks"), "labels/ is beside it"),
        (
            lambda folder: (folder / "masks/drive0_00.png").rename(folder / "masks/drive0_00.jpg"),
            "drive0_00.jpg: masks have to be PNG",
        ),
    ],
)
def test_what_lacks_is_told(tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    write(tmp_path, UNTOLD["beside each other"], range(6))
    change(tmp_path)
    with pytest.raises(InputError, match=message):
        find_folders(tmp_path, DIVISION)


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "no regular expression"), ("a", "0 groups"), ("(x)", "tells no group")]
)
def test_patterns_that_tell_nothing(tmp_path: Path, pattern: str, message: str) -> None:
    write(tmp_path, UNTOLD["beside each other"], range(6))
    with pytest.raises(InputError, match=f"task.group_pattern: .*{message}"):
        find_folders(tmp_path, Division(0.2, 0.2, 0, pattern))


@pytest.mark.parametrize("name", [*UNTOLD, *TOLD])
def test_a_first_recipe_knows_masks(tmp_path: Path, name: str) -> None:
    for place, split in enumerate(SPLITS):
        write(tmp_path, (UNTOLD | TOLD)[name], range(10 * place, 10 * place + 8), split)
    assert has_masks(tmp_path)
    suggestion = suggestion_for(tmp_path)
    assert suggestion.task == "segmentation"
    assert {key: value for key, value, _ in suggestion.keys}["classes"] == ["background", "class_1"]


def test_folders_of_classes_have_no_masks(tmp_path: Path) -> None:
    for label in ("images", "drawings"):
        (tmp_path / label).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / label / "1.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/1.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert not has_masks(tmp_path)
