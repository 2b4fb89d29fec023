"""Data as other tools leave it is read as it is meant, or refused with what it is."""

from __future__ import annotations

import codecs
import math
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from qanas.core.errors import InputError
from qanas.tasks.base import TaskData
from qanas.tasks.segmentation import Segmentation
from qanas.tasks.turbofan import Turbofan

SIDE = 24
COUNTS = {"train": 4, "val": 2, "test": 2}
Mask = NDArray[np.bool_]


def discs() -> dict[str, list[Mask]]:
    """A disc in each mask, never in the middle, so that turning it shows."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    centres = {split: generator.uniform(6, 10, (count, 2)) for split, count in COUNTS.items()}
    return {s: [(y - cy) ** 2 + (x - cx) ** 2 < 16 for cy, cx in each] for s, each in centres.items()}


def grey(mask: Mask) -> NDArray[np.float64]:
    """Dark noise with a bright disc."""
    return np.where(mask, 200.0, np.random.default_rng(int(mask.sum())).uniform(0, 60, mask.shape))


class Folder:
    """A data set in which one thing can be unusual."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for split, masks in discs().items():
            for number, mask in enumerate(masks):
                image = Image.fromarray(np.repeat(grey(mask)[..., None], 3, axis=2).astype(np.uint8))
                for place in (self.image(split, number), self.mask(split, number)):
                    place.parent.mkdir(parents=True, exist_ok=True)
                image.save(self.image(split, number))
                Image.fromarray(mask.astype(np.uint8)).save(self.mask(split, number))

    def image(self, split: str, number: int, suffix: str = ".png") -> Path:
        return self.path / split / f"{number}{suffix}"

    def mask(self, split: str, number: int) -> Path:
        return self.path / f"{split}annot" / f"{number}.png"

    def every(self) -> list[tuple[str, int, Mask]]:
        return [(split, number, mask) for split, masks in discs().items() for number, mask in enumerate(masks)]

    def task(self, **settings: object) -> Segmentation:
        chosen = {"dataset": "folders", "classes": ("ground", "cell"), "height": SIDE, "width": SIDE, **settings}
        return Segmentation(str(self.path), **chosen)  # type: ignore[arg-type]

    def load(self, **settings: object) -> TaskData:
        return self.task(**settings).load()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "data")


def overlap(data: TaskData) -> float:
    """The share of what is bright or labelled that is both."""
    bright, cell = data.train.inputs.mean(axis=1) > 0.5, data.train.targets == 1
    return float((bright & cell).sum() / (bright | cell).sum())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_says(folder: Folder, orientation: int) -> None:
    stored = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    for split, number, _ in folder.every():
        path = folder.image(split, number)
        with Image.open(path) as image:
            turned = image.copy()
        for step in stored.get(orientation, []):
            turned = turned.transpose(step)
        tag = Image.Exif()
        tag[0x0112] = orientation
        turned.save(path, exif=tag)
    data = folder.load()
    assert overlap(data) == 1.0
    assert any("EXIF" in line for line in data.remarks) == (orientation > 1)


