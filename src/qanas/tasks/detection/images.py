"""Pictures as a detector is given them, and random changes to them that take their boxes along."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.tasks.augmentation import Augmentation as PictureAugmentation
from qanas.tasks.augmentation import moved, placement_grid
from qanas.tasks.base import FloatArray
from qanas.tasks.detection.boxes import AREA, IGNORED, KIND, NOTHING, OBJECT, Fitting, letterboxed
from qanas.tasks.pictures import Images, Size, open_picture, resized, standardise


@dataclass(frozen=True)
class Look:
    """How a picture is brought to a network.

    Attributes:
        size: height and width of the input.
        fit: "stretch": the picture fills it; "letterbox": it keeps its proportions, around it are the mean colours.
        means: of the channels; none yet: colours are as they are.
        deviations: likewise.
    """

    size: Size
    fit: Fitting
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()

    def colours_of(self, path: Path) -> Images:
        """Return a picture's red, green and blue, or deep values, without what is around it, shape (3, h, w).

        Raises:
            InputError: it is damaged.
        """
        image, *_ = open_picture(path, None)
        size = self.size if self.fit == "stretch" else letterboxed(self.size, (image.height, image.width))
        return resized(path, image, size)

    def input_of(self, path: Path) -> FloatArray:
        """Return a picture as the network sees it, shape (3, height, width).

        Raises:
            InputError: it is damaged.
        """
        values = self.colours_of(path)
        inner: FloatArray = standardise(values[None], np.array(self.means), np.array(self.deviations))[0]
        if inner.shape[1:] == self.size:
            return inner
        around = np.zeros((3, *self.size), np.float32)
        top, left = ((side - own) // 2 for side, own in zip(self.size, inner.shape[1:], strict=True))
        around[:, top : top + inner.shape[1], left : left + inner.shape[2]] = inner
        return around

    def standardising(self, means: NDArray[np.float64], deviations: NDArray[np.float64]) -> Look:
        """Return the same with constants, each of shape (channels,)."""
        return replace(self, means=tuple(means.tolist()), deviations=tuple(deviations.tolist()))


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
        scale = torch.minimum(size[1] / wide, size[0] / high)
        own = torch.stack([(wide * scale).round().clamp(min=1), (high * scale).round().clamp(min=1)], 1)
        whole = torch.tensor([size[1], size[0]], device=targets.device)
        offset = ((whole - own) / 2).floor() / whole
        factor = own / whole / torch.stack([wide, high], 1)
    corners = targets[:, :, :4] * factor.repeat(1, 2)[:, None] + offset.repeat(1, 2)[:, None]
    return torch.cat([corners, targets[:, :, 4:]], 2)


LEAST_VISIBLE = 0.3
"""The share of an object that has to be left in a crop; what is left of it with less is ignored."""


@dataclass(frozen=True)
class Augmentation(PictureAugmentation):
    """Random changes to pictures together with their boxes: crop, expand, mirror, colours."""

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # boxes go with them
        """Return a changed batch; what comes in stays as it is.

        Args:
            images: standardised, shape (batch, 3, height, width); around them is 0, the mean colour.
            targets: boxes in shares of the input, shape (batch, rows, 7).
            generator: on the CPU; the same number of draws is taken whatever the settings are.

        Returns:
            Images, and targets in pixels of them, see `qanas.tasks.detection.boxes`.
        """
        height, width = images.shape[2:]
        images, placement = self.drawn(images, generator)
        if placement is None:
            return images, _in_pixels(targets, (height, width))
        # A pixel at p of the output shows what is at zoom * mirrored * p + shift, from -1 to 1 on either side.
        zoom = torch.stack([placement.mirrored, torch.ones_like(placement.mirrored)], 1) / placement.scale[:, None]
        shift = placement.shift.flip(1)
        pairs = targets[:, :, :4].reshape(*targets.shape[:2], 2, 2) * 2 - 1
        away = ((pairs - shift[:, None, None]) / zoom[:, None, None] + 1) / 2
        low, high = away.min(2).values, away.max(2).values
        inside = torch.cat([low.clamp(0, 1), high.clamp(0, 1)], 2)
        visible = (inside[..., 2:] - inside[..., :2]).prod(2) / (high - low).prod(2).clamp(min=1e-9)
        kinds = targets[:, :, KIND]
        left = torch.where(visible >= LEAST_VISIBLE, kinds, torch.full_like(kinds, IGNORED))
        left = torch.where(visible > 0, left, torch.full_like(kinds, NOTHING))
        kinds = torch.where((kinds == OBJECT) | (kinds == IGNORED), left, kinds)
        changed = torch.cat([inside, targets[:, :, 4:KIND], kinds[..., None], targets[:, :, KIND + 1 :]], 2)
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
