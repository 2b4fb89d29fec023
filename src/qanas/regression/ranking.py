"""How well a ranking agrees with another one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def rank_correlation(first: Array, second: Array) -> float | None:
    """Return Kendall's tau-b of two rankings, shape (n,) each; None where one of them ranks nothing.

    All pairs are compared: for at most a few thousand values.

    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 3.0]))
    0.3333333333333333
    """
    above, right = np.triu_indices(len(first), 1)
    one, other = np.sign(first[above] - first[right]), np.sign(second[above] - second[right])
    compared = np.sqrt(float((one != 0).sum()) * float((other != 0).sum()))
    return float((one * other).sum() / compared) if compared else None


def kendall_tau(first: Array, second: Array) -> float:
    """Return the same; 0 where one of them ranks nothing: what ranks nothing is of no use.

    >>> kendall_tau(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])).__round__(3)
    0.667
    """
    return rank_correlation(first, second) or 0.0


def spearman(first: Array, second: Array) -> float:
    """Return Spearman's correlation of two rankings, shape (n,) each; nan where one of them ranks nothing.

    Equal values share the mean of their places.

    >>> spearman(np.array([1.0, 1.0, 2.0]), np.array([3.0, 4.0, 5.0])).__round__(3)
    0.866
    """
    places = [_places(values) for values in (first, second)]
    return float(np.asarray(np.corrcoef(places))[0, 1]) if all(np.ptp(each) for each in places) else math.nan


def _places(values: Array) -> Array:
    """Return the place of each value in their order, shape (n,) each."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: Array = np.cumsum(counts) - (counts + 1) / 2
    return means[which]


def bootstrap_interval(
    first: Array, second: Array, draws: int = 400, seed: int = 0, groups: NDArray[np.intp] | None = None
) -> tuple[float, float]:
    """Return the 95 % interval of Kendall's tau over what is ranked, by bootstrap.

    Tau-b leaves out the pairs of what was drawn twice with itself, so that a draw keeps its repetitions.

    Args:
        first: a ranking, shape (n,).
        second: another one, shape (n,).
        draws: how many.
        seed: of them.
        groups: what is drawn together, such as several roundings of one training, shape (n,); each by itself if None.
    """
    generator = np.random.default_rng(seed)
    groups = np.arange(len(first)) if groups is None else groups
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    found = []
    for _ in range(draws):
        places = np.concatenate([members[group] for group in generator.integers(0, len(members), len(members))])
        found.append(kendall_tau(first[places], second[places]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def best_by_chance(estimates: Sequence[Array], truth: Array, draws: int = 400, seed: int = 0) -> float:
    """Return the Kendall's tau that the best of several estimates that know nothing exceeds in one of 20 cases.

    The truth is shuffled: of many estimates that were tried, one is good by luck (Westfall and Young 1993, max-T).

    Args:
        estimates: shape (n,) each.
        truth: that they are of, shape (n,).
        draws: shuffles.
        seed: of them.
    """
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        shuffled = generator.permutation(truth)
        found.append(max(kendall_tau(own, shuffled) for own in estimates))
    return float(np.quantile(found, 0.95, method="higher"))
