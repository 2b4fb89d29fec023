"""Boxes on their way: into the network's input, through random changes, into the loss, and back out of a map."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from qanas.core.errors import InputError
from qanas.core.maps import doubles
from qanas.tasks.detection import Detection
from qanas.tasks.detection.boxes import IGNORED, KIND, OBJECT, Fitting, placed, target_rows
from qanas.tasks.detection.decoding import Decoder, Found
from qanas.tasks.detection.examples import shown_boxes
from qanas.tasks.detection.images import Augmentation, Look, in_shares
from qanas.tasks.detection.losses import detection_loss
from qanas.tasks.samples import Split

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIZE = (64, 96)
CELLS = (4, 6)
PICTURE = (50, 40)
BOX = (8.0, 10.0, 28.0, 42.0)


def targets(*rows: tuple[float, ...], picture: tuple[int, int] = PICTURE) -> NDArray[np.float32]:
    return target_rows(picture, np.array(rows, np.float64).reshape(-1, 7), 4)


def answer(rows: NDArray[np.float32], fit: Fitting, size: tuple[int, int] = SIZE) -> dict[str, NDArray[np.float32]]:
    """Return the raw maps that say the objects of one picture, each in the cell of its centre."""
    down, right = CELLS
    objectness, box = np.full((1, down, right), -9.0, np.float32), np.zeros((4, down, right), np.float32)
    shares = in_shares(torch.from_numpy(rows[None]), size, fit)[0].numpy()
    for left, top, far, low, *_ in shares[shares[:, KIND] == OBJECT]:
        x, y = (left + far) / 2 * right, (top + low) / 2 * down
        row, column = int(y), int(x)
        objectness[0, row, column] = 9.0
        wide, tall = far - left, low - top
        box[:, row, column] = (
            np.arctanh(x - column),
            np.arctanh(y - row),
            np.log(wide / (1 - wide)),
            np.log(tall / (1 - tall)),
        )
    return {"objectness": objectness, "box": box}


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_what_is_right_decodes_to_the_truth_and_scores_1(fit: Fitting) -> None:
    task = Detection("nowhere", width=96, aspect=2 / 3, fit=fit)
    assert task.size == SIZE
    rows = [targets((*BOX, 0, OBJECT, 640)), targets((0, 0, 9, 9, 0, OBJECT, 81), (20, 20, 40, 50, 0, OBJECT, 600))]
    parts = [answer(row, fit) for row in rows]
    outputs = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    found = Decoder(SIZE, 1, fit).all(outputs, np.array([PICTURE, PICTURE]))
    assert found[0].boxes[0] == pytest.approx(BOX, abs=1e-3)
    split = Split(np.zeros((2, 3, *SIZE), np.float32), np.stack(rows))
    assert task.evaluate(outputs, split)["ap"] == pytest.approx(1.0)
    joined = np.concatenate(list(outputs.values()), axis=1)
    assert task.evaluate(joined, split)["ap"] == pytest.approx(1.0)
    with pytest.raises(InputError, match=r"'box' has shape \(2, 3, 4, 6\)"):
        task.evaluate(joined[:, :4], split)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("picture", [PICTURE, (576, 441), (480, 640), (1, 300)])
def test_boxes_are_trained_on_where_they_are_decoded(fit: Fitting, picture: tuple[int, int]) -> None:
    size = (160, 192)
    across, down, left, top = placed(size, picture, fit)
    whole = targets((0, 0, picture[1], picture[0], 0, OBJECT, 9), picture=picture)
    shares = in_shares(torch.from_numpy(whole)[None], size, fit)[0, 1, :4].numpy()
    expected = np.array([left, top, left + across * picture[1], top + down * picture[0]])
    assert shares * [192, 160, 192, 160] == pytest.approx(expected, abs=1e-3)


def test_several_classes_are_told_apart() -> None:
    task = Detection("nowhere", width=96, aspect=2 / 3)
    rows = targets((*BOX, 1, OBJECT, 640))
    outputs = {name: part[None] for name, part in answer(rows, "stretch").items()}
    classes = np.zeros((1, 3, *CELLS), np.float32)
    classes[:, 1] = 8.0
    split = Split(np.zeros((1, 3, *SIZE), np.float32), rows[None])
    assert task.evaluate({**outputs, "classes": classes}, split)["ap50"] == pytest.approx(1.0)
    assert task.evaluate({**outputs, "classes": -classes}, split)["ap50"] < 0.5


def loss_of(rows: NDArray[np.float32], parts: dict[str, NDArray[np.float32]]) -> tuple[float, torch.Tensor]:
    raw = {name: torch.from_numpy(part[None]).requires_grad_() for name, part in parts.items()}
    loss = detection_loss(raw, in_shares(torch.from_numpy(rows[None]), SIZE, "stretch"))
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = raw["objectness"].grad
    assert gradient is not None
    assert all(part.grad is None or part.grad.isfinite().all() for part in raw.values())
    return loss.item(), gradient[0, 0]


def test_the_loss_prefers_what_is_right() -> None:
    rows = targets((*BOX, 0, OBJECT, 640))
    right = answer(rows, "stretch")
    noise = {name: np.random.default_rng(0).normal(size=part.shape).astype(np.float32) for name, part in right.items()}
    found = loss_of(rows, right)[0], loss_of(rows, noise)[0]
    assert found[0] < found[1] / 2, found


def test_first_cells_learn_and_pictures_without_objects_do() -> None:
    corner = targets((0, 0, 6, 10, 0, OBJECT, 60))
    flat = {"objectness": np.zeros((1, *CELLS), np.float32), "box": np.zeros((4, *CELLS), np.float32)}
    _, gradient = loss_of(corner, flat)
    assert (gradient != 0).all()
    assert gradient[0, 0] > gradient[2:].max()  # a positive, of little overlap so far
    loss, gradient = loss_of(targets(), flat)
    assert np.isfinite(loss)
    assert (gradient > 0).all()


def test_what_is_ignored_teaches_nothing() -> None:
    flat = {"objectness": np.zeros((1, *CELLS), np.float32), "box": np.zeros((4, *CELLS), np.float32)}
    _, gradient = loss_of(targets((0, 0, 20, 50, 0, IGNORED, 1000)), flat)
    assert (gradient[:, :3] == 0).all()
    assert (gradient[:, 3:] > 0).all()


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_pictures_and_boxes_lie_in_the_same_place(tmp_path: Path, fit: Fitting) -> None:
    pixels = np.zeros((*PICTURE, 3), np.uint8)
    left, top, right, bottom = map(int, BOX)
    pixels[top:bottom, left:right] = 255
    Image.fromarray(pixels).save(tmp_path / "one.png")
    seen = Look(SIZE, fit, (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)).input_of(tmp_path / "one.png")[0] > 0.5
    across, down, far, low = placed(SIZE, PICTURE, fit)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    expected = (left * across + far, top * down + low, right * across + far, bottom * down + low)
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == pytest.approx(expected, abs=1.01)
    shares = in_shares(torch.from_numpy(targets((*BOX, 0, OBJECT, 1))[None]), SIZE, fit)[0, 1, :4].numpy()
    assert (shares * (SIZE[1], SIZE[0], SIZE[1], SIZE[0])).tolist() == pytest.approx(expected, abs=1e-3)


def test_random_changes_take_boxes_along() -> None:
    images = torch.zeros(32, 3, *SIZE)
    images[:, :, 20:40, 30:60] = 1.0
    rows = target_rows(SIZE, np.array([[30, 20, 60, 40, 0, OBJECT, 600.0]]), 3)
    before = in_shares(torch.from_numpy(np.stack([rows] * 32)), SIZE, "stretch")
    change = Augmentation((0.5, 2.0), 0.5)
    moved, after = change(images, before, torch.Generator().manual_seed(0))
    assert (after[:, 0, :4] == torch.tensor([0, 0, SIZE[1], SIZE[0]])).all()
    kept = 0
    for image, row in zip(moved, after[:, 1], strict=True):
        seen = (image[0] > 0.5).numpy()
        if row[KIND] != OBJECT:
            continue
        kept += 1
        down, right = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        found = (right[0], down[0], right[-1] + 1, down[-1] + 1)
        assert row[:4].tolist() == pytest.approx(found, abs=1.5)
    assert kept > 20
    still, same = replace(change, scales=(1.0, 1.0), mirror=0.0)(images, before, torch.Generator())
    assert torch.equal(still, images)
    assert torch.allclose(same[:, 1, :4], torch.tensor([30.0, 20.0, 60.0, 40.0]))


def test_mosaics_take_boxes_along() -> None:
    height, width = SIZE
    images, rows = torch.zeros(8, 3, *SIZE), []
    for at, image in enumerate(images):
        left, top = 5 + 8 * at, 20 + 3 * (at % 4)
        image[:, top : top + 20, left : left + 26] = 1.0
        rows.append(target_rows(SIZE, np.array([[left, top, left + 26, top + 20, at % 2, OBJECT, 520.0]]), 2))
    before = in_shares(torch.from_numpy(np.stack(rows)), SIZE, "stretch")
    generator = torch.Generator().manual_seed(0)
    made, after = Augmentation(mosaic=1.0)(images, before, generator)
    assert made.shape == images.shape
    assert after.shape == (8, 5, 7)
    assert (after[:, 0, :4] == torch.tensor([0, 0, width, height])).all()
    whole = 0
    for image, boxes in zip(made, after[:, 1:], strict=True):
        covered = torch.zeros(SIZE, dtype=torch.bool)
        for row in boxes:
            left, top, right, bottom = row[:4].tolist()
            covered[max(0, round(top) - 1) : round(bottom) + 1, max(0, round(left) - 1) : round(right) + 1] = True
            if row[KIND] == OBJECT:
                whole += 1
                assert (image[:, round(top) + 2 : round(bottom) - 2, round(left) + 2 : round(right) - 2] > 0.5).all()
        assert not (image[0] > 0.5)[~covered].any()  # nothing lies outside of a box
    assert whole > 16
    assert set(after[:, 1:, 4].flatten().tolist()) == {0.0, 1.0}
    again = Augmentation(mosaic=1.0)(images, before, torch.Generator().manual_seed(0))
    assert torch.equal(again[0], made)
    few = Augmentation(mosaic=0.5)(images, before, torch.Generator().manual_seed(0))[0]
    same = [torch.equal(own, image) for own, image in zip(few, images, strict=True)]
    assert 0 < sum(same) < 8


def test_only_sizes_that_fit_are_searched() -> None:
    task = Detection("nowhere", width=320, aspect=0.8)
    widths, aspects = (setting.options for setting in task.input_settings())
    assert (min(widths), max(widths)) == (220, 320)
    sizes = {replace(task, width=int(width), aspect=float(aspect)).size for width in widths for aspect in aspects}
    assert len(sizes) == len(widths) * len(aspects)
    assert all(doubles(side) for size in sizes for side in size)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_pictures_are_shown_where_their_boxes_are(fit: Fitting) -> None:
    rows = targets((*BOX, 0, OBJECT, 640))
    across, down, far, low = placed(SIZE, PICTURE, fit)
    inputs = np.zeros((2, 3, *SIZE), np.float32)
    left, top, right, bottom = (round(side) for side in (
        BOX[0] * across + far, BOX[1] * down + low, BOX[2] * across + far, BOX[3] * down + low
    ))  # fmt: skip
    inputs[0, :, top:bottom, left:right] = 1.0
    split = Split(inputs, np.stack([rows, targets()]), {"file": np.array(["a", "b"])})
    found = Found(np.array([BOX], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))
    notes = {"means": [0.0] * 3, "deviations": [255.0] * 3, "fit": fit}
    kept = shown_boxes([found, found], split, notes)
    assert kept["box_image"].tolist() == ["a", "b"]
    seen = kept["box_pictures"][0, ..., 0] > 127
    columns, lines = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
    shares = (columns[0] / SIZE[1], lines[0] / SIZE[0], (columns[-1] + 1) / SIZE[1], (lines[-1] + 1) / SIZE[0])
    expected = np.array(BOX) / (PICTURE[1], PICTURE[0], PICTURE[1], PICTURE[0])
    assert shares == pytest.approx(expected, abs=0.02)
    assert kept["box_found"][0, 0].tolist() == pytest.approx([*BOX, 0.0, 1.0])
