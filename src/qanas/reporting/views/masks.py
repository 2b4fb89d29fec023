"""Pictures with what is true and what shipped models make of them, class by class."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qanas.core.card import SplitName
from qanas.core.even_spread import evenly_spread
from qanas.core.run_folder import SEED_ID
from qanas.reporting.models import main_cost, main_metric, sized, statistic
from qanas.reporting.wording import SPLITS, number, words

if TYPE_CHECKING:
    from qanas.reporting.run_data import Predictions, RunData

VOID = 255
"""The class of pixels that count for nothing."""

_CAMVID = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign_symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
"""As Badrinarayanan et al. (2017) show CamVid's eleven classes."""

_OWN = ((153, 153, 153), (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0))
"""Of classes of a user's own, the first of which is most often the background: grey, and then colours that people who
confuse red and green tell apart, too, and of which none says good or bad (Okabe & Ito 2008)."""

_GOLDEN = 0.618034  # steps of the golden ratio keep the hues of any number of classes apart
_LIGHTNESSES = (0.45, 0.62, 0.3)
_MOST_IMAGES = 4
_MOST_NAMED = 3
_ARRAYS = ("classes", "targets", "pictures", "image")


@dataclass(frozen=True)
class Picture:
    """A picture or a mask.

    Attributes:
        source: the PNG file itself, as a data URI.
        told: what it shows, for those who can't see it.
        note: below it.
    """

    source: str
    told: str
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Images of one split, a row each.

    Attributes:
        columns: titles and subtitles: the picture, what is true, then the models.
        rows: of one picture a column.
        legend: classes and their colours.
        caption: the sentence below.
    """

    columns: list[tuple[str, str]]
    rows: list[list[Picture]]
    legend: list[tuple[str, str]]
    caption: str


def gallery(data: RunData, predictions: Sequence[Predictions]) -> Gallery | None:
    """Show some test images, of the reference, the best model and the smallest; None where no masks were kept."""
    for split in ("test", "val"):
        models = shown_models(data, [model for model in predictions if _has_masks(model, split)])
        if models:
            return _gallery(data, models, split)
    return None


def _has_masks(model: Predictions, split: str) -> bool:
    arrays = [model.arrays.get(f"{split}_{name}") for name in _ARRAYS]
    lengths = {len(array) for array in arrays if array is not None}
    return all(array is not None for array in arrays) and len(lengths) == 1 and lengths != {0}


def shown_models(data: RunData, models: Sequence[Predictions]) -> list[Predictions]:
    """Choose of models in the order of their scores, the reference last; baselines are left out."""
    seed = [model for model in models if model.name == SEED_ID]
    found = [model for model in models if model.name in data.shipped]
    cost = main_cost(data)
    smallest = sorted(found, key=lambda model: (data.cards[model.name].paid(cost), model.name))
    chosen = [*seed, *found[:1], *smallest[:1]]
    return list({model.name: model for model in chosen}.values())


def _gallery(data: RunData, models: Sequence[Predictions], split: SplitName) -> Gallery:
    first = models[0].arrays
    names = names_of_classes(data, models[0].name, first)
    palette = class_palette(names)
    kept = len(first[f"{split}_image"])
    places = _rows(first[f"{split}_targets"], kept)
    rows = []
    for place in places:
        image = str(first[f"{split}_image"][place])
        true = first[f"{split}_targets"][place]
        row = [
            Picture(png(first[f"{split}_pictures"][place]), f"image {image}", image),
            Picture(png(true, palette), f"true classes of image {image}", held_classes(true, names)),
        ]
        row += [
            _predicted(model, model.arrays[f"{split}_classes"][place], true, palette, image, names) for model in models
        ]
        rows.append(row)
    columns = [("picture", "as the network sees it"), ("ground truth", "black: void, not scored")]
    legend = [(name.replace("_", " "), css(colour)) for name, colour in zip(names, palette, strict=False)]
    caption = (
        f"Images of the {SPLITS[split]} split, spread over it and such that rare classes are among them, not chosen by "
        "how they came out. Below a mask is the mean IoU of the classes that are in the image or predicted there, void "
        "left out, and what was missed altogether, by the shipped model in the runtime that will run it."
    )
    return Gallery([*columns, *(model_column(data, model, split) for model in models)], rows, legend, caption)


def _rows(targets: NDArray[Any], kept: int) -> list[int]:
    """Return which of the kept images are shown: those with most classes, and of equal ones spread ones, in order.

    Args:
        targets: true classes, shape (kept, rows, columns).
        kept: how many there are.
    """
    classes = [len(set(np.unique(mask).tolist()) - {VOID}) for mask in targets]
    spread = [*evenly_spread(kept, _MOST_IMAGES).tolist(), *range(kept)]
    order = sorted(dict.fromkeys(spread), key=lambda place: -classes[place])
    return sorted(order[:_MOST_IMAGES])


def names_of_classes(data: RunData, model: str, arrays: Any) -> list[str]:  # noqa: ANN401 - a mapping of any arrays
    """Return the names of a model's classes, from its card, or else numbers."""
    told = data.cards[model].preprocessing.get("classes")
    if isinstance(told, list):
        return [str(name) for name in told]
    most = max(int(array[array != VOID].max(initial=0)) for name, array in arrays.items() if name.endswith("classes"))
    return [f"class {place}" for place in range(most + 1)]


