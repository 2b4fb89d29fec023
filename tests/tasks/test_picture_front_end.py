"""From a frame to a network's input: Pillow's bytes in C, whatever the sizes, and where a task offers it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qanas.tasks.images import Images
from qanas.tasks.images.front_end import WEIGHT_BITS, Filter, PictureFrontEnd
from qanas.tasks.images.reader import Colour, Fitting, Look
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
    ("height", "width", "channels", "size", "colour", "fit"),
    [
        (48, 64, 3, 24, "rgb", "stretch"),
        (48, 64, 3, 20, "grey", "crop"),
        (30, 22, 1, 32, "grey", "stretch"),
        (33, 21, 1, 16, "rgb", "crop"),
    ],
)
def test_c_makes_what_python_makes(
    height: int, width: int, channels: int, size: int, colour: Colour, fit: Fitting
) -> None:
    values = 3 if colour == "rgb" else 1
    means, deviations = np.linspace(90, 140, values), np.linspace(30, 60, values)
    front_end = PictureFrontEnd(height, width, channels, Look(size, colour, fit), means, deviations)
    raw = np.random.default_rng(0).integers(0, 256, (2, height, width * channels)).astype(np.uint8)
    assert front_end.input_of(raw[0]).shape == (values, size, size)
    check_front_end(front_end, list(raw))


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
