"""Layouts, reading, resizing, and every way in which files can be damaged."""

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from qanas.core.errors import InputError
from qanas.tasks.frames import Camera
from qanas.tasks.segmentation import Segmentation
from qanas.tasks.segmentation.files import (
    CITYSCAPES_IDS,
    VOID,
    Pair,
    cityscapes_labels,
    find_cityscapes_pairs,
    find_pairs,
    numbered_labels,
)
from qanas.tasks.segmentation.reader import read_pairs

Damage = Callable[[Path], object]


def task_of(folder: Path) -> Segmentation:
    return Segmentation(str(folder), dataset="folders", classes=("a", "b", "c"), void_id=3, height=12, width=16)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def save(path: Path, array: NDArray[np.uint8]) -> None:
    Image.fromarray(array).save(path)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def colour(path: Path) -> None:
    save(path, np.zeros((12, 16, 3), dtype=np.uint8))


def blank(folder: Path) -> None:
    for path in folder.iterdir():
        save(path, np.full((12, 16), 3, dtype=np.uint8))


def mode_of(path: Path) -> str:
    with Image.open(path) as image:
        return str(image.mode)


def labelled(number: int) -> NDArray[np.uint8]:
    mask = np.zeros((12, 16), dtype=np.uint8)
    mask[4, 7] = number
    return mask


IMAGE, MASK = "train/train_1.png", "trainannot/train_1.png"


@pytest.mark.parametrize(
    ("damage", "place", "expected"),
    [
        pytest.param(lambda f: (f / MASK).unlink(), MASK, ["missing", "train_1.png"], id="mask missing"),
        pytest.param(
            lambda f: [p.unlink() for p in (f / "trainannot").iterdir()],
            "trainannot",
            ["and those of 3 more"],
            id="all",
        ),
        pytest.param(
            lambda f: (f / MASK).rename((f / MASK).with_suffix(".jpg")),
            MASK.replace(".png", ".jpg"),
            ["masks have to be PNG", "JPEG mixes the ids"],
            id="a mask as JPEG",
        ),
        pytest.param(lambda f: (f / IMAGE).unlink(), MASK, ["no image of that name"], id="image missing"),
        pytest.param(lambda f: shutil.rmtree(f / "valannot"), "valannot", ["missing"], id="folder of masks missing"),
        pytest.param(lambda f: shutil.rmtree(f / "test"), "test", ["missing"], id="folder of images missing"),
        pytest.param(
            lambda f: [p.unlink() for s in ("val", "valannot") for p in (f / s).iterdir()],
            "val",
            ["no images"],
            id="none",
        ),
        pytest.param(lambda f: cut(f / IMAGE), IMAGE, ["not a readable image", "fetch"], id="image cut off"),
        pytest.param(lambda f: cut(f / MASK), MASK, ["not a readable image"], id="mask cut off"),
        pytest.param(lambda f: (f / IMAGE).write_text("no"), IMAGE, ["not a readable image"], id="no image at all"),
        pytest.param(lambda f: (f / IMAGE).write_bytes(b""), IMAGE, ["not a readable image"], id="empty file"),
        pytest.param(
            lambda f: save(f / MASK, np.zeros((16, 12), dtype=np.uint8)), MASK, ["12 x 16", "has 16 x 12"], id="sizes"
        ),
        pytest.param(
            lambda f: save(f / MASK, labelled(4)),
            MASK,
            ["label 4 in row 5, column 8", "0-2 are classes, 3 void", "task.void_id"],
            id="label out of range",
        ),
        pytest.param(
            lambda f: save(f / MASK, np.tile(np.arange(3, dtype=np.uint8), (12, 16, 1))),
            MASK,
            ["RGB", "8-bit"],
            id="colour",
        ),
        pytest.param(
            lambda f: save(f / MASK, np.full((12, 16), 257, dtype=np.uint16)),
            MASK,
            ["reach 257", "8-bit"],
            id="16 bits",
        ),
        pytest.param(lambda f: shutil.copy(f / IMAGE, f / "train/train_1.jpg"), "train", ["take one"], id="twice"),
        pytest.param(lambda f: blank(f / "valannot"), "", ["pixel of the val masks is void"], id="all void"),
    ],
)
def test_damaged_folders(scenes: Path, damage: Damage, place: str, expected: list[str]) -> None:
    task_of(scenes).load()
    damage(scenes)
    with pytest.raises(InputError) as refusal:
        task_of(scenes).load()
    message = str(refusal.value)
    assert message.startswith(str(scenes / place))
    assert all(part in message for part in expected), message


