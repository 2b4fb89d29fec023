"""Which of many candidates is worth training next, where their costs are known exactly before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qanas.core.pareto import non_dominated
from qanas.regression.gaussian_process import ColumnGroup, GaussianProcess

Array = NDArray[np.float64]

WINDOW = 0.3
"""Width of a slice of sizes, relative to the range of sizes that are looked at."""

BEYOND = 0.1
"""How far slices reach over the largest network of the front, likewise: what is larger was no better so far."""

CAUTION = (0.5, 1.0, 2.0)
"""Standard deviations that a prediction is taken to be too high by, one of them at random each time."""

GAIN_SHARE = 0.5
"""Of the proposals, that are chosen by the gain."""

CLIPPED = 2.0
"""Losses are clipped as far above the median as this many times the distance of the best below it."""


@dataclass(frozen=True)
class Pool:
    """Some candidates, encoded.

    Attributes:
        rows: shape (n, columns).
        costs: that are known exactly, shape (n, costs), everything to be minimised.
    """

    rows: Array
    costs: Array


def most_promising(groups: Sequence[ColumnGroup], seen: Pool, losses: Array, pool: Pool, seed: int) -> int:
    """Return the position in a pool of the candidate that is worth training next.

    A Gaussian process is fitted to the metric alone, of settings and costs; costs need no model, they are known. Of a
    prediction its lower confidence bound is taken. One of two ways to choose is drawn each time:

    - *A slice of sizes*: networks whose cost is up to a bound, and not much smaller; of these the one with the lowest
      bound. Bounds are uniform on a logarithmic scale, from the smallest network of the front that is better than half
      of what was seen to a little over the largest one. So every size has its turn.
    - *The gain*: the hypervolume that the front would win, below the median loss and the largest cost. So no turn is
      spent where nothing is to be won. With several costs there are slices alone: each cost has a bound, one of
      them a slice.

    Several metrics are weighted at random (Knowles 2006), which costs can't be: a sum rewards what is small and
    useless.

    Args:
        groups: of the rows' columns.
        seen: candidates that were trained, n of them.
        losses: of theirs, shape (n, metrics), everything to be minimised.
        pool: candidates to choose from.
        seed: of all that is random.
    """
    generator = np.random.default_rng(seed)
    sizes, pool_sizes = np.split(_scaled(np.concatenate([seen.costs, pool.costs])), [len(seen.rows)])
    weights = generator.dirichlet(np.ones(losses.shape[1]))
    target: Array = np.asarray(sum(w * _clipped(column) for w, column in zip(weights, losses.T, strict=True)))
    columns = seen.rows.shape[1]
    all_groups = [*groups, *(ColumnGroup([columns + number], 1) for number in range(sizes.shape[1]))]
    process = GaussianProcess(all_groups, np.column_stack([seen.rows, sizes]), target, seed)
    mean, sd = process.predict(np.column_stack([pool.rows, pool_sizes]))
    bound = mean - generator.choice(CAUTION) * sd
    if sizes.shape[1] == 1 and generator.random() < GAIN_SHARE:
        gains = _gains(target, sizes[:, 0], bound, pool_sizes[:, 0])
        if gains.max() > 0:
            return int(np.argmax(gains))
    places = np.flatnonzero(_slice(sizes, pool_sizes, losses, generator))
    return int(places[np.argmin(bound[places])])


def _gains(losses: Array, sizes: Array, bounds: Array, pool: Array) -> Array:
    """Return what hypervolume a front of losses and sizes would win by each candidate of a pool, shape (m,).

    Args:
        losses: of what was seen, shape (n,).
        sizes: likewise, from 0 to 1.
        bounds: losses that candidates may have, shape (m,).
        pool: sizes that they have.
    """
    reference = float(np.median(losses))
    points = np.column_stack([sizes, losses])
    front = points[non_dominated(points)]
    front = front[front[:, 1] < reference]
    # Between two sizes the front has the loss of the smaller one; before the first, that of the reference.
    starts = np.concatenate([[-np.inf], front[:, 0]])
    ends = np.concatenate([front[:, 0], [1.0 + BEYOND]])
    levels = np.concatenate([[reference], front[:, 1]])
    widths = np.maximum(ends - np.maximum(starts, pool[:, None]), 0.0)
    gains: Array = (widths * np.maximum(levels - bounds[:, None], 0.0)).sum(axis=1)
    return gains


def _scaled(costs: Array) -> Array:
    """Return costs, shape (n, costs), from 0 to 1 each: logarithms where all are above 0."""
    logs = np.where((costs > 0).all(axis=0), np.log(np.maximum(costs, 1e-300)), costs)
    low, high = logs.min(axis=0), logs.max(axis=0)
    scaled: Array = (logs - low) / np.where(high > low, high - low, 1.0)
    return scaled


def _clipped(losses: Array) -> Array:
    """Return losses, shape (n,), without what failed so badly that it would hide all other differences."""
    middle = float(np.median(losses))
    clipped = np.minimum(losses, middle + CLIPPED * (middle - losses.min()))
    spread = clipped.std()
    scaled: Array = (clipped - clipped.mean()) / (spread if spread > 0 else 1.0)
    return scaled


def _slice(sizes: Array, pool: Array, losses: Array, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return which of a pool are in a slice, shape (m,); never none.

    Args:
        sizes: of what was seen, from 0 to 1, shape (n, costs).
        pool: of what is chosen from, shape (m, costs).
        losses: of what was seen, shape (n, metrics).
        generator: draws the slice.
    """
    costs = sizes.shape[1]
    if not costs:
        return np.ones(len(pool), np.bool_)
    useful = (losses <= np.median(losses, axis=0)).any(axis=1)
    front = sizes[useful][non_dominated(np.column_stack([losses, sizes])[useful])]
    low = np.minimum(pool.max(axis=0), front.min(axis=0) - BEYOND)
    high = np.maximum(front.max(axis=0), low)
    bound = low + (high - low + BEYOND) * generator.random(costs)
    sliced = int(generator.integers(costs))
    within = (pool <= bound).all(axis=1)
    allowed: NDArray[np.bool_] = within & (pool[:, sliced] > bound[sliced] - WINDOW * (high - low + BEYOND)[sliced])
    if allowed.any():
        return allowed
    nearest = np.maximum(pool - bound, 0.0).sum(axis=1)
    found: NDArray[np.bool_] = within if within.any() else nearest <= nearest.min()
    return found
