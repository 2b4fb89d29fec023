"""Average precision, held against pycocotools where it is installed."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from qanas.tasks.detection.boxes import IGNORED, OBJECT, target_rows
from qanas.tasks.detection.decoding import MOST_BOXES, Found
from qanas.tasks.detection.metrics import METRICS, Scorer

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


@pytest.mark.parametrize(("seed", "pictures", "classes"), [(0, 40, 1), (1, 30, 3), (2, 3, 1), (3, 1, 2)])
def test_it_is_that_of_pycocotools(seed: int, pictures: int, classes: int) -> None:
    found, targets = scene(seed, pictures, classes)
    expected = by_pycocotools(found, targets, classes)
    own = Scorer(found, targets, classes).metrics()
    for name in METRICS:
        assert np.nan_to_num(own[name], nan=-1.0) == pytest.approx(expected[name], abs=1e-6), name


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
