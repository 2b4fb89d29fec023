"""What shipped models get most wrong: images, classes, engines, numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qanas.core.card import SPLITS
from qanas.core.classes import class_names
from qanas.core.mistakes import furthest, misclassified
from qanas.core.run_folder import SEED_ID
from qanas.reporting.run_data import named
from qanas.reporting.views.masks import Picture, class_palette, held_classes, names_of_classes, png, scored_mask
from qanas.reporting.wording import SPLITS as SPLIT_WORDS
from qanas.reporting.wording import number, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.core.card import SplitName
    from qanas.reporting.run_data import Predictions, RunData

_MOST = 6  # rows of a table
_MOST_MODELS = 2
_MASKS = ("classes", "targets", "pictures", "image")


@dataclass(frozen=True)
class WrongTable:
    """The worst examples of one model.

    Attributes:
        title: whose, and of which split.
        columns: their titles.
        rows: of one picture or text a column.
        caption: the sentence below.
    """

    title: str
    columns: list[str]
    rows: list[list[Picture | str]]
    caption: str


def wrong_tables(data: RunData, predictions: Sequence[Predictions]) -> list[WrongTable]:
    """Show the worst examples of the model to take and of the best one, as far as predictions were kept."""
    found = []
    for model in _told(data, predictions):
        for build in (_engines, _numbers, _classes, _masks):
            table = build(data, model)
            if table is not None:
                found.append(table)
    return found


def _told(data: RunData, predictions: Sequence[Predictions]) -> list[Predictions]:
    """Return the recommended model and the best one; without a verdict the best one, of a run without models none."""
    by_name = {model.name: model for model in predictions}
    verdict = data.summary.get("verdict", {})
    wanted = [verdict.get("recommended"), verdict.get("best"), *(name for name in by_name if name in data.shipped)]
    chosen = [name for name in dict.fromkeys(wanted) if name in by_name]
    return [by_name[name] for name in (chosen or [name for name in by_name if name == SEED_ID])[:_MOST_MODELS]]


def _title(data: RunData, model: Predictions, split: SplitName) -> str:
    return f"{named(data, model.name)}, {SPLIT_WORDS[split]} data"


# Numbers


def _engines(data: RunData, model: Predictions) -> WrongTable | None:
    """Show the engines of the validation split whose lives are predicted worst."""
    if not model.has("val", "engine", "cycle"):
        return None
    engine, cycle = model["val_engine"].astype(np.int64), model["val_cycle"]
    errors = model["val_outputs"] - model["val_targets"]
    found = []
    for name in np.unique(engine):
        rows = np.flatnonzero((engine == name) & np.isfinite(errors))
        if len(rows):
            found.append((float(np.abs(errors[rows]).mean()), int(name), rows))
    rows_shown: list[list[Picture | str]] = []
    for mean, name, rows in sorted(found, key=lambda entry: (-entry[0], entry[1]))[:_MOST]:
        worst = rows[np.argmax(np.abs(errors[rows]))]
        at = f"{signed(float(errors[worst]))} at cycle {int(cycle[worst])}"
        rows_shown.append([f"engine {name}", number(mean), signed(float(errors[rows].mean())), at, f"{len(rows):,}"])
    columns = ["engine", "mean error, absolute", "mean error", "largest error", "windows"]
    caption = "The engines with the largest mean absolute error, in cycles; an error above 0 promises too long a life."
    return WrongTable(_title(data, model, "val"), columns, rows_shown, caption) if rows_shown else None


def _numbers(data: RunData, model: Predictions) -> WrongTable | None:
    """Show the samples whose number is predicted worst."""
    for split in reversed(SPLITS):
        if not model.has(split):
            continue
        true, predicted = model[f"{split}_targets"], model[f"{split}_outputs"]
        rows: list[list[Picture | str]] = [
            [
                _sample(model, split, int(row), len(true)),
                number(float(true[row])),
                number(float(predicted[row])),
                signed(float(predicted[row] - true[row])),
            ]
            for row in furthest(predicted, true, _MOST)
        ]
        caption = "The samples with the largest error; samples are counted from 0 in the order of the split."
        columns = ["sample", "true", "predicted", "predicted less true"]
        return WrongTable(_title(data, model, split), columns, rows, caption) if rows else None
    return None


def _sample(model: Predictions, split: SplitName, row: int, samples: int) -> str:
    """Name a sample by what its task says of it."""
    named = [(name, model.column(f"{split}_{name}")) for name in ("engine", "cycle")]
    told = [f"{name} {int(values[row])}" for name, values in named if values is not None and len(values) == samples]
    return ", ".join(told) or f"sample {row}"


# Classes


def _classes(data: RunData, model: Predictions) -> WrongTable | None:
    """Show the samples that a model takes most surely for another class than theirs."""
    for split in reversed(SPLITS):
        outputs, targets = (model.arrays.get(f"{split}_{name}") for name in ("outputs", "targets"))
        if outputs is None or targets is None:
            continue
        wrong = misclassified(outputs, targets, _MOST)
        if wrong is None:
            continue
        names = class_names(data.cards[model.name].preprocessing.get("classes"), outputs.shape[1])
        true = targets.reshape(-1)
        pictures = _pictures(model, split)
        rows: list[list[Picture | str]] = []
        for row in wrong.tolist():
            taken = int(outputs[row].argmax())
            apart = number(float(outputs[row, taken] - outputs[row, int(true[row])]))
            shown = [pictures[row]] if row in pictures else [""] if pictures else []
            rows.append([f"sample {row}", *shown, names[int(true[row])], names[taken], apart])
        columns = ["sample", *(["input"] if pictures else []), "true", "predicted", "outputs apart"]
        caption = (
            "The misclassified samples whose predicted class is furthest above the true one in the outputs; samples "
            "are counted from 0 in the order of the split. Inputs are drawn from their least to their largest value."
        )
        return WrongTable(_title(data, model, split), columns, rows, caption) if rows else None
    return None


def _pictures(model: Predictions, split: SplitName) -> dict[int, Picture]:
    """Return the inputs that were kept, by their sample."""
    rows, inputs = (model.arrays.get(f"{split}_mistaken{more}") for more in ("", "_inputs"))
    if rows is None or inputs is None or len(rows) != len(inputs):
        return {}
    return {
        int(row): Picture(png(pixels if pixels.shape[-1] > 1 else np.repeat(pixels, 3, axis=-1)), f"sample {row}")
        for row, pixels in zip(rows, inputs, strict=True)
    }


# Masks


def _masks(data: RunData, model: Predictions) -> WrongTable | None:
    """Show the images whose masks are worst."""
    for split in reversed(SPLITS):
        kept = [model.arrays.get(f"{split}_worst_{name}") for name in _MASKS]
        classes, targets, pictures, images = kept
        if classes is None or targets is None or pictures is None or images is None:
            continue
        names = names_of_classes(data, model.name, model.arrays)
        palette = class_palette(names)
        rows: list[list[Picture | str]] = [
            [
                Picture(png(pictures[place]), f"image {images[place]}", str(images[place])),
                Picture(
                    png(targets[place], palette), f"true classes of image {images[place]}",
                    held_classes(targets[place], names),
                ),
                Picture(
                    png(classes[place], palette), f"classes of image {images[place]} by {model.name}",
                    scored_mask(classes[place], targets[place], names),
                ),
            ]
            for place in range(len(images))
        ]  # fmt: skip
        caption = (
            "The images with the lowest mean IoU of the classes that are in them or predicted there, the worst first."
        )
        columns = ["picture", "ground truth", "predicted"]
        return WrongTable(_title(data, model, split), columns, rows, caption) if rows else None
    return None
