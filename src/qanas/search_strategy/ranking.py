"""How good a trial is beside others, where there are several objectives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qanas.core.measures import Measure
from qanas.core.trials import TrialRecord


def losses_of(records: Sequence[TrialRecord], axes: Sequence[Measure]) -> NDArray[np.float64]:
    """Return what is to be minimised of measured trials, shape (trials, axes)."""
    found = [[axis.loss(record.measurement.value(axis)) for axis in axes] for record in records]
    return np.array(found, np.float64).reshape(len(records), len(axes))


def dominating(records: Sequence[TrialRecord], axes: Sequence[Measure]) -> NDArray[np.intp]:
    """Return how many of some measured trials dominate each of them, shape (trials,)."""
    losses = losses_of(records, axes)
    no_worse = (losses[:, None] <= losses[None]).all(axis=2)
    better = (losses[:, None] < losses[None]).any(axis=2)
    counts: NDArray[np.intp] = (no_worse & better).sum(axis=0)
    return counts
