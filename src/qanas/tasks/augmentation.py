"""Random changes to a batch of pictures while training: scale, place, mirror, colours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor


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

    A scale below 1 leaves room around the image: the mean colour (in masks: void). Colours are changed in standardised
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

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed images, of the same shape; what comes in stays as it is.

        Args:
            images: standardised, shape (batch, channels, height, width).
            generator: on the CPU; the same number of draws is taken whatever the settings are.
        """
        images, placement = self.drawn(images, generator)
        return images if placement is None else moved(images, placement_grid(images, placement))

    def drawn(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Placement | None]:
        """Return images in other colours, and where they are to be placed; None: where they are.

        Args:
            images: standardised, shape (batch, channels, height, width).
            generator: likewise.
        """
        draws = torch.rand((7, len(images)), generator=generator).to(images.device)
        images = self._recolour(images, 2 * draws[:3] - 1)
        return images, self._place(draws[3:]) if self._moves else None

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


def placement_grid(images: Tensor, placement: Placement) -> Tensor:
    """Return where every pixel of the placed batch is looked up, shape (batch, height, width, 2).

    Args:
        images: shape (batch, channels, height, width).
        placement: of each sample.
    """
    zoom = 1 / placement.scale
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = zoom * placement.mirrored
    theta[:, 1, 1] = zoom
    theta[:, 0, 2] = placement.shift[:, 1]
    theta[:, 1, 2] = placement.shift[:, 0]
    return F.affine_grid(theta, list(images.shape), align_corners=False)


def moved(images: Tensor, grid: Tensor) -> Tensor:
    """Resample a batch bilinearly; around images is 0.

    Args:
        images: shape (batch, channels, height, width).
        grid: as `placement_grid` returns it.
    """
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