@pytest.mark.parametrize("is_file", [False, True])
def test_data_that_is_no_folder(tmp_path: Path, is_file: bool) -> None:
    if is_file:
        (tmp_path / "data").write_text("")
    for call in (task_of(tmp_path / "data").load, task_of(tmp_path / "data").fingerprint):
        with pytest.raises(InputError, match=r"task\.data: .*data .*: give the folder that holds train/"):
            call()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"dataset": "folders"}, "task.classes: 'folders' has no classes"),
        ({"classes": ("a",)}, "1 names; give 2 to 255"),
        ({"classes": ("a", "B c")}, "'B c': use small letters"),
        ({"classes": ("a", "b", "a")}, "'a' is there twice"),
        ({"void_id": 3}, "task.void_id: 3 is the class 'road'"),
        ({"classes": ("a", "b"), "void_id": 1}, "task.void_id: 1 is the class 'b'"),
        ({"dataset": "cityscapes", "classes": ("a", "b")}, "'cityscapes' has its own classes"),
        ({"min_scale": 2.0}, "task.min_scale: 2.0 is more than task.max_scale, 1.5"),
        ({"data": "synthetic", "void_id": 20}, "'synthetic' has CamVid's layout"),
        ({"data": "synthetic", "dataset": "cityscapes"}, "'synthetic' has CamVid's layout"),
    ],
)
def test_settings_that_do_not_fit_together(scenes: Path, settings: dict[str, object], expected: str) -> None:
    task = Segmentation(**{"data": str(scenes), **settings})  # type: ignore[arg-type]
    for call in (task.load, task.fingerprint):
        with pytest.raises(InputError) as refusal:
            call()
        assert expected in str(refusal.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_bytes_that_flipped_are_refused_or_read(scenes: Path, suffix: str) -> None:
    """Whatever a decoder raises on damage, a person reads one line."""
    pair = find_pairs(scenes)["train"][0]
    path = pair.image.with_suffix(suffix)
    with Image.open(pair.image) as image:
        image.save(path)
    content, labels = path.read_bytes(), numbered_labels(("a", "b", "c"), 3)
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for place in generator.integers(0, len(damaged), 3):
            damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read_pairs([Pair(path, pair.mask)], labels, (12, 16), (12, 16), Camera())
        except InputError as error:
            refused += 1
            assert str(path) in str(error) or str(pair.mask) in str(error)  # noqa: PT017 - many damages, one test
    assert refused > 0


def test_what_is_hidden_or_no_image_is_passed_over(scenes: Path) -> None:
    before = find_pairs(scenes)
    (scenes / "train/.DS_Store").write_text("x")
    (scenes / "train/notes.txt").write_text("x")
    (scenes / "trainannot/._train_0.png").write_text("x")
    assert find_pairs(scenes) == before
    assert [len(before[split]) for split in ("train", "val", "test")] == [4, 2, 3]


def test_masks_with_a_palette_or_in_black_and_white(scenes: Path) -> None:
    expected = task_of(scenes).load().train.targets
    for path in (scenes / "trainannot").iterdir():
        mask = Image.fromarray(np.asarray(Image.open(path)))
        mask.putpalette([number * 7 % 256 for number in range(3 * 256)])
        mask.save(path)
        assert mode_of(path) == "P"
    np.testing.assert_array_equal(task_of(scenes).load().train.targets, expected)
    Image.fromarray(np.eye(12, 16) > 0).save(scenes / MASK)
    assert mode_of(scenes / MASK) == "1"
    np.testing.assert_array_equal(task_of(scenes).load().train.targets[1], np.eye(12, 16))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_masks_that_were_saved_as_colours_or_sixteen_bits_hold_their_ids(scenes: Path, mode: str) -> None:
    expected = task_of(scenes).load().train.targets
    for path in (scenes / "trainannot").iterdir():
        mask = Image.open(path)
        saved = Image.fromarray(np.asarray(mask).astype(np.uint16)) if mode == "I;16" else mask.convert(mode)
        saved.save(path)
        assert mode_of(path) == mode
    np.testing.assert_array_equal(task_of(scenes).load().train.targets, expected)
    Image.merge("LA", [Image.new("L", (16, 12), 1), Image.new("L", (16, 12), 128)]).save(scenes / MASK)
    with pytest.raises(InputError, match="its pixels are LA"):
        task_of(scenes).load()


def grey_png(ids: NDArray[np.uint8], bits: int) -> bytes:
    """Return a PNG file of grey values that have a few bits, which Pillow doesn't write."""
    height, width = ids.shape
    lines = np.unpackbits(ids[..., None], axis=2)[..., -bits:].reshape(height, width * bits)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), np.packbits(lines, axis=1)], axis=1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [2, 4])
