"""Sums with weights of their own: fitted to a few targets, all greater than 0, and drawn towards equal weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Places = NDArray[np.intp]

PENALTIES = (100.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Of weights that differ, the largest first: with it they hardly do."""

FLOOR = 0.1
"""Of the plain sum's weight: each column has that much at least. What weighs nothing would be free to choose."""

FOLDS = 5
MOST_PAIRS = 200
"""Of the pairs that are left out of a fit in turn: with more, as many are drawn."""

_BLOCK_PIVOTS = 3
"""That may break as many conditions as before."""

_LEAST_SPREAD = 1e-3
"""Of a column, relative to the largest: what hardly varies tells nothing of its weight."""


def non_negative(gram: Array, moment: Array) -> Array:
    """Return the w of at least 0 that minimises w G w / 2 - m w, shape (n,), by pivots of whole blocks.

    Those that break a condition change sides, all at once as long as they become fewer, else one at a time, which ends
    (Portugal, Judice and Vicente 1994).

    Args:
        gram: positive definite, shape (n, n).
        moment: shape (n,).

    >>> non_negative(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([2.0, -1.0])).tolist()
    [1.0, 0.0]
    """
    free = np.ones(len(moment), np.bool_)
    scale = 1e-12 * float(np.abs(moment).max())
    fewest, trials = len(moment) + 1, _BLOCK_PIVOTS
    while True:
        weights = np.zeros(len(moment))
        weights[free] = np.linalg.solve(gram[np.ix_(free, free)], moment[free])
        wrong = np.flatnonzero(np.where(free, weights < 0, moment - gram @ weights > scale))
        if not len(wrong):
            return weights
        if len(wrong) < fewest:
            fewest, trials = len(wrong), _BLOCK_PIVOTS
        else:
            trials -= 1
        changed = wrong if trials >= 0 else wrong[-1:]
        free[changed] = ~free[changed]


@dataclass(frozen=True)
class WeightedSum:
    """A sum of columns, which is to be small where a target is.

    Attributes:
        weights: greater than 0, shape (columns,).
        penalty: of weights that differ, one of `PENALTIES`.
        reversed: whether targets rise where the plain sum falls: nothing was fitted then, the weights are equal.
    """

    weights: Array
    penalty: float
    reversed: bool = False

    def of(self, columns: Array) -> Array:
        """Return the sum of every row, shape (n,), of columns, shape (n, columns)."""
        return columns @ self.weights

    @classmethod
    def fitted(cls, columns: Array, targets: Array) -> WeightedSum:
        """Return the sum that follows targets best, with the penalty that predicts folds of them best.

        What is minimised is the mean squared error, beside a penalty on the weights' distance from the one that the
        plain sum has, in units of the columns' spread: with few targets, or such as tell nothing, it is the plain sum.

        Args:
            columns: shape (n, columns).
            targets: less is better, shape (n,).
        """
        errors = np.zeros(len(PENALTIES))
        every = np.arange(len(targets))
        for first in range(min(FOLDS, len(targets))):
            fold = every % FOLDS == first
            left, mean = columns[fold] - columns[~fold].mean(axis=0), targets[~fold].mean()
            for place, weights in enumerate(_weights(columns[~fold], targets[~fold], PENALTIES)):
                errors[place] += ((left @ weights + mean - targets[fold]) ** 2).sum()
        penalty = PENALTIES[int(np.argmin(errors))]
        (weights,) = _weights(columns, targets, [penalty])
        if weights.any():
            return cls(weights, penalty)
        return cls(np.ones(columns.shape[1]), PENALTIES[0], reversed=True)


