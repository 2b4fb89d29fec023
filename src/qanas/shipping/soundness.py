"""Whether a model is a success at all: not where it never answers a class, nor where a constant answer is as good."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from qanas.core.card import SPLITS, SplitName
from qanas.core.classes import Classes, Counts, Degenerate, class_names
from qanas.core.measures import Metric
from qanas.shipping.finalists import CONFUSION

Scores = Mapping[SplitName, Mapping[str, float]]
"""What a constant answer scores, by split and metric; empty where the task has none."""

EQUAL = 1e-9
"""Relative: a model that always answers the same has the constant's score but for the order of sums."""


def classes_in(predictions: bytes, preprocessing: Mapping[str, Any]) -> Classes | None:
    """Return what a model answers, class by class; None where its task has none, or an early run kept nothing of it.

    Args:
        predictions: content of the .npz file.
        preprocessing: the card's: may name the classes.
    """
    counts: dict[str, Counts] = {}
    with np.load(io.BytesIO(predictions), allow_pickle=False) as file:
        for split in SPLITS:
            if f"{split}_{CONFUSION}" in file.files:
                counts[split] = file[f"{split}_{CONFUSION}"]
    if not counts:
        return None
    return Classes.of(counts, class_names(preprocessing.get("classes"), len(next(iter(counts.values())))))


def degenerate(classes: Classes | None, scored: float, metric: Metric, constant: Scores) -> Degenerate | None:
    """Return why a model is no success; None where it is one.

    Args:
        classes: what it answers.
        scored: its deployed score on validation data.
        metric: the main one, of which that is.
        constant: what a constant answer scores.
    """
    lacking = classes.never_predicted("val") if classes is not None else {}
    bound = constant.get("val", {}).get(metric.name, math.nan)
    reached = math.isfinite(bound) and not metric.loss(scored) < metric.loss(bound) - EQUAL * max(1.0, abs(bound))
    found = Degenerate(never_predicted=lacking, constant_reaches={metric.name: bound} if reached else {})
    return found or None
