"""Pictures with what is true and what shipped models find in them: the FP32 network's boxes beside the INT8 model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from qanas.core.overlaps import overlaps
from qanas.core.run_folder import SEED_ID
from qanas.reporting.views.masks import Gallery, Picture, class_palette, css, model_column, png, shown_models
from qanas.reporting.wording import SPLITS

if TYPE_CHECKING:
    from qanas.core.card import SplitName
    from qanas.reporting.run_data import Predictions, RunData

_ARRAYS = ("box_pictures", "box_image", "box_true", "box_found", "box_float")
_LONGEST = 240
"""Pixels of a picture's longer side in the report."""

_RIGHT = 0.5
"""The overlap from which a box counts as right, in what stands below a picture."""

_OBJECT, _IGNORED = 1.0, 2.0
"""Kinds of true boxes, as the task writes them."""

_GREY = (150, 150, 150)


def box_gallery(data: RunData, predictions: Sequence[Predictions]) -> Gallery | None:
    """Show some test pictures, of the reference, the best model and the smallest; None where no boxes were kept."""
    splits: tuple[SplitName, ...] = ("test", "val")
    for split in splits:
        models = shown_models(data, [model for model in predictions if _has_boxes(model, split)])
        if models:
            return _gallery(data, models, split)
    return None


def _has_boxes(model: Predictions, split: str) -> bool:
    return all(f"{split}_{name}" in model.arrays for name in _ARRAYS)


def _gallery(data: RunData, models: Sequence[Predictions], split: SplitName) -> Gallery:
    first = models[0].arrays
    names = [str(name) for name in data.cards[models[0].name].preprocessing.get("classes", ["object"])]
    palette = class_palette(["background", *names])[1:]  # grey is what is ignored
    rows = []
    for place, image in enumerate(map(str, first[f"{split}_box_image"])):
        true = first[f"{split}_box_true"][place]
        pixels = first[f"{split}_box_pictures"][place]
        objects, ignored = (true[true[:, 5] == kind] for kind in (_OBJECT, _IGNORED))
        marked = [(box, tuple(palette[int(box[4])])) for box in objects] + [(box, _GREY) for box in ignored]
        row = [Picture(_drawn(pixels, true[0, 2:4], marked), f"true boxes of {image}", _held(objects, names, image))]
        for model in models:
            # Models differ in their input: each is shown what it sees.
            own = model.arrays[f"{split}_box_pictures"][place]
            for kind, told in (("box_float", "FP32"), ("box_found", "INT8")):
                boxes = model.arrays[f"{split}_{kind}"][place]
                boxes = boxes[boxes[:, 5] > 0]
                drawn = _drawn(own, true[0, 2:4], [(box, tuple(palette[int(box[4])])) for box in boxes])
                row.append(Picture(drawn, f"{told} boxes of {image} by {model.name}", _found(boxes, objects)))
        rows.append(row)
    columns = [("ground truth", "grey: ignored")]
    for model in models:
        named, told = model_column(data, model, split)
        columns += [(f"{named}, FP32", "before quantization"), (f"{named}, INT8", told)]
    legend = [(name.replace("_", " "), css(colour)) for name, colour in zip(names, palette, strict=False)]
    reference = " The reference is first." if models[0].name == SEED_ID else ""
    caption = (
        f"Pictures of the {SPLITS[split]} split, spread over it, not chosen by how they came out, as each network sees "
        f"them, with boxes of a score of 0.25 and more; INT8 is the shipped model in the runtime that will run it."
        f"{reference}"
    )
    return Gallery(columns, rows, legend, caption)


def _drawn(
    pixels: NDArray[np.uint8], picture: NDArray[Any], boxes: Sequence[tuple[NDArray[Any], tuple[int, ...]]]
) -> str:
    """Return a picture with boxes as a data URI.

    Args:
        pixels: as a network sees it, shape (rows, columns, 3).
        picture: width and height in whose pixels boxes are, shape (2,).
        boxes: left, top, right, bottom and more, and a colour.
    """
    scale = _LONGEST / float(picture.max())
    size = (max(1, round(float(picture[0]) * scale)), max(1, round(float(picture[1]) * scale)))
    image = Image.fromarray(np.ascontiguousarray(pixels)).resize(size)
    draw = ImageDraw.Draw(image)
    for box, colour in boxes:
        corners = [round(float(value) * scale) for value in box[:4]]
        draw.rectangle(corners, outline=tuple(map(int, colour)), width=2)
    return png(np.asarray(image))


def _held(objects: NDArray[Any], names: Sequence[str], image: str) -> str:
    """Say what is in a picture: shape (objects, 7)."""
    labels, counts = np.unique(objects[:, 4].astype(int), return_counts=True)
    told = ", ".join(f"{count} {names[label].replace('_', ' ')}" for label, count in zip(labels, counts, strict=True))
    return f"{image}: {told or 'nothing'}"


def _found(boxes: NDArray[Any], objects: NDArray[Any]) -> str:
    """Say how many objects, shape (m, 7), have a box of their class, of shape (n, 6), and how many boxes are wrong."""
    if not len(objects):
        return f"{len(boxes)} wrong" if len(boxes) else "nothing, as is right"
    shared = overlaps(boxes[:, :4].astype(np.float64), objects[:, :4].astype(np.float64))
    same = (shared >= _RIGHT) & (boxes[:, None, 4] == objects[None, :, 4])
    wrong = int((~same.any(axis=1)).sum())
    more = f", {wrong} wrong" if wrong else ""
    return f"{int(same.any(axis=0).sum())} of {len(objects)} found{more}"