def test_masks_of_few_bits_hold_ids_and_no_greys(scenes: Path, bits: int) -> None:
    pairs = find_pairs(scenes)["train"]
    labels = numbered_labels(("a", "b", "c"), 3)
    expected = read_pairs(pairs, labels, (12, 16), (12, 16), Camera()).masks
    for pair in pairs:
        pair.mask.write_bytes(grey_png(np.asarray(Image.open(pair.mask)), bits))
    assert np.array_equal(read_pairs(pairs, labels, (12, 16), (12, 16), Camera()).masks, expected)
    black_and_white = np.where(expected[0] == 0, 0, (1 << bits) - 1).astype(np.uint8)
    pairs[0].mask.write_bytes(grey_png(black_and_white, bits))
    only = read_pairs(pairs[:1], numbered_labels(("a", "b"), VOID), (12, 16), (12, 16), Camera()).masks
    assert set(np.unique(only).tolist()) == {0, VOID}


def test_images_of_any_mode_and_order(scenes: Path) -> None:
    grey = np.full((12, 16), 77, dtype=np.uint8)
    Image.fromarray(grey).save(scenes / IMAGE)
    frames = read_pairs(find_pairs(scenes)["train"], numbered_labels(("a", "b", "c"), 3), (12, 16), (12, 16), Camera())
    assert (frames.images[1] == 77).all()
    assert frames.names.tolist() == [f"train_{i}" for i in range(4)]
    raw = np.asarray(Image.open(scenes / "train/train_0.png"))
    np.testing.assert_array_equal(frames.images[0], np.moveaxis(raw, 2, 0))


