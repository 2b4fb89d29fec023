"""What is written down of images and masks: how inputs come about, how numbers do, what a person should know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.base import Split
from qanas.tasks.segmentation.files import RESIZING, VOID, Frames
from qanas.tasks.segmentation.images import PIXEL_FEATURES, SURROUNDINGS
from qanas.tasks.segmentation.synthetic import SYNTHETIC

if TYPE_CHECKING:
    from qanas.tasks.segmentation.task import Segmentation


def preprocessing_notes(
    task: Segmentation, means: NDArray[np.float64], deviations: NDArray[np.float64], train: Frames
) -> dict[str, Any]:
    """Return all that it takes to compute a network's input from a picture.

    Args:
        task: with its settings.
        means: of the channels, shape (3,).
        deviations: likewise.
        train: says what values pictures have.
    """
    span = [float(train.images.min()), float(train.images.max())] if train.deep else [0, 255]
    values = f"as in the file, from {span[0]:g} to {span[1]:g} in training" if train.deep else "from 0 to 255"
    return {
        "height": task.height,
        "width": task.width,
        "channels": "the one value, three times" if train.deep else "red, green, blue",
        **({"values": span} if train.deep else {}),
        "means": means.tolist(),
        "deviations": deviations.tolist(),
        "resizing": RESIZING,
        "standardisation": f"(value - mean) / deviation, value {values}, constants of the channel",
        **_feature_notes(task),
        "classes": list(task.labels.names),
        "output": "a logit a class and pixel; the class of a pixel is that of its largest logit",
    }


def _feature_notes(task: Segmentation) -> dict[str, Any]:
    if task.features == "none":
        return {}
    return {
        "input_channels": list(PIXEL_FEATURES),
        "around": "the mean of the standardised colours over a square of 2 r + 1 pixels about the pixel, as far "
        f"as it lies within the image; r is the shorter side / {2 * SURROUNDINGS}, rounded down, at least 1",
        "row and column": "less the middle one, over the standard deviation of all rows or columns of the image",
    }


def protocol(task: Segmentation, splits: Mapping[str, Split], weights: Sequence[float] | None) -> dict[str, Any]:
    """Return how the numbers come about.

    Args:
        task: with its settings.
        splits: by name.
        weights: of the classes in the loss, where they don't all count alike.
    """
    names = {"camvid": "CamVid", "cityscapes": "Cityscapes", "folders": "images and masks of the user's"}
    synthetic = task.data == SYNTHETIC
    held_out = "the last tenth of the training cities by name" if task.dataset == "cityscapes" else "the val folder"
    return {
        "dataset": "synthetic street scenes in CamVid's classes" if synthetic else names[task.dataset],
        "source": "synthetic" if synthetic else "real",
        "size": [task.height, task.width],
        "classes": list(task.labels.names),
        "images": {name: len(split) for name, split in splits.items()},
        "val": held_out,
        "test": "the official val folder" if task.dataset == "cityscapes" else "the test folder",
        "masks": _masks_note(task),
        "miou": "over all pixels of a split that aren't void; classes neither there nor predicted are left out",
        **({"training_loss": task.training_loss} if task.training_loss else {}),
        **({"class_weights": list(weights)} if weights else {}),
        "augmentation": {
            "scales": [task.min_scale, task.max_scale],
            "mirror": task.mirror,
            "brightness": task.brightness,
            "contrast": task.contrast,
            "saturation": task.saturation,
        },
    }


def _masks_note(task: Segmentation) -> str:
    own = f"{task.height} x {task.width}"
    if task.scored_size == task.size:
        return f"resized to {own} as the images are; metrics are at that size"
    scored = " x ".join(map(str, task.scored_size))
    return (
        f"in training resized to {own} as the images are; in val and test to {scored}, and so are logits "
        "(bilinearly, pixel centres at halves); metrics are at that size"
    )


def remarks(frames: Mapping[str, Frames], classes: Sequence[str]) -> list[str]:
    """Return what a person should know of the images and masks that were read, a line each.

    Args:
        frames: by split.
        classes: their names.
    """
    lines = []
    for split, read in frames.items():
        counts = np.bincount(read.masks.reshape(-1), minlength=VOID + 1)
        shares = [f"{name} {count / read.masks.size:.1%}" for name, count in zip(classes, counts, strict=False)]
        void = f", void {counts[VOID] / read.masks.size:.1%}" if counts[VOID] else ""
        lines.append(f"{split}: {len(read.masks)} images; pixels: {', '.join(shares)}{void}")
        lacking = [name for name, count in zip(classes, counts, strict=False) if not count]
        if lacking:
            lines.append(f"{split} masks have no {', '.join(lacking)}: their IoU is not defined there")
    turned = sum(read.turned for read in frames.values())
    if turned:
        lines.append(f"{turned} images were turned upright, as their EXIF orientation says")
    halved = sum(read.halved for read in frames.values())
    if halved:
        lines.append(f"{halved} images have colours of 16 bits, of which the upper 8 are read")
    if frames["train"].deep:
        low, high = frames["train"].images.min(), frames["train"].images.max()
        lines.append(
            f"images have one deep value a pixel, {low:g} to {high:g} in training: read as it is, not as bytes"
        )
    return lines


def two_ways(frames: Mapping[str, Frames], name: str) -> tuple[str, ...]:
    """Say where some masks have the second class as 1 and others, so it seems, as 255."""
    masks = [mask for read in frames.values() for mask in read.masks]
    ones, voids = ([bool((mask == label).any()) for mask in masks] for label in (1, VOID))
    if any(one and void for one, void in zip(ones, voids, strict=True)):
        return ()
    said = (
        f"{sum(voids)} masks hold 0 and 255 alone, others 0 and 1: 255 is void; where '{name}' is meant, save it as 1"
    )
    return (said,)
