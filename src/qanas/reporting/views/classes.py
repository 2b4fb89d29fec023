"""Classes that shipped models predict, against the true ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qanas.core.classes import FEWEST_CLASSES, class_names, confusion
from qanas.reporting.figures import HOVER, Choice, Figure, Spec, hover
from qanas.reporting.wording import SPLITS, count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qanas.core.card import SplitName
    from qanas.reporting.run_data import Predictions, RunData

_MOST = 40  # classes whose names have room
_SCALE = [[0, "@page"], [1, "@accent"]]


def confusion_plot(data: RunData, models: Sequence[Predictions]) -> Figure | None:
    """Draw which class was taken for which; None where no model kept that."""
    for split in ("test", "val"):
        counts = {model.name: found for model in models if (found := _counts(model, split)) is not None}
        if counts:
            return _confusion(data, [model for model in models if model.name in counts], counts, split)
    return None


def _counts(model: Predictions, split: str) -> NDArray[np.int64] | None:
    """Return how often each class was taken for each, shape (classes, classes); early runs kept outputs alone."""
    counts = model.arrays.get(f"{split}_confusion")
    if counts is None:
        outputs, targets = (model.arrays.get(f"{split}_{name}") for name in ("outputs", "targets"))
        if outputs is None or targets is None or targets.dtype.kind not in "iu" or targets.size != len(targets):
            return None
        if outputs.ndim != FEWEST_CLASSES or len(outputs) != len(targets):
            return None
        counts = confusion(outputs.argmax(axis=1), targets, outputs.shape[1])
    return counts if FEWEST_CLASSES <= len(counts) <= _MOST and counts.any() else None


def _confusion(
    data: RunData, models: Sequence[Predictions], counts: Mapping[str, NDArray[np.int64]], split: SplitName
) -> Figure:
    classes = len(counts[models[0].name])
    names = class_names(data.cards[models[0].name].preprocessing.get("classes"), classes)
    choices = [Choice(model.label, {0: _shares(counts[model.name], names)}) for model in models]
    base: Spec = {"type": "heatmap", "colorscale": _SCALE, "zmin": 0, "zmax": 1, "hovertemplate": HOVER}
    axis: Spec = {"type": "category", "showgrid": False}
    layout = {
        "xaxis": axis | {"title": {"text": "predicted"}},
        "yaxis": axis | {"title": {"text": "true"}, "autorange": "reversed"},
    }
    pixels = f"{split}_classes" in models[0].arrays
    samples = count(int(counts[models[0].name].sum()), "pixel" if pixels else "sample")
    caption = (
        f"Of each true class the share that the shipped model takes for each class, on the {SPLITS[split]} split "
        f"({samples}); what is right lies on the diagonal."
    )
    return Figure("confusion", [base | choices[0].traces[0]], layout, caption, "Model", choices, 480, 620)


def _shares(counts: NDArray[np.int64], names: Sequence[str]) -> Spec:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = [
        [
            hover([f"true {names[true]}, predicted {names[taken]}", f"{counts[true, taken]:,} ({share:.0%})"])
            for taken, share in enumerate(row)
        ]
        for true, row in enumerate(shares)
    ]
    labels = [hover([name]) for name in names]
    return {"x": labels, "y": labels, "z": np.round(shares, 4).tolist(), "text": texts}
