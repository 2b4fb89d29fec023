"""Average precision, held against pycocotools where it is installed."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from qanas.networks.fastestdet import BackboneSettings, FastestDetByName, HeadSettings
from qanas.tasks.detection.boxes import IGNORED, KIND, OBJECT, target_rows
from qanas.tasks.detection.decoding import MOST_BOXES, Decoder, Found
from qanas.tasks.detection.images import Look, in_shares
from qanas.tasks.detection.losses import detection_loss
from qanas.tasks.detection.metrics import METRICS, Scorer
from qanas.tasks.detection.reader import find_pictures
from qanas.tasks.detection.task import sizes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDES = (240, 320)


def scene(seed: int, pictures: int, classes: int, boxes: int = 6) -> tuple[list[Found], NDArray[np.float32]]:
    """Return random objects of all sizes, some ignored, and answers near them, some of equal scores."""
    generator = np.random.default_rng(seed)
    found, targets = [], []
    for _ in range(pictures):
        count = int(generator.integers(0, boxes))
        size = np.exp(generator.uniform(np.log(8), np.log(230), (count, 2)))
        low = generator.uniform(0, 1, (count, 2)) * (np.array(SIDES[::-1]) - size).clip(0)
        corners = np.concatenate([low, low + size], axis=1).astype(np.float32).astype(np.float64)
        label = generator.integers(0, classes, count)
        kind = np.where(generator.random(count) < 0.15, IGNORED, OBJECT)
        area = (size.prod(axis=1) * generator.uniform(0.5, 1, count)).astype(np.float32)
        rows = np.column_stack([corners, label, kind, area]).reshape(-1, 7)
        targets.append(target_rows(SIDES, rows, boxes + 1))
        repeated = np.concatenate([corners] * 2 + [generator.uniform(0, 200, (8, 4))])
        moved = repeated + generator.normal(0, 6, repeated.shape)
        answers = np.concatenate([moved[:, :2], np.maximum(moved[:, 2:], moved[:, :2] + 2)], axis=1)
        scores = np.sort(generator.random(len(answers)).round(2))[::-1]
        kinds = np.concatenate([label, label, generator.integers(0, classes, 8)])
        found.append(Found(answers.astype(np.float32), scores.astype(np.float32), kinds.astype(np.int64)))
    return found, np.stack(targets)


def by_pycocotools(found: list[Found], targets: NDArray[np.float32], classes: int) -> dict[str, float]:
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is missing: pip install 'qanas[dev]'")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    annotations: list[dict[str, Any]] = []
    for picture, rows in enumerate(targets.astype(np.float64)):
        for left, top, right, bottom, label, kind, area in rows[1:]:
            if kind in (OBJECT, IGNORED):
                box = [left, top, right - left, bottom - top]
                told = {"bbox": box, "category_id": int(label), "area": area, "iscrowd": int(kind == IGNORED)}
                annotations.append({"id": len(annotations) + 1, "image_id": picture, **told})
    answers = []
    for picture, answer in enumerate(found):
        for (left, top, right, bottom), score, label in zip(
            answer.boxes.astype(np.float64), answer.scores, answer.classes, strict=True
        ):
            box = [left, top, right - left, bottom - top]
            answers.append({"image_id": picture, "category_id": int(label), "bbox": box, "score": float(score)})
    truth = coco.COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": picture} for picture in range(len(found))],
        "categories": [{"id": label} for label in range(classes)],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        scored = evaluation.COCOeval(truth, truth.loadRes(answers), "bbox")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    ap, ap50, ap75, small, medium, large, _, _, recall = scored.stats[:9]
    return dict(zip(METRICS, (ap50, ap, ap75, small, medium, large, recall), strict=True))


def assert_equal_to_pycocotools(found: list[Found], targets: NDArray[np.float32], classes: int) -> dict[str, float]:
    expected = by_pycocotools(found, targets, classes)
    own = Scorer(found, targets, classes).metrics()
    for name in METRICS:
        assert np.nan_to_num(own[name], nan=-1.0) == pytest.approx(expected[name], abs=1e-6), name
    return own


@pytest.mark.parametrize(("seed", "pictures", "classes"), [(0, 40, 1), (1, 30, 3), (2, 3, 1), (3, 1, 2)])
def test_it_is_that_of_pycocotools(seed: int, pictures: int, classes: int) -> None:
    assert_equal_to_pycocotools(*scene(seed, pictures, classes), classes)


SEEN = (64, 96)
"""Height and width of what the briefly trained detector sees."""


def photos(classes: tuple[str, ...], count: int) -> tuple[torch.Tensor, NDArray[np.float32]]:
    """Return real photos as a detector sees them, and their boxes, of which every seventh is ignored."""
    root = os.environ.get("QANAS_DATA")
    if root is None:
        pytest.skip("QANAS_DATA isn't set")
    folder = Path(root) / "person_voc"
    if not folder.is_dir():
        pytest.skip("QANAS_DATA has no person_voc")
    samples = [sample for sample in find_pictures(folder, classes)[0] if sample.boxes][:count]
    look = Look(SEEN, "stretch", (115.0,) * 3, (60.0,) * 3)
    rows = 1 + max(len(sample.boxes) for sample in samples)
    boxes = [
        [(*box.corners, classes.index(box.label), box.kind, box.area) for box in sample.boxes] for sample in samples
    ]
    targets = np.stack([target_rows(s.size, np.array(own), rows) for s, own in zip(samples, boxes, strict=True)])
    objects = np.flatnonzero(targets[:, :, KIND] == OBJECT)
    targets[:, :, KIND].flat[objects[::7]] = IGNORED
    return torch.from_numpy(np.stack([look.input_of(sample.path) for sample in samples])), targets


def trained_on(inputs: torch.Tensor, targets: NDArray[np.float32], classes: int) -> FastestDetByName:
    """Return a small detector that has seen the photos some times: right boxes, shifted ones, doubles and misses."""
    torch.manual_seed(0)
    head = HeadSettings(24, ((3,),), objectness_kernel=3, box_kernel=3, class_kernel=3)
    network = FastestDetByName(SEEN, classes, head, BackboneSettings(16, 2, (24, 48, 96), (1, 1, 1))).train()
    shares = in_shares(torch.from_numpy(targets), SEEN, "stretch")
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for step in range(40):
        chosen = torch.arange(step * 16, step * 16 + 16) % len(inputs)
        optimizer.zero_grad()
        detection_loss(network(inputs[chosen]), shares[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.eval()


def test_it_is_that_of_pycocotools_for_a_trained_detector_on_photos() -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is missing: pip install 'qanas[dev]'")
    classes = ("person", "dog", "horse")
    inputs, targets = photos(classes, 64)
    network = trained_on(inputs, targets, len(classes))
    with torch.no_grad():
        outputs = {name: part.numpy() for name, part in network(inputs).items()}
    found = Decoder(SEEN, len(classes), "stretch").all(outputs, sizes_of(targets))
    own = assert_equal_to_pycocotools(found, targets, len(classes))
    assert 0.02 < own["ap50"] < 0.95  # right and wrong answers
    assert own["ap"] > 0


def test_pictures_that_are_drawn_twice_count_as_two() -> None:
    found, targets = scene(4, 12, 2)
    drawn = np.random.default_rng(0).integers(0, 12, 12)
    order = np.sort(drawn)
    whole = Scorer(found, targets, 2).metrics(np.bincount(drawn, minlength=12))
    alone = Scorer([found[at] for at in order], targets[order], 2).metrics()
    assert whole == pytest.approx(alone, nan_ok=True)


def test_a_perfect_answer_and_none() -> None:
    rows = np.array([[10, 10, 60, 90, 0, OBJECT, 4000.0]])
    targets = target_rows(SIDES, rows, 2)[None]
    right = Found(targets[0, 1:, :4], np.ones(1, np.float32), np.zeros(1, np.int64))
    nothing = Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert Scorer([right], targets, 1).metrics()["ap"] == pytest.approx(1.0)
    assert Scorer([nothing], targets, 1).metrics()["ap"] == 0.0
    assert np.isnan(Scorer([right], targets, 1).metrics()["ap_large"])


def test_no_more_answers_count_than_cocos() -> None:
    generator = np.random.default_rng(0)
    far = np.column_stack([np.full((MOST_BOXES, 2), 200.0), np.full((MOST_BOXES, 2), 230.0)])
    rows = np.array([[10, 10, 60, 90, 0, OBJECT, 4000.0]])
    boxes = np.concatenate([far, rows[:, :4]]).astype(np.float32)
    scores = np.sort(generator.random(len(boxes)))[::-1].astype(np.float32)
    late = Found(boxes, scores, np.zeros(len(boxes), np.int64))
    assert Scorer([late], target_rows(SIDES, rows, 2)[None], 1).metrics()["ap50"] == 0.0
