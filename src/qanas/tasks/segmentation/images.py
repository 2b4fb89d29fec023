"""Colours to network inputs and back, and random changes to a batch of images and masks while training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from numpy.typing import NDArray
from torch import Tensor

from qanas.tasks.base import FloatArray
from qanas.tasks.segmentation.files import VOID, Bytes

Images = Bytes | NDArray[np.float32]


def channel_statistics(images: Images) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each channel's mean and standard deviation over all pixels, both of shape (3,).

    A channel that is constant has the deviation 1.

    Args:
        images: 0 to 255, or deep values, shape (n, 3, height, width).
    """
    if images.dtype != np.uint8:
        means = images.mean(axis=(0, 2, 3), dtype=np.float64)
        deviations = images.std(axis=(0, 2, 3), dtype=np.float64)
        return means, np.where(np.ptp(images, axis=(0, 2, 3)) > 0, deviations, 1.0)
    values = np.arange(256)
    counts = np.stack([np.bincount(images[:, channel].reshape(-1), minlength=256) for channel in range(3)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    means = shares @ values
    deviations = np.sqrt((shares * (values - means[:, None]) ** 2).sum(axis=1))
    return means, np.where(deviations > 0, deviations, 1.0)


def standardise(images: Images, means: NDArray[np.float64], deviations: NDArray[np.float64]) -> FloatArray:
    """Return ``(value - mean) / deviation`` of each channel, in single precision, shape (n, 3, height, width)."""
    offsets, factors = means.astype(np.float32), (1.0 / deviations).astype(np.float32)
    standardised: FloatArray = images.astype(np.float32)
    standardised -= offsets[:, None, None]
    standardised *= factors[:, None, None]
    return standardised


def colours(
    inputs: FloatArray, means: Sequence[float], deviations: Sequence[float], span: tuple[float, float] = (0.0, 255.0)
) -> Bytes:
    """Return the images, 0 to 255, that `standardise` made these inputs of; shape (n, 3, height, width).

    Args:
        inputs: shape (n, 3, height, width).
        means: of the channels.
        deviations: of the channels.
        span: the values that are shown as 0 and 255.
    """
    mean, deviation = (np.asarray(values, dtype=np.float32)[:, None, None] for values in (means, deviations))
    values = inputs * deviation + mean
    if span != (0.0, 255.0):
        values = (values - np.float32(span[0])) * np.float32(255.0 / max(span[1] - span[0], 1e-12))
    images: Bytes = values.round().clip(0, 255).astype(np.uint8)
    return images


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
class Placement:
    """Where each sample's output window lies on its input.

    Attributes:
        scale: how much larger the image becomes, shape (batch,).
        shift: of the window's centre, down and to the right, as shares of half the image, shape (batch, 2).
        mirrored: -1 for samples seen in a mirror, else 1, shape (batch,).
    """

    scale: Tensor
    shift: Tensor
    mirrored: Tensor


@dataclass(frozen=True)
class Augmentation:
    """Random scale with a random window of the original size, mirror, and colours.

    A scale below 1 leaves room around the image: void, in the mean colour. Colours are changed in standardised
    units, so that nothing is clipped: all channels times a contrast, plus a brightness in units of the deviation,
    and each pixel's distance from its own grey times a saturation.

    Attributes:
        scales: smallest and largest factor; logarithms are drawn uniformly. (1, 1) leaves the geometry alone.
        mirror: the share of samples that are mirrored left to right.
        brightness: largest offset, in standard deviations.
        contrast: largest deviation of the contrast from 1.
        saturation: largest deviation of the saturation from 1.
    """

    scales: tuple[float, float] = (1.0, 1.0)
    mirror: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __call__(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a changed batch; what comes in stays as it is.

        Args:
            images: standardised, shape (batch, 3, height, width).
            masks: classes or `VOID`, shape (batch, height, width), of integers.
            generator: on the CPU; the same number of draws is taken whatever the settings are.
        """
        batch = len(images)
        draws = torch.rand((7, batch), generator=generator).to(images.device)
        images = self._recolour(images, 2 * draws[:3] - 1)
        placement = self._place(draws[3:])
        return place(images, masks, placement) if self._moves else (images, masks)

    @property
    def _moves(self) -> bool:
        return self.scales != (1.0, 1.0) or self.mirror > 0

    def _recolour(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change the colours; draws have shape (3, batch) and lie in [-1, 1)."""
        if not (self.brightness or self.contrast or self.saturation):
            return images
        spread = torch.tensor([self.brightness, self.contrast, self.saturation], device=images.device)
        brightness, contrast, saturation = (spread[:, None] * draws)[:, :, None, None, None]
        grey = images.mean(dim=1, keepdim=True)
        colourful = images + saturation * (images - grey)
        changed: Tensor = colourful * (1 + contrast) + brightness
        return changed

    def _place(self, draws: Tensor) -> Placement:
        """Draw the placements; draws have shape (4, batch) and lie in [0, 1)."""
        low, high = torch.tensor(self.scales, device=draws.device).log()
        scale = torch.exp(low + (high - low) * draws[0])
        # Larger than the window: it stays within the image. Smaller: the image stays within the window.
        room = (1 - 1 / scale).abs()
        shift = (2 * draws[1:3] - 1) * room
        return Placement(scale, shift.T, torch.where(draws[3] < self.mirror, -1.0, 1.0))


def place(images: Tensor, masks: Tensor, placement: Placement) -> tuple[Tensor, Tensor]:
    """Resample a batch at its placements: images bilinearly, masks from the nearest pixel.

    Args:
        images: shape (batch, channels, height, width); around them is 0.
        masks: shape (batch, height, width), of integers; around them is `VOID`.
        placement: of each sample.
    """
    zoom = 1 / placement.scale
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = zoom * placement.mirrored
    theta[:, 1, 1] = zoom
    theta[:, 0, 2] = placement.shift[:, 1]
    theta[:, 1, 2] = placement.shift[:, 0]
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    # What grid_sample puts around an image is 0: counted from VOID, that is VOID.
    distances = (masks.to(images.dtype) - VOID)[:, None]
    labels = F.grid_sample(distances, grid, mode="nearest", padding_mode="zeros", align_corners=False)[:, 0] + VOID
    return moved, labels.round().to(masks.dtype)
