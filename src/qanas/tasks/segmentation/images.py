"""Features of pixels, and random changes to a batch of images and masks while training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.tasks.augmentation import Augmentation as PictureAugmentation
from qanas.tasks.augmentation import Placement, moved, placement_grid
from qanas.tasks.samples import FloatArray
from qanas.tasks.segmentation.files import VOID

SURROUNDINGS = 8
"""A pixel's surroundings are a square whose side is this part of the image's shorter one."""

PIXEL_FEATURES = ("red", "green", "blue", "mean red around", "mean green around", "mean blue around", "row", "column")


def pixel_features(inputs: FloatArray) -> FloatArray:
    """Return what a person would tell a pixel's class by, shape (n, 8, height, width): see `PIXEL_FEATURES`.

    Its colours, their mean over its surroundings as far as these lie within the image, and where it is: row and column
    have mean 0 and deviation 1 over the image, as colours have.

    Args:
        inputs: standardised colours, shape (n, 3, height, width).
    """
    count, _, height, width = inputs.shape
    reach = max(1, min(height, width) // SURROUNDINGS // 2)
    features = np.empty((count, len(PIXEL_FEATURES), height, width), np.float32)
    features[:, :3] = inputs
    for image, around in zip(torch.from_numpy(inputs), torch.from_numpy(features[:, 3:6]), strict=True):
        around.copy_(F.avg_pool2d(image, 2 * reach + 1, 1, reach, count_include_pad=False))
    for axis, size in ((2, height), (3, width)):
        places = np.arange(size, dtype=np.float32) - (size - 1) / 2
        shape = [-1 if dimension == axis else 1 for dimension in range(1, 4)]
        features[:, 4 + axis] = (places / max(places.std(), 1e-6)).reshape(shape[1:])
    return features


@dataclass(frozen=True)
class Augmentation(PictureAugmentation):
    """Random changes to pictures together with their masks."""

    def __call__(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # masks go with them
        """Return a changed batch; what comes in stays as it is.

        Args:
            images: standardised, shape (batch, 3, height, width).
            masks: classes or `VOID`, shape (batch, height, width), of integers.
            generator: on the CPU; the same number of draws is taken whatever the settings are.
        """
        images, placement = self.drawn(images, generator)
        return (images, masks) if placement is None else place(images, masks, placement)


def place(images: Tensor, masks: Tensor, placement: Placement) -> tuple[Tensor, Tensor]:
    """Resample a batch at its placements: images bilinearly, masks from the nearest pixel.

    Args:
        images: shape (batch, channels, height, width); around them is 0.
        masks: shape (batch, height, width), of integers; around them is `VOID`.
        placement: of each sample.
    """
    grid = placement_grid(images, placement)
    # What grid_sample puts around an image is 0: counted from VOID, that is VOID.
    distances = (masks.to(images.dtype) - VOID)[:, None]
    labels = F.grid_sample(distances, grid, mode="nearest", padding_mode="zeros", align_corners=False)[:, 0] + VOID
    return moved(images, grid), labels.round().to(masks.dtype)
