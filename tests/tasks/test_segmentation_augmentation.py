"""Random changes to images and masks, against loops over pixels that know the draws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qanas.tasks.augmentation import Placement
from qanas.tasks.segmentation import Segmentation
from qanas.tasks.segmentation.files import VOID
from qanas.tasks.segmentation.images import Augmentation, place

EVERYTHING = Augmentation((0.5, 2.0), 0.5, 0.3, 0.3, 0.3)


def batch(count: int = 6, size: tuple[int, int] = (8, 10), seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randint(0, 5, (count, *size), generator=generator).to(torch.uint8)
    masks[:, 0, 0] = VOID
    return torch.randn(count, 3, *size, generator=generator), masks


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def source(position: int, size: int, scale: float, shift: float, sign: float) -> float:
    """Return where an output pixel's centre lies on the input, in pixels."""
    centred = (2 * position + 1) / size - 1
    return ((centred * sign / scale + shift + 1) * size - 1) / 2


def naive_place(
    image: Tensor, mask: Tensor, scale: float, shift: tuple[float, float], sign: float
) -> tuple[Tensor, Tensor]:
    """Resample one sample, a pixel at a time."""
    height, width = mask.shape
    moved, labels = torch.zeros_like(image), torch.full_like(mask, VOID)
    for row, column in np.ndindex(height, width):
        y, x = source(row, height, scale, shift[0], 1.0), source(column, width, scale, shift[1], sign)
        near = (round(y), round(x))
        if 0 <= near[0] < height and 0 <= near[1] < width:
            labels[row, column] = mask[near]
        for i, j in np.ndindex(2, 2):
            v, u = math.floor(y) + i, math.floor(x) + j
            if 0 <= v < height and 0 <= u < width:
                moved[:, row, column] += (1 - abs(y - v)) * (1 - abs(x - u)) * image[:, v, u]
    return moved, labels


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    scale=st.floats(0.4, 3.0),
    shift=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    sign=st.sampled_from([-1.0, 1.0]),
)
def test_placement_is_what_loops_resample(
    size: tuple[int, int], scale: float, shift: tuple[float, float], sign: float
) -> None:
    images, masks = batch(1, size)
    placement = Placement(torch.tensor([scale]), torch.tensor([shift]), torch.tensor([sign]))
    moved, labels = place(images, masks, placement)
    expected, nearest = naive_place(images[0], masks[0], scale, shift, sign)
    torch.testing.assert_close(moved[0], expected, rtol=1e-3, atol=1e-3)
    rows = [source(row, size[0], scale, shift[0], 1.0) for row in range(size[0])]
    columns = [source(column, size[1], scale, shift[1], sign) for column in range(size[1])]
    # A position half way between two pixels has two nearest ones.
    clear = torch.tensor([[all(abs(p % 1 - 0.5) > 1e-4 for p in (y, x)) for x in columns] for y in rows])
    assert torch.equal(labels[0][clear], nearest[clear])


def test_a_mirror_is_a_mirror() -> None:
    images, masks = batch()
    mirrored, labels = Augmentation(mirror=1.0)(images, masks, seeded(0))
    torch.testing.assert_close(mirrored, images.flip(3), rtol=0, atol=1e-5)
    assert torch.equal(labels, masks.flip(2))
    assert labels.dtype == masks.dtype


def test_doubled_and_halved() -> None:
    images, masks = batch(64)
    _, near = Augmentation((2.0, 2.0))(images, masks, seeded(1))
    for before, after in zip(masks, near, strict=True):
        assert set(after.unique().tolist()) <= set(before.unique().tolist())  # the window stays within the image
    _, far = Augmentation((0.5, 0.5))(images, torch.zeros_like(masks), seeded(1))
    inside = (far == 0).sum((1, 2))
    assert inside.min() >= 4 * 5  # the image stays within the window
    assert inside.max() <= 5 * 6
    assert ((far == 0) | (far == VOID)).all()


def test_nothing_asked_nothing_changed() -> None:
    images, masks = batch()
    same, labels = Augmentation()(images, masks, seeded(0))
    assert same is images
    assert labels is masks


def test_what_comes_in_stays_as_it_is() -> None:
    images, masks = batch()
    copies = images.clone(), masks.clone()
    changed, labels = EVERYTHING(images, masks, seeded(0))
    assert torch.equal(images, copies[0])
    assert torch.equal(masks, copies[1])
    assert not torch.equal(changed, images)
    assert not torch.equal(labels, masks)


def test_same_seed_same_batch() -> None:
    images, masks = batch()
    first, second, other = (EVERYTHING(images, masks, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("augmentation", [EVERYTHING, Augmentation(), Augmentation(contrast=0.5)])
def test_every_setting_takes_as_many_draws(augmentation: Augmentation) -> None:
    images, masks = batch()
    used, expected = seeded(5), seeded(5)
    augmentation(images, masks, used)
    torch.rand((7, len(images)), generator=expected)
    assert torch.equal(used.get_state(), expected.get_state())


def test_colours_by_hand() -> None:
    images, masks = batch(200)
    brighter = Augmentation(brightness=0.3)(images, masks, seeded(0))[0] - images
    offsets = brighter.mean((1, 2, 3))
    torch.testing.assert_close(brighter, offsets[:, None, None, None].expand_as(brighter), rtol=0, atol=1e-5)
    assert -0.3 <= offsets.min() < -0.2
    assert 0.2 < offsets.max() <= 0.3
    harder = Augmentation(contrast=0.5)(images, masks, seeded(0))[0] / images
    factors = harder.flatten(1).median(1).values
    assert 0.5 <= factors.min() < 0.6
    assert 1.4 < factors.max() <= 1.5
    paler = Augmentation(saturation=1.0)(images, masks, seeded(0))[0]
    torch.testing.assert_close(paler.mean(1), images.mean(1), rtol=0, atol=1e-5)  # grey stays
    spread = paler.std((1, 2, 3)) / images.std((1, 2, 3))
    assert spread.min() < 0.7
    assert spread.max() > 1.4


@settings(deadline=None, max_examples=30, derandomize=True)
@given(low=st.floats(0.3, 1.0), high=st.floats(1.0, 3.0), seed=st.integers(0, 99))
def test_scales_and_places_are_spread_over_their_ranges(low: float, high: float, seed: int) -> None:
    placement = Augmentation((low, high), 0.5)._place(torch.rand((4, 500), generator=seeded(seed)))
    assert placement.scale.min() >= low * (1 - 1e-5)
    assert placement.scale.max() <= high * (1 + 1e-5)
    logs = placement.scale.log()
    assert logs.mean().item() == pytest.approx((math.log(low) + math.log(high)) / 2, abs=0.15)
    room = (1 - 1 / placement.scale).abs()
    assert (placement.shift.abs() <= room[:, None] + 1e-6).all()
    assert 0.4 < (placement.mirrored < 0).float().mean() < 0.6
    assert set(placement.mirrored.tolist()) == {-1.0, 1.0}


def test_the_tasks_hook_uses_its_settings() -> None:
    images, masks = batch()
    settings_of = {"min_scale": 0.5, "max_scale": 2.0, "mirror": 0.5, "brightness": 0.3, "contrast": 0.3}
    task = Segmentation("synthetic", **settings_of, saturation=0.3)  # type: ignore[arg-type]
    found, expected = task.augment(images, masks, seeded(2)), EVERYTHING(images, masks, seeded(2))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    still = Segmentation("synthetic", min_scale=1, max_scale=1, mirror=0, brightness=0, contrast=0, saturation=0)
    assert still.augment(images, masks, seeded(2))[0] is images