def _weights(columns: Array, targets: Array, penalties: Sequence[float]) -> list[Array]:
    """Return weights by penalty, each of shape (columns,); all of them 0 where the plain sum falls as targets rise.

    Args:
        columns: shape (n, columns).
        targets: shape (n,).
        penalties: of weights that differ.
    """
    centred, wanted = columns - columns.mean(axis=0), targets - targets.mean()
    plain = centred.sum(axis=1)
    alike = float(plain @ wanted / max(plain @ plain, np.finfo(float).tiny))
    if alike <= 0:
        return [np.zeros(columns.shape[1])] * len(penalties)
    gram, moment = centred.T @ centred, centred.T @ wanted
    variances = np.maximum(gram.diagonal(), _LEAST_SPREAD * gram.diagonal().max())
    scale = float(variances.mean())
    gram, moment, variances = gram / scale, moment / scale, variances / scale
    least = np.full(len(moment), FLOOR * alike)
    found = []
    for penalty in penalties:
        whole = gram + np.diag(penalty * variances)
        found.append(least + non_negative(whole, moment + penalty * variances * alike - whole @ least))
    return found


Learner = Callable[[Places], Callable[[Places], Array]]
"""Given places to learn from, returns what scores others, shape (n,)."""


def fits(columns: Array, targets: Array) -> Learner:
    """Return what fits weighted sums to places of columns, shape (n, columns), and targets, shape (n,)."""

    def learnt(places: Places) -> Callable[[Places], Array]:
        found = WeightedSum.fitted(columns[places], targets[places])
        return lambda others: found.of(columns[others])

    return learnt


def plain_sums(columns: Array) -> Learner:
    """Return what learns nothing: the sum of columns, shape (n, columns)."""
    return lambda _: lambda others: columns[others].sum(axis=1)


def pairs_left_out(targets: Array, learner: Learner, seed: int = 0) -> Array:
    """Return for pairs whether scores order them as targets do, where no pair was learnt from that is compared.

    Each pair is left out of a fit of its own (Airola et al. 2011). Predictions of single ones left out can't be ranked
    among each other: the mean of the others is the lower the higher the one is that lacks, which alone makes tau -1.

    Args:
        targets: shape (n,).
        learner: fits.
        seed: of the pairs, where there are more than `MOST_PAIRS`.

    Returns:
        1 where they do, -1 where not, 0 for ties, NaN where no pair was compared; shape (n, n).
    """
    count = len(targets)
    pairs = list(combinations(range(count), 2))
    if len(pairs) > MOST_PAIRS:
        chosen = np.random.default_rng(seed).choice(len(pairs), MOST_PAIRS, replace=False)
        pairs = [pairs[place] for place in sorted(chosen)]
    found = np.full((count, count), np.nan)
    for first, second in pairs:
        pair = np.array([first, second])
        one, other = learner(np.setdiff1d(np.arange(count), pair))(pair)
        found[first, second] = np.sign(targets[first] - targets[second]) * np.sign(one - other)
    return found


def tau_of_pairs(agreement: Array) -> float:
    """Return the mean of `pairs_left_out`, shape (n, n): Kendall's tau; 0 where no pair was compared.

    >>> round(tau_of_pairs(pairs_left_out(np.array([1.0, 2.0, 3.0]), plain_sums(np.array([[0.0], [2.0], [1.0]])))), 3)
    0.333
    """
    compared = agreement[~np.isnan(agreement)]
    return float(compared.mean()) if len(compared) else 0.0


def ramps(values: Array, knots: Array) -> Array:
    """Return columns whose sums with weights greater than 0 are the rising functions that are linear between knots.

    Equal weights make ``values`` of it, less a constant: the first and the last piece go on for ever.

    Args:
        values: shape (n,).
        knots: inner ones, in order, shape (k,).

    Returns:
        Shape (n, k + 1).

    >>> ramps(np.array([-1.0, 1.0, 4.0]), np.array([0.0, 2.0])).tolist()
    [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 2.0, 2.0]]
    """
    if not len(knots):
        return values[:, None]
    first, last = np.minimum(values - knots[0], 0.0), np.maximum(values - knots[-1], 0.0)
    inner = [np.clip(values, low, high) - low for low, high in pairwise(knots)]
    return np.column_stack([first, *inner, last])