def model_column(data: RunData, model: Predictions, split: SplitName) -> tuple[str, str]:
    """Return what a model's column is called, and below its size and main score."""
    metric = main_metric(data)
    found = None if metric is None else statistic(data.cards[model.name], "deployed", split, metric)
    scored = "" if found is None or metric is None else f", {words(metric)} {number(found.shipped)}"
    named = "reference" if model.name == SEED_ID else model.name
    return named, f"{sized(main_cost(data), data.cards[model.name])}{scored}"


def held_classes(classes: NDArray[Any], names: Sequence[str]) -> str:
    """Name the classes of a mask, shape (rows, columns), the rarest first."""
    found, counts = np.unique(classes[classes != VOID], return_counts=True)
    return ", ".join(_named(int(found[place]), names) for place in np.argsort(counts)[:_MOST_NAMED])


def _named(label: int, names: Sequence[str]) -> str:
    return (names[label] if label < len(names) else f"class {label}").replace("_", " ")


def _predicted(
    model: Predictions,
    classes: NDArray[Any],
    true: NDArray[Any],
    palette: NDArray[np.uint8],
    image: str,
    names: Sequence[str],
) -> Picture:
    return Picture(
        png(classes, palette), f"classes of image {image} by {model.name}", scored_mask(classes, true, names)
    )


def scored_mask(classes: NDArray[Any], true: NDArray[Any], names: Sequence[str]) -> str:
    """Return the mean IoU of a mask and the classes that were missed; empty where all is void.

    Args:
        classes: predicted, shape (rows, columns).
        true: likewise.
        names: of the classes.
    """
    counted = true != VOID
    return _scored(classes[counted], true[counted], names) if counted.any() else ""


def _scored(classes: NDArray[Any], true: NDArray[Any], names: Sequence[str]) -> str:
    """Return the mean IoU of an image and the classes that were missed; both of shape (pixels,).

    Not the share of right pixels: where a class is rare, that is nearly 1 without it.
    """
    ious, missed = [], []
    for label in np.unique([*classes, *true]):
        found, there = classes == label, true == label
        ious.append(float((found & there).sum() / (found | there).sum()))
        if there.any() and not (found & there).any():
            missed.append(_named(int(label), names))
    told = f"mIoU {number(float(np.mean(ious)))}"
    more = f" and {len(missed) - _MOST_NAMED} more" if len(missed) > _MOST_NAMED else ""
    return f"{told}; missed: {', '.join(missed[:_MOST_NAMED])}{more}" if missed else told


def png(pixels: NDArray[Any], palette: NDArray[np.uint8] | None = None) -> str:
    """Return 8-bit pixels as a PNG file in a data URI.

    Args:
        pixels: colours, shape (rows, columns, 3); with a palette classes, shape (rows, columns).
        palette: the classes' colours, shape (256, 3).
    """
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
    if palette is not None:
        image.putpalette(palette.tobytes())
    content = io.BytesIO()
    image.save(content, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


# Colours


def class_palette(names: Sequence[str]) -> NDArray[np.uint8]:
    """Return red, green and blue of every 8-bit class, shape (256, 3); void is black.

    Args:
        names: of the classes. CamVid's have the colours that the literature shows them in.
    """
    palette = np.zeros((VOID + 1, 3), dtype=np.uint8)
    known = set(names) <= _CAMVID.keys()
    for place, name in enumerate(names):
        palette[place] = _CAMVID[name] if known else _spread(place)
    return palette


def css(colour: NDArray[np.uint8]) -> str:
    """Write a colour, shape (3,), as the page's style does.

    >>> css(np.array([128, 0, 255], dtype=np.uint8))
    '#8000ff'
    """
    return "#" + bytes(colour.tolist()).hex()


def _spread(place: int) -> Sequence[int]:
    if place < len(_OWN):
        return _OWN[place]
    lightness = _LIGHTNESSES[place % len(_LIGHTNESSES)]
    return [round(255 * part) for part in colorsys.hls_to_rgb(place * _GOLDEN % 1, lightness, 0.65)]
