"""Pictures as a detector is given them, and random changes to them that take their boxes along."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.tasks.augmentation import Augmentation as PictureAugmentation
from qanas.tasks.augmentation import moved, placement_grid
from qanas.tasks.detection.boxes import AREA, IGNORED, LEAST_VISIBLE, Fitting, cut, letterboxed
from qanas.tasks.detection.mosaic import in_mosaics
from qanas.tasks.detection.reader import Annotated, Box
from qanas.tasks.frames import Camera
from qanas.tasks.picture_front_end import in_middle
from qanas.tasks.pictures import Images, Size, open_picture, resized, standardise
from qanas.tasks.samples import FloatArray


@dataclass(frozen=True)
class Look:
    """How a picture is brought to a network.

    Attributes:
        size: height and width of the input.
        fit: "stretch": the picture fills it; "letterbox": it keeps its proportions, around it are the mean colours.
        means: of the channels; none yet: colours are as they are.
        deviations: likewise.
        camera: what pictures are brought to before, as it would see them.
    """

    size: Size
    fit: Fitting
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    camera: Camera = field(default_factory=Camera)

    def inner(self, picture: Size) -> Size:
        """Return the height and width of a picture, which has these, in the input."""
        return self.size if self.fit == "stretch" else letterboxed(self.size, picture)

    def colours_of(self, path: Path) -> Images:
        """Return a picture's red, green and blue, or deep values, without what is around it, shape (3, h, w).

        Raises:
            InputError: it is damaged.
        """
        image = self.camera.seen(path, open_picture(path)[0])
        return resized(path, image, self.inner((image.height, image.width)))

    def input_of(self, path: Path) -> FloatArray:
        """Return a picture as the network sees it, shape (3, height, width).

        Raises:
            InputError: it is damaged.
        """
        values = self.colours_of(path)
        inner: FloatArray = standardise(values[None], np.array(self.means), np.array(self.deviations))[0]
        return in_middle(inner, self.size)

    def standardising(self, means: NDArray[np.float64], deviations: NDArray[np.float64]) -> Look:
        """Return the same with constants, each of shape (channels,)."""
        return replace(self, means=tuple(means.tolist()), deviations=tuple(deviations.tolist()))


def as_seen(sample: Annotated, frame: Size | None) -> Annotated:
    """Return a picture with its boxes as a camera sees it, see `Camera.seen`; the same where there is no frame.

    Args:
        sample: in pixels of the picture.
        frame: height and width of the camera's.
    """
    if frame is None or sample.size == frame:
        return sample
    height, width = frame
    top, left, high, _ = map(float, Camera(frame).part(sample.size))
    factor = height / high
    boxes = []
    for box in sample.boxes:
        corners = (np.array(box.corners) - (left, top, left, top)) * factor
        inside = corners.clip(0, (width, height, width, height))
        whole, kept = ((own[2] - own[0]) * (own[3] - own[1]) for own in (corners, inside))
        if kept > 0:
            a, b, c, d = inside.tolist()
            kind = box.kind if kept >= LEAST_VISIBLE * whole else IGNORED
            boxes.append(Box(box.label, (a, b, c, d), kind, float(box.area * factor**2 * kept / whole)))
    return replace(sample, size=frame, boxes=tuple(boxes))


def in_shares(targets: Tensor, size: Size, fit: Fitting) -> Tensor:
    """Return targets whose boxes are in shares of the input, shape (batch, rows, 7).

    Args:
        targets: in pixels of the picture, whose size is in the first row, shape (batch, rows, 7).
        size: height and width of the input.
        fit: how the picture lies in it.
    """
    wide, high = targets[:, 0, 2], targets[:, 0, 3]
    if fit == "stretch":
        offset, factor = torch.zeros(len(targets), 2, device=targets.device), torch.stack([1 / wide, 1 / high], 1)
    else:
        exact = torch.stack([wide, high], 1).double()  # to whole pixels as `letterboxed` does, ties included
        scale = torch.minimum(size[1] / exact[:, 0], size[0] / exact[:, 1])
        own = (exact * scale[:, None]).round().clamp(min=1).to(targets.dtype)
        whole = torch.tensor([size[1], size[0]], device=targets.device)
        offset = ((whole - own) / 2).floor() / whole
        factor = own / whole / torch.stack([wide, high], 1)
    corners = targets[:, :, :4] * factor.repeat(1, 2)[:, None] + offset.repeat(1, 2)[:, None]
    return torch.cat([corners, targets[:, :, 4:]], 2)


@dataclass(frozen=True)
class Augmentation(PictureAugmentation):
    """Random changes to pictures together with their boxes: crop, expand, mirror, colours; before all, mosaics.

    Attributes:
        mosaic: the share of the pictures that become four of the batch; at 0 nothing is drawn for it.
    """

    mosaic: float = 0.0

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # boxes go with them
        """Return a changed batch; what comes in stays as it is.

        Args:
            images: standardised, shape (batch, 3, height, width); around them is 0, the mean colour.
            targets: boxes in shares of the input, shape (batch, rows, 7).
            generator: on the CPU; the same number of draws is taken whatever the settings are, but for mosaics.

        Returns:
            Images, and targets in pixels of them, see `qanas.tasks.detection.boxes`.
        """
        height, width = images.shape[2:]
        if self.mosaic:
            images, targets = in_mosaics(images, targets, self.mosaic, generator)
        images, placement = self.drawn(images, generator)
        if placement is None:
            return images, _in_pixels(targets, (height, width))
        # A pixel at p of the output shows what is at zoom * mirrored * p + shift, from -1 to 1 on either side.
        zoom = torch.stack([placement.mirrored, torch.ones_like(placement.mirrored)], 1) / placement.scale[:, None]
        shift = placement.shift.flip(1)
        pairs = targets[:, :, :4].reshape(*targets.shape[:2], 2, 2) * 2 - 1
        away = ((pairs - shift[:, None, None]) / zoom[:, None, None] + 1) / 2
        low, high = away.min(2).values, away.max(2).values
        changed = cut(targets, torch.cat([low, high], 2), torch.tensor([0.0, 0.0, 1.0, 1.0], device=targets.device))
        return moved(images, placement_grid(images, placement)), _in_pixels(changed, (height, width))


def _in_pixels(targets: Tensor, size: tuple[int, int]) -> Tensor:
    """Return targets of pictures that are the inputs themselves, shape (batch, rows, 7), of such in shares."""
    height, width = size
    sides = torch.tensor([width, height, width, height], device=targets.device)
    corners = targets[:, :, :4] * sides
    found = torch.cat([corners, targets[:, :, 4:]], 2)
    found[:, :, AREA] = (corners[:, :, 2] - corners[:, :, 0]) * (corners[:, :, 3] - corners[:, :, 1])
    found[:, 0, :4] = torch.tensor([0, 0, width, height], device=targets.device)
    return found
