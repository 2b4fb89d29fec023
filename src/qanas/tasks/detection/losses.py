"""FastestDet's targets and loss (dog-qiuqiu/FastestDet, module/loss.py), its known faults left out.

An object belongs to the four cells around its centre. Of these, the ones whose box overlaps it more than is usual in
the batch learn it: overlap (SIoU, Gevorgyan 2022), objectness, which is to be the overlap, and class. All other cells
learn that there is nothing, but for those within what is ignored.

What differs from the original: both coordinates are held against their own side of the map, where it took the height
for both and lost the first row and column; a single class has no loss of classes, which was always 0; a batch without
objects has no mean overlap, which was NaN; where objects share a cell, the better overlap counts, not the later one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.tasks.detection.boxes import CLASS, IGNORED, KIND, OBJECT
from qanas.tasks.detection.decoding import BOX, CLASSES, OBJECTNESS

BOX_WEIGHT, OBJECTNESS_WEIGHT, CLASS_WEIGHT = 8.0, 16.0, 1.0
NEGATIVE, POSITIVE = 0.75, 0.25
"""How much cells without and with an object count in objectness: the former in all, the latter in all."""

_AROUND = ((0, 0), (1, 0), (0, 1), (1, 1))
_TINY = 1e-7


def detection_loss(parts: Mapping[str, Tensor], targets: Tensor) -> Tensor:
    """Return a batch's loss, a scalar.

    Args:
        parts: raw outputs by name, each of shape (batch, channels, h, w).
        targets: in shares of the input, left, top, right, bottom, class and kind: shape (batch, rows, 7).
    """
    logits = parts[OBJECTNESS][:, 0]
    batch, rows, columns = logits.shape
    sample, row, column, box, label = _candidates(targets, (rows, columns))
    overlap = torch.zeros_like(logits)
    chosen = torch.zeros_like(logits, dtype=torch.bool)
    box_loss = class_loss = logits.sum() * 0.0
    if len(sample):
        predicted = _boxes_of(parts[BOX], sample, row, column)
        plain, siou = _overlaps(predicted, box)
        kept = siou.detach() >= siou.detach().mean()
        box_loss = (1.0 - siou[kept]).mean()
        places = ((sample * rows + row) * columns + column)[kept]
        overlap = overlap.view(-1).scatter_reduce(0, places, plain.detach()[kept], "amax").view_as(overlap)
        chosen = chosen.view(-1).index_fill(0, places, value=True).view_as(chosen)
        if CLASSES in parts:
            told = parts[CLASSES][sample[kept], :, row[kept], column[kept]]
            class_loss = F.cross_entropy(told, label[kept])
    distances = F.smooth_l1_loss(logits.sigmoid(), overlap, reduction="none")
    positives = chosen.sum(dim=(1, 2), keepdim=True)
    weights = torch.where(chosen, POSITIVE * rows * columns / positives.clamp(min=1), NEGATIVE)
    weights = weights * (chosen | ~_ignored(targets, (rows, columns)))
    objectness = (weights * distances).sum() / (batch * rows * columns)
    return BOX_WEIGHT * box_loss + OBJECTNESS_WEIGHT * objectness + CLASS_WEIGHT * class_loss


def _candidates(targets: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the cells around the objects' centres: sample, row, column, box in shares (n, 4), and class, each (n,)."""
    rows, columns = size
    sample, place = torch.nonzero(targets[:, :, KIND] == OBJECT, as_tuple=True)
    objects = targets[sample, place]
    box, label = objects[:, :4], objects[:, CLASS].long()
    middle = (box[:, :2] + box[:, 2:]) / 2
    first = torch.stack([middle[:, 0] * columns, middle[:, 1] * rows], 1).floor().long()
    around = torch.tensor(_AROUND, device=targets.device)
    cells = first[:, None] + around[None]
    within = (cells >= 0).all(2) & (cells[..., 0] < columns) & (cells[..., 1] < rows)
    which, _ = torch.nonzero(within, as_tuple=True)
    column, row = cells[within].unbind(1)
    return sample[which], row, column, box[which], label[which]


def _boxes_of(numbers: Tensor, sample: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Return what some cells say, decoded: left, top, right, bottom in shares of the input, shape (n, 4)."""
    rows, columns = numbers.shape[2:]
    raw = numbers[sample, :, row, column]
    x = (raw[:, 0].tanh() + column) / columns
    y = (raw[:, 1].tanh() + row) / rows
    width, height = raw[:, 2].sigmoid() / 2, raw[:, 3].sigmoid() / 2
    return torch.stack([x - width, y - height, x + width, y + height], 1)


def _overlaps(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return intersection over union, and SIoU, of pairs, both of shape (n,), of boxes of shape (n, 4)."""
    low, high = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    size, other = boxes[:, 2:] - boxes[:, :2], others[:, 2:] - others[:, :2]
    plain = shared / (size.prod(1) + other.prod(1) - shared + _TINY)
    around = torch.maximum(boxes[:, 2:], others[:, 2:]) - torch.minimum(boxes[:, :2], others[:, :2]) + _TINY
    apart = (others[:, :2] + others[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2
    # sin(2 a) of the smaller angle a to an axis: 0 along it, 1 between both.
    squared = (apart.square().min(1).values / (apart.square().sum(1) + _TINY)).clamp(_TINY, 0.5)
    angle = 2 * (squared * (1 - squared)).sqrt()
    distance = (1 - torch.exp((angle[:, None] - 2) * (apart / around).square())).sum(1)
    omega = (size - other).abs() / torch.maximum(size, other).clamp(min=_TINY)
    shape = (1 - torch.exp(-omega)).pow(4).sum(1)
    return plain, plain - (distance + shape) / 2


def _ignored(targets: Tensor, size: tuple[int, int]) -> Tensor:
    """Return which cells have their centre in what is ignored, shape (batch, h, w)."""
    rows, columns = size
    x = ((torch.arange(columns, device=targets.device) + 0.5) / columns)[None, None, None]
    y = ((torch.arange(rows, device=targets.device) + 0.5) / rows)[None, None, :, None]
    left, top, right, bottom = (targets[:, :, at, None, None] for at in range(4))
    within = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    found: Tensor = (within & (targets[:, :, KIND] == IGNORED)[:, :, None, None]).any(1)
    return found
