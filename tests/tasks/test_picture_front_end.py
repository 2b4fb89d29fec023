"""From a frame to a network's input: Pillow's bytes in C, whatever the sizes, and where a task offers it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qanas.core.errors import InputError
from qanas.tasks.detection import Detection
from qanas.tasks.detection.boxes import IGNORED, OBJECT
from qanas.tasks.detection.images import as_seen
from qanas.tasks.detection.reader import Annotated, Box
from qanas.tasks.detection.synthetic import write_scenes
from qanas.tasks.frames import Camera, Frame, rounded_565
from qanas.tasks.images import Images
from qanas.tasks.picture_front_end import WEIGHT_BITS, Filter, PictureFrontEnd
from qanas.tasks.segmentation import Segmentation
from qanas.tasks.segmentation.files import VOID
from qanas.testing.front_ends import check_front_end


@pytest.mark.parametrize(("length", "size"), [(240, 64), (31, 31), (17, 40), (100, 33), (9, 8)])
def test_filters_are_pillows_to_the_byte(length: int, size: int) -> None:
    line = np.random.default_rng(length).integers(0, 256, (1, length)).astype(np.uint8)
    own = Filter.of(length, size, 0)
    at = np.cumsum(own.counts) - own.counts
    sums = [
        own.weights[start : start + count] @ line[0, first : first + count].astype(np.int64)
        for start, first, count in zip(at, own.first, own.counts, strict=True)
    ]
    found = (np.array(sums) + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS
    wanted = np.asarray(Image.fromarray(line).resize((size, 1), Image.Resampling.BILINEAR))[0]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("frame", "part", "inner", "size", "grey"),
    [
        (Frame(48, 64, 3), (0, 0, 48, 64), (24, 24), (24, 24), False),
        (Frame(48, 64, 3), (0, 8, 48, 48), (20, 20), (20, 20), True),
        (Frame(30, 22, 1), (0, 0, 30, 22), (32, 32), (32, 32), True),
        (Frame(33, 21, 1), (6, 0, 21, 21), (16, 16), (16, 16), False),
        (Frame(30, 40, 3), (0, 0, 30, 40), (24, 32), (33, 32), False),
        (Frame(40, 30, 3, "rgb565"), (0, 0, 40, 30), (32, 24), (32, 33), False),
    ],
)
def test_c_makes_what_python_makes(
    frame: Frame, part: tuple[int, int, int, int], inner: tuple[int, int], size: tuple[int, int], grey: bool
) -> None:
    values = 1 if grey else 3
    means, deviations = np.linspace(90, 140, values), np.linspace(30, 60, values)
    front_end = PictureFrontEnd(frame, part, inner, size, grey, means, deviations)
    raw = np.random.default_rng(0).integers(0, 256, (2, frame.height, frame.row_bytes)).astype(np.uint8)
    assert front_end.input_of(raw[0]).shape == (values, *size)
    check_front_end(front_end, list(raw))


def test_frames_of_16_bits_a_pixel_are_what_the_camera_saw() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    seen = Camera(None, "rgb565").seen(Path("one"), Image.fromarray(colours))
    values = np.asarray(seen)
    assert np.array_equal(rounded_565(values), values)
    assert np.abs(values.astype(int) - colours).max() < 8
    frame = Frame(6, 5, 3, "rgb565")
    raw = frame.raw(Path("one"), seen)
    assert raw.shape == (6, 10)
    assert np.array_equal(np.asarray(frame.image_of(raw)), values)
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    assert Frame(1, 1, 3, "rgb565").raw(Path("red"), red).tolist() == [[0x00, 0xF8]]
    with pytest.raises(InputError, match="deep value"):
        Camera(None, "rgb565").seen(Path("deep"), Image.new("I", (2, 2)))


def _picture(path: Path, size: tuple[int, int], mode: str = "RGB") -> None:
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def test_a_camera_s_frame_is_what_pictures_are_or_what_is_said(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for index in range(3):
            _picture(tmp_path / label / f"{index}{'x' * index}.png", (20, 16), "L" if label == "a" else "RGB")
    task = Images(data=str(tmp_path), size=8)
    data = task.load()
    assert data.preprocessing["frame"] == {"height": 16, "width": 20, "channels": 3}
    _picture(tmp_path / "a" / "wide.png", (40, 16))
    data = task.load()
    assert task.front_end(data.preprocessing) is None
    assert any("pictures have 2 sizes: give task.frame" in line for line in data.remarks)
    framed = Images(data=str(tmp_path), size=8, colour="grey", frame=(12, 16))
    data = framed.load()
    front_end = framed.front_end(data.preprocessing)
    assert front_end is not None
    (raw,) = framed.raw_inputs(data.val, np.array([1]))
    np.testing.assert_allclose(front_end.input_of(raw), data.val.inputs[1], atol=1e-6)


def test_detectors_see_what_the_camera_sees(tmp_path: Path) -> None:
    write_scenes(tmp_path, 0, pictures=24)
    task = Detection(str(tmp_path), width=64, aspect=1.0, fit="letterbox", frame=(48, 80), frame_pixels="rgb565")
    data = task.load()
    front_end = task.front_end(data.preprocessing)
    assert front_end is not None
    assert front_end.inner == (38, 64)
    raw = task.raw_inputs(data.val, np.array([0, 1]))
    for at, frame in zip((0, 1), raw, strict=True):
        np.testing.assert_allclose(front_end.input_of(frame), data.val.inputs[at], atol=1e-6)
    check_front_end(front_end, raw)
    assert (data.val.targets[:, 0, 2:4] == (80, 48)).all()


def test_masks_go_with_what_a_camera_sees(scenes: Path) -> None:
    def task(**settings: Any) -> Segmentation:  # noqa: ANN401
        given = {"height": 12, "width": 12, "classes": ("a", "b", "c"), "void_id": 3, **settings}
        return Segmentation(str(scenes), "folders", **given)

    stored = [np.asarray(Image.open(path)) for path in sorted((scenes / "valannot").iterdir())]
    middle = np.stack(stored)[:, :, 2:14]  # of 16 columns
    for frame, shown in (((12, 12), middle), ((24, 24), middle), ((6, 8), np.stack(stored))):
        seen = task(frame=frame, width=shown.shape[2])
        data = seen.load()
        np.testing.assert_array_equal(data.val.targets, np.where(shown == 3, VOID, shown))
        assert data.preprocessing["frame"] == {"height": frame[0], "width": frame[1], "channels": 3}
        front_end = seen.front_end(data.preprocessing)
        assert front_end is not None
        for raw, wanted in zip(seen.raw_inputs(data.val, np.arange(2)), data.val.inputs, strict=True):
            np.testing.assert_array_equal(front_end.input_of(raw), wanted)
    assert task().with_features().front_end(data.preprocessing) is None
    for path in scenes.glob("*/*_*.png"):
        Image.open(path).convert("L").save(path)
    assert task().load().preprocessing["frame"] == {"height": 12, "width": 16, "channels": 1}
    for folder in ("train", "trainannot"):
        Image.open(scenes / folder / "train_1.png").resize((8, 8)).save(scenes / folder / "train_1.png")
    data = task().load()
    assert task().front_end(data.preprocessing) is None
    assert any("pictures have 2 sizes: give task.frame" in line for line in data.remarks)


def test_boxes_go_with_what_a_camera_sees() -> None:
    boxes = (
        Box("a", (10, 40, 30, 60), OBJECT, 300.0),
        Box("a", (0, 0, 10, 20), OBJECT, 200.0),
        Box("a", (0, 0, 10, 25), OBJECT, 250.0),
        Box("a", (0, 5, 10, 100), OBJECT, 950.0),
    )
    sample = Annotated(Path("one.png"), "one.png", "a", size=(100, 40), boxes=boxes)
    seen = as_seen(sample, (20, 20))  # of 100 lines the middle 40, at half their size
    assert seen.size == (20, 20)
    assert [box.corners for box in seen.boxes] == [(5, 5, 15, 15), (0, 0, 5, 20)]
    assert [box.kind for box in seen.boxes] == [OBJECT, OBJECT]
    assert seen.boxes[0].area == pytest.approx(75)
    assert as_seen(sample, (100, 40)) is sample
    cut = as_seen(sample, (60, 40)).boxes
    assert [box.kind for box in cut] == [OBJECT, IGNORED, OBJECT]
