"""What is written down of series: how channels are scaled, and what a person should know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.samples import Split
from qanas.tasks.timeseries.reader import Floats, Found

_TOLD = 8


def channel_notes(channels: Sequence[str], means: Floats, deviations: Floats) -> dict[str, Any]:
    """Return what it takes to scale a row.

    Args:
        channels: their names.
        means: shape (channels,).
        deviations: shape (channels,).
    """
    return {
        "channels": list(channels),
        "means": means.tolist(),
        "deviations": deviations.tolist(),
        "standardisation": "(value - mean) / deviation, constants of the channel",
        "missing": "the last value that was there stands for a missing one",
        "padding": "with fewer rows than the window the first one is repeated in front",
    }


def counted(splits: Mapping[str, Split], classes: Sequence[str], target: str | None, mean: float) -> list[str]:
    """Return how many windows of what the splits have, a line each.

    Args:
        splits: by name.
        classes: none where numbers are predicted.
        target: the column that is.
        mean: what was taken off it.
    """
    lines = []
    for name, split in splits.items():
        if classes:
            counts = np.bincount(split.targets, minlength=len(classes))
            told = ", ".join(f"{label} {count}" for label, count in zip(classes, counts, strict=True))
        else:
            told = f"{target} {split.targets.min() + mean:g} to {split.targets.max() + mean:g}"
        recordings = len(set(split.extras["recording"].tolist()))
        lines.append(f"{name}: {len(split)} windows of {recordings} recordings: {told}")
    return lines


def seen(found: Found, kept: NDArray[np.intp]) -> list[str]:
    """Return what was seen of series: gaps, missing values, constant channels; ``kept`` has the shape (kept,)."""
    lines = []
    if found.gaps:
        lines.append(f"{found.gaps} gaps in time: no window reaches over them")
    if found.missing:
        told = ", ".join(f"{name} {count}" for name, count in list(found.missing.items())[:_TOLD])
        lines.append(f"missing values: {told}: the last value that was there stands for them")
    constant = [name for place, name in enumerate(found.channels) if place not in set(kept.tolist())]
    if constant:
        lines.append(f"constant in training, left out: {', '.join(constant)}")
    return lines
