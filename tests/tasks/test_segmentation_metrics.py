"""Metrics of segmentation against loops over pixels."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from qanas.tasks.samples import Split
from qanas.tasks.segmentation import Segmentation
from qanas.tasks.segmentation.files import VOID
from qanas.tasks.segmentation.metrics import score

Logits = NDArray[np.float32]
Masks = NDArray[np.uint8]


def task_of(classes: int) -> Segmentation:
    return Segmentation("nowhere", dataset="folders", classes=tuple(f"c{i}" for i in range(classes)))


def split_of(masks: Masks) -> Split:
    return Split(np.zeros((len(masks), 3, *masks.shape[1:]), dtype=np.float32), masks)


def naive(logits: Logits, masks: Masks) -> dict[str, float]:
    """Every metric, one pixel at a time in Python's own numbers."""
    classes = logits.shape[1]
    right, pixels, losses = 0, 0, 0.0
    both, truth, guess = [0] * classes, [0] * classes, [0] * classes
    for n, row, column in np.ndindex(*masks.shape):
        target = int(masks[n, row, column])
        if target == VOID:
            continue
        values = [float(logits[n, c, row, column]) for c in range(classes)]
        predicted = values.index(max(values))
        pixels += 1
        right += predicted == target
        truth[target] += 1
        guess[predicted] += 1
        both[target] += predicted == target
        largest = max(values)
        losses += largest + math.log(sum(math.exp(v - largest) for v in values)) - values[target]
    unions = [t + g - b for t, g, b in zip(truth, guess, both, strict=True)]
    ious = {c: both[c] / unions[c] for c in range(classes) if unions[c]}
    return {
        "miou": sum(ious.values()) / len(ious),
        "pixel_accuracy": right / pixels,
        "cross_entropy": losses / pixels,
        **{f"iou_c{c}": ious[c] if truth[c] else math.nan for c in range(classes)},
    }


@st.composite
def batches(draw: st.DrawFn) -> tuple[Logits, Masks]:
    classes, shape = draw(st.integers(2, 5)), draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)))
    logits = draw(npst.arrays(np.float32, (shape[0], classes, *shape[1:]), elements=st.floats(-40, 40, width=32)))
    labels = st.one_of(st.integers(0, classes - 1), st.just(VOID))
    masks = draw(npst.arrays(np.uint8, shape, elements=labels))
    masks[0, 0, 0] = draw(st.integers(0, classes - 1))  # all void is another test
    return logits, masks


@settings(deadline=None, max_examples=150, derandomize=True)
@given(batches())
def test_metrics_are_what_loops_count(batch: tuple[Logits, Masks]) -> None:
    logits, masks = batch
    task = task_of(logits.shape[1])
    found = task.evaluate(logits, split_of(masks))
    assert list(found) == list(task.metrics)
    assert found == pytest.approx(naive(logits, masks), rel=1e-9, abs=1e-9, nan_ok=True)
    assert all(isinstance(value, float) for value in found.values())


def test_more_images_than_a_chunk() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(37, 3, 2, 2)).astype(np.float32)
    masks = generator.integers(0, 3, (37, 2, 2), dtype=np.uint8)
    assert task_of(3).evaluate(logits, split_of(masks)) == pytest.approx(naive(logits, masks), rel=1e-9)


def test_by_hand() -> None:
    """Class 0: 1 of 2 found; class 1: 1 right, 1 too many; class 2: neither there nor seen; a void pixel."""
    masks = np.array([[[0, 0, 1, VOID]]], dtype=np.uint8)
    predicted = np.array([0, 1, 1, 2])
    logits = np.full((1, 3, 1, 4), -np.log(2), dtype=np.float32)
    logits[0, predicted, 0, np.arange(4)] = 0.0  # probabilities 1/2, 1/4, 1/4
    metrics = task_of(3).evaluate(logits, split_of(masks))
    assert metrics["iou_c0"] == metrics["iou_c1"] == 0.5
    assert math.isnan(metrics["iou_c2"])
    assert metrics["miou"] == 0.5  # it is left out here
    assert metrics["pixel_accuracy"] == pytest.approx(2 / 3)
    assert metrics["cross_entropy"] == pytest.approx((2 * math.log(2) + math.log(4)) / 3, rel=1e-6)


def test_a_class_that_is_predicted_but_not_there_counts() -> None:
    logits = np.array([[[[0.0, 5.0]], [[1.0, 0.0]]]], dtype=np.float32)
    metrics = task_of(2).evaluate(logits, split_of(np.zeros((1, 1, 2), dtype=np.uint8)))
    assert math.isnan(metrics["iou_c1"])  # 0 or 1 would be chance
    assert metrics["miou"] == 0.25


def test_void_pixels_change_nothing() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(2, 4, 3, 3)).astype(np.float32)
    masks = generator.integers(0, 4, (2, 3, 3), dtype=np.uint8)
    masks[:, 1] = VOID
    before = task_of(4).evaluate(logits, split_of(masks))
    logits[:, :, 1] = generator.normal(size=(2, 4, 3)) * 50
    assert task_of(4).evaluate(logits, split_of(masks)) == before


def test_perfect_and_diverged_networks() -> None:
    masks = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    logits = np.where(masks[:, None] == np.arange(4)[:, None, None], 1e30, -1e30).astype(np.float32)
    metrics = task_of(4).evaluate(logits, split_of(masks))
    assert metrics["miou"] == metrics["pixel_accuracy"] == 1.0
    assert metrics["cross_entropy"] == 0.0
    assert 1e30 < task_of(4).evaluate(-logits, split_of(masks))["cross_entropy"] < math.inf


@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (2, 4, 4, 5), (3, 3, 4, 5), (2, 3, 4), (2, 3, 4, 5, 1)])
def test_shapes_that_do_not_belong_together(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="don't belong to masks"):
        score(np.zeros(shape, dtype=np.float32), np.zeros((2, 4, 5), dtype=np.uint8), 3)


def test_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="every pixel is void"):
        score(np.zeros((1, 2, 3, 3), dtype=np.float32), np.full((1, 3, 3), VOID, dtype=np.uint8), 2)