def test_fingerprint_is_of_names_and_bytes(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    task = task_of(scenes)
    before = task.fingerprint()
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(scenes, elsewhere)
    assert task_of(elsewhere).fingerprint() == before
    for split in ("train", "trainannot"):
        (elsewhere / split / "train_3.png").rename(elsewhere / split / "train_9.png")
    assert task_of(elsewhere).fingerprint() != before
    content = (scenes / MASK).read_bytes()
    (scenes / MASK).write_bytes(content + b"\0")
    assert task.fingerprint() != before
    (scenes / MASK).write_bytes(content)
    assert task.fingerprint() == before


# Resizing


def triangle(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Resize the first axis with a triangle filter as wide as the shrinking asks for."""
    scale = len(values) / size
    wide = max(scale, 1.0)
    rows = []
    for output in range(size):
        centre = (output + 0.5) * scale
        weights = [max(0.0, 1 - abs(i + 0.5 - centre) / wide) for i in range(len(values))]
        rows.append(sum(w * row for w, row in zip(weights, values, strict=True)) / sum(weights))
    return np.array(rows)


@pytest.mark.parametrize("size", [(12, 16), (6, 8), (5, 7), (24, 32), (4, 20)])
def test_resizing_is_as_the_card_says(scenes: Path, size: tuple[int, int]) -> None:
    pair = find_pairs(scenes)["train"][0]
    frames = read_pairs([pair], numbered_labels(("a", "b", "c"), 3), size, size, Camera())
    raw, ids = np.asarray(Image.open(pair.image)).astype(np.float64), np.asarray(Image.open(pair.mask))
    expected = triangle(triangle(raw, size[0]).swapaxes(0, 1), size[1]).swapaxes(0, 1)
    assert np.abs(frames.images[0] - np.moveaxis(expected, 2, 0)).max() <= 1.0
    rows = [int((i + 0.5) * 12 / size[0]) for i in range(size[0])]
    columns = [int((i + 0.5) * 16 / size[1]) for i in range(size[1])]
    nearest = ids[np.ix_(rows, columns)]
    np.testing.assert_array_equal(frames.masks[0], np.where(nearest == 3, VOID, nearest))


# Cityscapes


def test_cityscapes(cityscapes: Path) -> None:
    pairs = find_cityscapes_pairs(cityscapes)
    cities = {split: sorted({pair.image.parent.name for pair in pairs[split]}) for split in pairs}
    assert cities == {"train": [f"city{c}" for c in "abcdefghijk"], "val": ["cityl"], "test": ["cityv"]}
    assert [len(pairs[split]) for split in ("train", "val", "test")] == [22, 2, 2]
    task = Segmentation(str(cityscapes), dataset="cityscapes", height=12, width=16)
    data = task.load()
    assert data.output_size == 19
    assert set(np.unique(data.train.targets)) == {0, 1, 2, VOID}
    first = np.asarray(Image.open(pairs["train"][0].mask))
    for number, label in ((0, VOID), (7, 0), (8, 1), (11, 2)):
        assert (data.train.targets[0][first == number] == label).all()
    assert list(task.metrics)[3:6] == ["iou_road", "iou_sidewalk", "iou_building"]


def test_cityscapes_ids() -> None:
    table = cityscapes_labels().table
    assert [int(table[number]) for number in CITYSCAPES_IDS.values()] == list(range(19))
    assert (table[7], table[33], table[23], table[0], table[9], table[30]) == (0, 18, 10, VOID, VOID, VOID)
    assert (table[34:] == -1).all()
    assert (table[:34] >= 0).all()


def test_cityscapes_lacking_something(cityscapes: Path) -> None:
    mask = cityscapes / "gtFine/train/cityc/cityc_000001_000019_gtFine_labelIds.png"
    mask.rename(mask.with_name("elsewhere"))
    with pytest.raises(InputError, match=rf"^{mask} is missing"):
        find_cityscapes_pairs(cityscapes)
    for city in "abcdefghijk":
        shutil.rmtree(cityscapes / f"leftImg8bit/train/city{city}")
    with pytest.raises(InputError, match="one city, cityl; validation needs another"):
        find_cityscapes_pairs(cityscapes)
    shutil.rmtree(cityscapes / "leftImg8bit/train/cityl")
    with pytest.raises(InputError, match="leftImg8bit/train: no images"):
        find_cityscapes_pairs(cityscapes)
    shutil.rmtree(cityscapes / "leftImg8bit")
    with pytest.raises(InputError, match="leftImg8bit/train is missing: unpack"):
        find_cityscapes_pairs(cityscapes)
    with pytest.raises(InputError, match="holds leftImg8bit/ and gtFine/"):
        find_cityscapes_pairs(cityscapes / "nowhere")
