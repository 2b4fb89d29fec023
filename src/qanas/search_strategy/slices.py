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

    1. Draw a slice of sizes: networks whose cost is up to a bound, and not much smaller. Bounds are uniform on a
       logarithmic scale up to a little over the largest network of the front.
    2. Fit a Gaussian process to the metric alone, of settings and costs. Costs need no model: they are known.
    3. Take the lower confidence bound's best within the slice.

    So every size has its turn, however many of a front's points are at one end of it, and each turn is spent on what
    may be the best of its size. With several costs each has a bound, and a slice of one of them; several metrics are
    weighted at random (Knowles 2006), which costs can't be: a sum rewards what is small and useless.

    Args:
        groups: of the rows' columns.
        seen: candidates that were trained, n of them.
        losses: of theirs, shape (n, metrics), everything to be minimised.
        pool: candidates to choose from.
        seed: of all that is random.
    """
    generator = np.random.default_rng(seed)
    count = len(seen.rows)
    sizes, pool_sizes = np.split(_scaled(np.concatenate([seen.costs, pool.costs])), [count])
    weights = generator.dirichlet(np.ones(losses.shape[1]))
    target = sum(weight * _clipped(column) for weight, column in zip(weights, losses.T, strict=True))
    allowed = _slice(sizes, pool_sizes, losses, generator)
    columns = seen.rows.shape[1]
    all_groups = [*groups, *(ColumnGroup([columns + number], 1) for number in range(sizes.shape[1]))]
    process = GaussianProcess(all_groups, np.column_stack([seen.rows, sizes]), np.asarray(target), seed)
    places = np.flatnonzero(allowed)
    mean, sd = process.predict(np.column_stack([pool.rows, pool_sizes])[places])
    return int(places[np.argmin(mean - generator.choice(CAUTION) * sd)])


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
    front = sizes[non_dominated(np.column_stack([losses, sizes]))]
    low = np.minimum(pool.min(axis=0), front.min(axis=0))
    high = np.maximum(front.max(axis=0), low)
    bound = low + (high - low + BEYOND) * generator.random(costs)
    sliced = int(generator.integers(costs))
    within = (pool <= bound).all(axis=1)
    allowed = within & (pool[:, sliced] > bound[sliced] - WINDOW * (high - low + BEYOND)[sliced])
    if allowed.any():
        return allowed
    nearest = np.maximum(pool - bound, 0.0).sum(axis=1)
    found: NDArray[np.bool_] = within if within.any() else nearest <= nearest.min()
    return found