def test_a_mask_of_the_picture_as_it_is_stored_is_refused(folder: Folder) -> None:
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.new("RGB", (SIDE, SIDE // 2)).save(folder.image("train", 0), exif=tag)
    Image.fromarray(np.zeros((SIDE // 2, SIDE), np.uint8)).save(folder.mask("train", 0))
    with pytest.raises(InputError, match=r"trainannot/0\.png: .*EXIF orientation"):
        folder.load()


@pytest.mark.parametrize(
    ("low", "high", "dtype", "suffix"),
    [(60, 4000, np.uint16, ".png"), (7000, 9000, np.uint16, ".png"), (0.0, 1.0, np.float32, ".tif"),
     (0, 70000, np.int32, ".tif")],
)  # fmt: skip
def test_deep_values_are_neither_clipped_nor_black(
    folder: Folder, low: float, high: float, dtype: type[np.generic], suffix: str
) -> None:
    for split, number, mask in folder.every():
        folder.image(split, number).unlink()
        deep = (low + grey(mask) / 255 * (high - low)).astype(dtype)
        Image.fromarray(deep).save(folder.image(split, number, suffix))
    data = folder.load()
    assert overlap(data) == 1.0
    ground = data.train.inputs[0, 0][data.train.targets[0] == 0]
    assert len(np.unique(ground)) > 100
    assert abs(float(data.train.inputs.mean())) < 1e-3
    assert data.preprocessing["values"][0] < data.preprocessing["values"][1] <= high
    pictures = folder.task().predictions(np.zeros((2, 2, SIDE, SIDE), np.float32), data.val, data.preprocessing)
    shown = pictures["pictures"]
    assert shown.max() - shown.min() > 100


def test_colours_of_16_bits_keep_their_upper_half_or_are_refused(folder: Folder) -> None:
    for split, number, mask in folder.every():
        save_colours(folder.image(split, number), (grey(mask) * 257).astype(np.uint16))
    data = folder.load()
    assert overlap(data) == 1.0
    assert "8 images have colours of 16 bits, of which the upper 8 are read" in data.remarks
    for number in range(COUNTS["val"]):
        save_colours(folder.image("val", number), np.full((SIDE, SIDE), 4000, np.uint16))
    with pytest.raises(InputError, match="val: colours of 16 bits are read by their upper 8, and those are at most 15"):
        folder.load()


def save_colours(path: Path, values: NDArray[np.uint16]) -> None:
    """Write a PNG of 16 bits a colour, which Pillow can't."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *values.shape[::-1], 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def test_values_of_different_kinds_are_refused(folder: Folder) -> None:
    Image.fromarray(np.full((SIDE, SIDE), 500, np.uint16)).save(folder.image("train", 2))
    with pytest.raises(InputError, match=r"train/2\.png: its pixels are I;16.*same kind"):
        folder.load()


def test_deep_values_that_are_no_numbers_are_refused(folder: Folder) -> None:
    for number in range(COUNTS["train"]):
        folder.image("train", number).unlink()
        Image.fromarray(np.full((SIDE, SIDE), np.nan, np.float32)).save(folder.image("train", number, ".tif"))
    with pytest.raises(InputError, match=r"train/0\.tif: holds NaN"):
        folder.load()


def test_masks_of_0_and_255_are_two_classes(folder: Folder) -> None:
    for split, number, mask in folder.every():
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder.mask(split, number))
    data = folder.load()
    assert overlap(data) == 1.0
    assert any("255 is read as 'cell'" in line for line in data.remarks)
    with pytest.raises(InputError, match="is 'ground': there is nothing to tell apart"):
        folder.load(void_id=255)


def test_masks_of_two_makers_are_said(folder: Folder) -> None:
    for number, mask in enumerate(discs()["val"]):
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder.mask("val", number))
    assert any("2 masks hold 0 and 255 alone, others 0 and 1" in line for line in folder.load().remarks)


def test_255_stays_void_beside_two_classes(folder: Folder) -> None:
    labels = discs()["train"][0].astype(np.uint8)
    labels[0] = 255
    Image.fromarray(labels).save(folder.mask("train", 0))
    assert (folder.load().train.targets[0, 0] == 255).all()


def test_a_class_that_validation_lacks_has_no_iou(folder: Folder) -> None:
    for number in range(COUNTS["val"]):
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(folder.mask("val", number))
    data = folder.load()
    assert "val masks have no cell: their IoU is not defined there" in data.remarks
    for sign in (1.0, -1.0):  # predicted everywhere, and nowhere
        logits = np.broadcast_to(np.array([-sign, sign], np.float32)[:, None, None], (2, 2, SIDE, SIDE))
        assert math.isnan(folder.task().evaluate(logits, data.val)["iou_cell"])


def test_masks_with_an_upper_case_suffix(folder: Folder) -> None:
    for split, number, _ in folder.every():
        folder.mask(split, number).rename(folder.mask(split, number).with_suffix(".PNG"))
    assert overlap(folder.load()) == 1.0
    shutil.copy(folder.mask("train", 0).with_suffix(".PNG"), folder.mask("train", 0))
    with pytest.raises(InputError, match="an image has one mask"):
        folder.load()


def test_file_names_that_are_no_utf_8(folder: Folder) -> None:
    for path in (folder.image("train", 0), folder.mask("train", 0)):
        os.rename(path, os.fsencode(path.parent) + b"/stra\xdfe.png")  # noqa: PTH104 - the name is bytes
    data = folder.load()
    assert len(data.train) == COUNTS["train"]
    " ".join(data.train.extras["image"]).encode()
    assert folder.task().fingerprint() != Folder(folder.path.parent / "other").task().fingerprint()


def engines(folder: Path, life: int, encoding: str = "ascii") -> None:
    """Three engines of one life."""
    folder.mkdir()
    rows = [
        f"{engine} {cycle} 0 0 100 " + " ".join(str(sensor + cycle) for sensor in range(21))
        for engine in (1, 2, 3)
        for cycle in range(1, life + 1)
    ]
    for name, text in (("train", "\n".join(rows)), ("test", "\n".join(rows)), ("RUL", "1\n2\n3")):
        (folder / f"{name}_FD001.txt").write_text(text + "\n", encoding)


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    engines(tmp_path / "plain", 59)
    engines(tmp_path / "marked", 59, "utf-8-sig")
    plain, marked = (Turbofan(str(tmp_path / name)).load() for name in ("plain", "marked"))
    np.testing.assert_array_equal(plain.train.inputs, marked.train.inputs)
    engines(tmp_path / "wide", 59, "utf-16")
    with pytest.raises(InputError, match=r"train_FD001\.txt: this is UTF-16.*save it as plain text"):
        Turbofan(str(tmp_path / "wide")).load()
    assert codecs.BOM_UTF8 not in (tmp_path / "plain" / "train_FD001.txt").read_bytes()


def test_windows_longer_than_every_engine_are_refused(tmp_path: Path) -> None:
    engines(tmp_path / "short", 20)
    with pytest.raises(InputError, match=r"task\.window: 30, but the longest training engine.* has 20 cycles"):
        Turbofan(str(tmp_path / "short")).load()
    assert Turbofan(str(tmp_path / "short"), window=10).load().train.targets.max() == 10
