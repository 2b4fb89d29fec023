"""What is written down of images and masks: how inputs come about, how numbers do, what a person should know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.frames import CUT
from qanas.tasks.pictures import Size
from qanas.tasks.samples import Split
from qanas.tasks.segmentation.files import VOID
from qanas.tasks.segmentation.images import PIXEL_FEATURES, SURROUNDINGS, Augmentation
from qanas.tasks.segmentation.layouts import Division
from qanas.tasks.segmentation.reader import RESIZING, Read


def preprocessing_notes(
    size: Size,
    classes: Sequence[str],
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
    train: Read,
    *,
    cut: bool,
) -> dict[str, Any]:
    """Return all that it takes to compute a network's input, the colours, from a picture.

    Args:
        size: height and width that the network sees.
        classes: their names.
        means: of the channels, shape (3,).
        deviations: likewise.
        train: says what values pictures have.
        cut: whether a camera saw a part of them.
    """
    span = [float(train.images.min()), float(train.images.max())] if train.deep else [0, 255]
    values = f"as in the file, from {span[0]:g} to {span[1]:g} in training" if train.deep else "from 0 to 255"
    return {
        "height": size[0],
        "width": size[1],
        "channels": "the one value, three times" if train.deep else "red, green, blue",
        **({"values": span} if train.deep else {}),
        **({"pictures": f"{CUT}; masks are of the same part"} if cut else {}),
        "means": means.tolist(),
        "deviations": deviations.tolist(),
        "resizing": RESIZING,
        "standardisation": f"(value - mean) / deviation, value {values}, constants of the channel",
        "classes": list(classes),
        "output": "a logit a class and pixel; the class of a pixel is that of its largest logit",
    }


def feature_notes() -> dict[str, Any]:
    """Return what it takes besides where each pixel's surroundings and place are input, too."""
    return {
        "input_channels": list(PIXEL_FEATURES),
        "around": "the mean of the standardised colours over a square of 2 r + 1 pixels about the pixel, as far "
        f"as it lies within the image; r is the shorter side / {2 * SURROUNDINGS}, rounded down, at least 1",
        "row and column": "less the middle one, over the standard deviation of all rows or columns of the image",
    }


def source_notes(dataset: str, synthetic: bool, division: Division) -> dict[str, str]:
    """Return where images come from, and which of them are held out.

    Args:
        dataset: its name.
        synthetic: whether they are generated ones in its layout.
        division: of a user's folders where nobody tells splits.
    """
    names = {"camvid": "CamVid", "cityscapes": "Cityscapes", "folders": "images and masks of the user's"}
    held_out = "the last tenth of the training cities by name" if dataset == "cityscapes" else "the val folder"
    folders = {"val": held_out, "test": "the official val folder" if dataset == "cityscapes" else "the test folder"}
    if dataset == "folders":
        cut = "of the images where there is none, equal ones together"
        folders["val"] += f"; {division.val_fraction:g} {cut}"
        folders["test"] += f"; {division.test_fraction:g} {cut}; split_seed {division.split_seed}"
        if division.group_pattern is not None:
            folders["groups"] = f"by {division.group_pattern} of an image's name, whole"
    return {
        "dataset": "synthetic street scenes in CamVid's classes" if synthetic else names[dataset],
        "source": "synthetic" if synthetic else "real",
        **folders,
    }


def scoring_notes(
    sizes: tuple[Size, Size], classes: Sequence[str], splits: Mapping[str, Split], augmentation: Augmentation
) -> dict[str, Any]:
    """Return how scores come about.

    Args:
        sizes: of what the network sees, and of the masks of val and test.
        classes: their names.
        splits: by name.
        augmentation: in training.
    """
    size, scored = sizes
    return {
        "size": list(size),
        "classes": list(classes),
        "images": {name: len(split) for name, split in splits.items()},
        "masks": _masks_note(size, scored),
        "miou": "over all pixels of a split that aren't void; classes neither there nor predicted are left out",
        "augmentation": {**asdict(augmentation), "scales": list(augmentation.scales)},
    }


def _masks_note(size: Size, scored: Size) -> str:
    own, other = (" x ".join(map(str, sides)) for sides in (size, scored))
    if scored == size:
        return f"resized to {own} as the images are; metrics are at that size"
    return (
        f"in training resized to {own} as the images are; in val and test to {other}, and so are logits "
        "(bilinearly, pixel centres at halves); metrics are at that size"
    )


def remarks(frames: Mapping[str, Read], classes: Sequence[str]) -> list[str]:
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
