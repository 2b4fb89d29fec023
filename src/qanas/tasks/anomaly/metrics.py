"""How well scores tell anomalies from what is normal, whatever the threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEW_ALARMS = 0.1
"""The share of false alarms up to which ``pauc`` is over."""


def roc_area(scores: NDArray[np.float64], anomalous: NDArray[np.bool_], most_alarms: float = 1.0) -> float:
    """Return the area under the ROC curve, NaN where there is only one kind.

    Up to a share of false alarms, it is standardised as McClish (1989) does: 0.5 is chance, 1 perfect.

    Args:
        scores: larger ones for anomalies, shape (n,).
        anomalous: shape (n,).
        most_alarms: share of false alarms up to which the area is.

    >>> anomalous = np.array([False, False, True, True])
    >>> roc_area(np.array([0.1, 0.4, 0.35, 0.8]), anomalous), roc_area(np.array([1.0, 1.0, 1.0, 1.0]), anomalous, 0.1)
    (0.75, 0.5)
    """
    positives, negatives = int(anomalous.sum()), int((~anomalous).sum())
    if not positives or not negatives:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    # A point of the curve for each value that occurs: equal scores are above a threshold together.
    last = np.append(np.diff(scores[order]) != 0, True)
    found = np.concatenate([[0.0], np.cumsum(anomalous[order])[last] / positives])
    alarms = np.concatenate([[0.0], np.cumsum(~anomalous[order])[last] / negatives])
    at_most = float(np.interp(most_alarms, alarms, found))
    # Those at the border, too: where the curve rises there, what is in front of it lies lower.
    inside = alarms <= most_alarms
    x, y = np.append(alarms[inside], most_alarms), np.append(found[inside], at_most)
    area = float(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum())
    chance = most_alarms**2 / 2
    return 0.5 * (1 + (area - chance) / (most_alarms - chance))
