"""Losses over pixels against loops, and what weights and rare classes make of them."""

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from tests.tasks.test_segmentation_task import task_of
from torch import Tensor

from qanas.core.errors import InputError
from qanas.tasks.segmentation import Segmentation
from qanas.tasks.segmentation.files import VOID
from qanas.tasks.segmentation.losses import LossName, pixel_loss

KINDS: tuple[LossName, ...] = get_args(LossName)
CLASSES = 4
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 4.0], dtype=torch.float64)


def batch() -> tuple[Tensor, Tensor]:
    """Logits (3, 4, 5, 6) and classes (3, 5, 6), a fifth of them void, the last class rare."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(3, CLASSES, 5, 6, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.randint(0, CLASSES, (3, 5, 6), generator=generator).to(torch.uint8)
    targets[torch.rand(3, 5, 6, generator=generator) < 0.2] = VOID
    return outputs, targets


def cross_entropies(outputs: Tensor, targets: Tensor) -> list[tuple[int, float]]:
    """The class and the cross-entropy of every pixel that counts."""
    pixels = []
    for n, row, column in np.ndindex(3, 5, 6):
        target = int(targets[n, row, column])
        if target != VOID:
            values = outputs[n, :, row, column].tolist()
            pixels.append((target, math.log(sum(math.exp(v) for v in values)) - values[target]))
    return pixels


def test_losses_by_pixel_against_loops() -> None:
    outputs, targets = batch()
    pixels = cross_entropies(outputs, targets)
    weighed = sum(WEIGHTS[label].item() for label, _ in pixels)

    def loss(kind: LossName, weights: Tensor | None = None) -> float:
        return pixel_loss(kind, outputs, targets, weights).item()

    assert loss("cross_entropy") == pytest.approx(sum(loss for _, loss in pixels) / len(pixels))
    expected = sum(WEIGHTS[label].item() * loss for label, loss in pixels) / weighed
    assert loss("cross_entropy", WEIGHTS) == pytest.approx(expected)
    hardest = sorted((loss for _, loss in pixels), reverse=True)[: int(len(pixels) * 0.25)]
    assert loss("hard_cross_entropy") == pytest.approx(sum(hardest) / len(hardest))
    focal = sum(WEIGHTS[label].item() * (1 - math.exp(-loss)) ** 2 * loss for label, loss in pixels) / weighed
    assert loss("focal", WEIGHTS) == pytest.approx(focal)


def test_of_certain_answers_overlap_losses_are_what_metrics_say() -> None:
    outputs, targets = batch()
    answers = outputs.detach().argmax(1)
    certain = 1e3 * torch.nn.functional.one_hot(answers, CLASSES).movedim(-1, 1).double()
    targets[targets == 2] = VOID  # a class that the batch lacks doesn't count, however often it is answered
    counted = targets != VOID
    dice, jaccard = [], []
    for label in (0, 1, 3):
        true, found = targets[counted] == label, answers[counted] == label
        both = float((true & found).sum())
        dice.append(1 - 2 * both / float(true.sum() + found.sum()))
        jaccard.append(1 - both / float((true | found).sum()))
    assert pixel_loss("dice", certain, targets, None).item() == pytest.approx(np.mean(dice))
    assert pixel_loss("lovasz", certain, targets, None).item() == pytest.approx(np.mean(jaccard))
    weights = [1.0, 2.0, 4.0]
    assert pixel_loss("lovasz", certain, targets, WEIGHTS).item() == pytest.approx(np.average(jaccard, weights=weights))


@pytest.mark.parametrize("kind", KINDS)
def test_void_teaches_nothing_and_the_rest_does(kind: LossName) -> None:
    outputs, targets = batch()
    (gradient,) = torch.autograd.grad(pixel_loss(kind, outputs, targets, WEIGHTS), outputs)
    assert (gradient[0, :, targets[0] == VOID] == 0).all()
    assert gradient.abs().sum() > 0
    loss = pixel_loss(kind, outputs, torch.full_like(targets, VOID), None)
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert loss.item() == 0
    assert (gradient == 0).all()


def test_a_task_has_the_loss_and_the_weights_that_it_names(scenes: Path) -> None:
    plain = task_of(scenes)
    assert plain.losses == ("cross_entropy", "hard_cross_entropy")
    balanced = task_of(scenes, class_weights="balanced", training_loss="dice")
    assert balanced.losses == ("dice",)
    data = balanced.load()
    shares = (
        np.bincount(data.train.targets[data.train.targets != VOID], minlength=3) / (data.train.targets != VOID).sum()
    )
    assert data.protocol["class_weights"] == pytest.approx((1 / (3 * shares)).tolist())
    assert data.protocol["training_loss"] == "dice"
    smaller = balanced.with_input({"height": 8})
    assert smaller.load().protocol["class_weights"] == data.protocol["class_weights"]
    assert balanced.with_input({}) is balanced
    outputs = torch.randn(4, 3, 12, 16)
    targets = torch.from_numpy(data.train.targets)
    heavy = task_of(scenes, class_weights=(0.0, 0.0, 1.0))
    only = torch.where(targets == 2, targets, VOID)
    assert torch.isclose(
        heavy.loss("cross_entropy", outputs, targets), plain.loss("cross_entropy", outputs, only), atol=1e-6
    )
    with pytest.raises(InputError, match="unknown loss 'cross_entrpy': did you mean 'cross_entropy'"):
        plain.loss("cross_entrpy", outputs, targets)
    with pytest.raises(InputError, match=r"task.class_weights: 2 numbers for 3 classes; give one a class"):
        task_of(scenes, class_weights=(1.0, 2.0)).load()
    with pytest.raises(InputError, match=r"task.class_weights: all are 0"):
        Segmentation(str(scenes), dataset="folders", classes=("a", "b"), class_weights=(0.0, 0.0)).fingerprint()
