"""Classes that shipped models predict, against the true ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qanas.reporting.figures import HOVER, Choice, Figure, Spec, hover
from qanas.reporting.wording import SPLITS, count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.core.card import SplitName
    from qanas.reporting.run_data import Predictions, RunData

_LEAST = 2
_MOST = 40  # classes whose names have room
_SCALE = [[0, "@page"], [1, "@accent"]]


def confusion_plot(data: RunData, models: Sequence[Predictions]) -> Figure | None:
    """Draw which class was taken for which; None where no model kept an output a class and the true class."""
    for split in ("test", "val"):
        scored = [model for model in models if _has_classes(model, split)]
        if scored:
            return _confusion(data, scored, split)
    return None


def _has_classes(model: Predictions, split: str) -> bool:
    outputs, targets = (model.arrays.get(f"{split}_{name}") for name in ("outputs", "targets"))
    if outputs is None or targets is None or targets.dtype.kind not in "iu" or targets.size != len(targets):
        return False
    return outputs.ndim == _LEAST and len(outputs) == len(targets) > 0 and _LEAST <= outputs.shape[1] <= _MOST


def _confusion(data: RunData, models: Sequence[Predictions], split: SplitName) -> Figure:
    named = data.cards[models[0].name].preprocessing.get("classes")
    classes = models[0].arrays[f"{split}_outputs"].shape[1]
    told = named if isinstance(named, list) and len(named) == classes else range(classes)
    names = [str(name) for name in told]
    choices = [Choice(model.label, {0: _shares(model, split, names)}) for model in models]
    base: Spec = {"type": "heatmap", "colorscale": _SCALE, "zmin": 0, "zmax": 1, "hovertemplate": HOVER}
    axis: Spec = {"type": "category", "showgrid": False}
    layout = {
        "xaxis": axis | {"title": {"text": "predicted"}},
        "yaxis": axis | {"title": {"text": "true"}, "autorange": "reversed"},
    }
    samples = count(len(models[0].arrays[f"{split}_targets"]), "sample")
    caption = (
        f"Of each true class the share that the shipped model takes for each class, on the {SPLITS[split]} split "
        f"({samples}); what is right lies on the diagonal."
    )
    return Figure("confusion", [base | choices[0].traces[0]], layout, caption, "Model", choices, 480, 620)


def _shares(model: Predictions, split: SplitName, names: Sequence[str]) -> Spec:
    counts = confusion(model.arrays[f"{split}_outputs"], model.arrays[f"{split}_targets"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = [
        [
            hover([f"true {names[true]}, predicted {names[taken]}", f"{counts[true, taken]} ({share:.0%})"])
            for taken, share in enumerate(row)
        ]
        for true, row in enumerate(shares)
    ]
    return {"x": list(names), "y": list(names), "z": np.round(shares, 4).tolist(), "text": texts}


def confusion(outputs: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.int64]:
    """Count which class was taken for which.

    Args:
        outputs: shape (n, classes); the largest is the predicted class.
        targets: true classes, shape (n,) or (n, 1); what is no class, such as void, doesn't count.

    Returns:
        Samples by true and by predicted class, shape (classes, classes).
    """
    counts = np.zeros((outputs.shape[1],) * 2, dtype=np.int64)
    true = targets.reshape(-1)
    counted = (true >= 0) & (true < len(counts))
    np.add.at(counts, (true[counted], outputs.argmax(axis=1)[counted]), 1)
    return counts
