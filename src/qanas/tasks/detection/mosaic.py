"""Mosaic (Bochkovskiy et al. 2020): four pictures of a batch in one, with their boxes.

Objects are smaller then, and beside what they never were beside.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.tasks.detection.boxes import cut

MEETING = (0.3, 0.7)
"""Where the four meet, from and to, as a share of either side."""


def in_mosaics(images: Tensor, targets: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a batch of which some pictures are four of the batch; what comes in stays as it is.

    Each of the four fills its part, whatever of it is in the middle is seen, in its own proportions.

    Args:
        images: standardised, shape (batch, 3, height, width).
        targets: boxes in shares of the input, shape (batch, rows, 7).
        share: of the pictures that become mosaics.
        generator: on the CPU.

    Returns:
        Images of the same shape, and targets of as many rows as four pictures have.
    """
    batch, _, height, width = images.shape
    draws = torch.rand((3, batch), generator=generator)
    others = torch.randint(batch, (batch, 3), generator=generator)
    low, high = MEETING
    down = ((low + (high - low) * draws[1]) * height).round().long().tolist()
    right = ((low + (high - low) * draws[2]) * width).round().long().tolist()
    made = images.clone()
    rows = targets.shape[1] - 1
    found = torch.cat([targets, targets.new_zeros(batch, 3 * rows, targets.shape[2])], 1)
    for at in torch.nonzero(draws[0] < share)[:, 0].tolist():
        y, x = down[at], right[at]
        parts = ((0, 0, y, x), (0, x, y, width), (y, 0, height, x), (y, x, height, width))
        for number, (source, part) in enumerate(zip([at, *others[at].tolist()], parts, strict=True)):
            top, left, bottom, end = part
            seen, own = _filling(images[source], targets[source, 1:], part)
            made[at, :, top:bottom, left:end] = seen
            found[at, 1 + number * rows : 1 + (number + 1) * rows] = own
    return made, found


def _filling(image: Tensor, rows: Tensor, part: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Return a picture that fills a part of the input, shape (3, bottom - top, end - left), and its boxes there.

    Args:
        image: shape (3, height, width).
        rows: boxes in shares of the input, shape (rows, 7).
        part: top, left, bottom and end in pixels.
    """
    height, width = image.shape[1:]
    top, left, bottom, end = part
    tall, wide = bottom - top, end - left
    scale = max(tall / height, wide / width)
    size = max(tall, round(scale * height)), max(wide, round(scale * width))
    small = F.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
    above, before = (size[0] - tall) // 2, (size[1] - wide) // 2
    sides = torch.tensor([width, height, width, height], device=rows.device)
    factors = torch.tensor([size[1], size[0], size[1], size[0]], device=rows.device)
    offsets = torch.tensor([left - before, top - above, left - before, top - above], device=rows.device)
    corners = (rows[:, :4] * factors + offsets) / sides
    bounds = torch.tensor([left, top, end, bottom], device=rows.device) / sides
    return small[:, above : above + tall, before : before + wide], cut(rows, corners, bounds)
