"""Pareto fronts of points whose every coordinate is to be minimised."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def non_dominated(losses: Points) -> NDArray[np.intp]:
    """Return the indices of the points that no other point dominates.

    A point dominates another if it is nowhere worse and somewhere better. Of equal points the first one stays.
    Points are visited in lexicographic order, in which a dominating point always precedes a dominated one, so that
    one sweep is enough: O(n log n) with two coordinates; with three the sweep searches a sorted staircase (Kung, Luccio
    & Preparata 1975); with more, points are compared with all that were kept.

    Args:
        losses: shape (n, k), every coordinate to be minimised; no NaN.

    Returns:
        Indices into ``losses``, in lexicographic order of the points.

    >>> non_dominated(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0]])).tolist()
    [0, 1]
    """
    # lexsort sorts by its last key first; it is stable, so of equal points the first one comes first.
    order = np.lexsort(losses.T[::-1])
    ordered = losses[order]
    sweep = {1: _first, 2: _below_all_before, 3: _below_the_staircase}.get(losses.shape[1], _below_none_kept)
    kept: NDArray[np.intp] = order[sweep(ordered)]
    return kept


def _first(ordered: Points) -> NDArray[np.intp]:
    return np.arange(min(len(ordered), 1))


def _below_all_before(ordered: Points) -> NDArray[np.intp]:
    last = ordered[:, 1]
    lowest = np.minimum.accumulate(last)
    return np.flatnonzero(np.append(np.ones(min(len(last), 1), np.bool_), last[1:] < lowest[:-1]))


def _below_the_staircase(ordered: Points) -> NDArray[np.intp]:
    """Return the positions of the front of points in ascending order, shape (n, 3), as shape (kept,).

    A sweep along the first coordinate; the staircase is the front, in the other two, of all points before.
    """
    kept: list[int] = []
    seconds: list[float] = []  # ascending
    thirds: list[float] = []  # descending
    for index, (second, third) in enumerate(ordered[:, 1:].tolist()):
        step = bisect_right(seconds, second)
        if step and thirds[step - 1] <= third:
            continue
        kept.append(index)
        start = bisect_left(seconds, second, 0, step)
        while step < len(thirds) and thirds[step] >= third:
            step += 1
        seconds[start:step] = [second]
        thirds[start:step] = [third]
    return np.array(kept, dtype=np.intp)


def _below_none_kept(ordered: Points) -> NDArray[np.intp]:
    kept: list[int] = []
    front = np.empty_like(ordered)
    for index, point in enumerate(ordered):
        if not np.any(np.all(front[: len(kept)] <= point, axis=1)):
            front[len(kept)] = point
            kept.append(index)
    return np.array(kept, dtype=np.intp)


def hypervolume(losses: Points, reference: Sequence[float]) -> float:
    """Return the volume that the points dominate below a reference point.

    Slices along the last axis and recurses: O(n^(k-1) log n), meant for fronts of at most a few hundred points
    and few objectives (Fonseca et al. 2006 describe the sweep).

    Args:
        losses: shape (n, k), every coordinate to be minimised.
        reference: k coordinates; points beyond it in any of them add nothing.

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), [3.0, 3.0])
    3.0
    """
    bound = np.asarray(reference, dtype=np.float64)
    inside = losses[np.all(losses < bound, axis=1)]
    if inside.size == 0:
        return 0.0
    front = inside[non_dominated(inside)]
    if front.shape[1] == 1:
        return float(bound[0] - front[:, 0].min())
    order = np.argsort(front[:, -1], kind="stable")
    levels = np.append(front[order, -1], bound[-1])
    return sum(
        hypervolume(front[order[: rank + 1], :-1], bound[:-1].tolist()) * float(levels[rank + 1] - levels[rank])
        for rank in range(len(order))
        if levels[rank + 1] > levels[rank]
    )


def spread(losses: Points, count: int) -> NDArray[np.intp]:
    """Choose points spread over a front: the extremes first, then always the point farthest from the chosen ones.

    Distances are Euclidean over coordinates scaled to [0, 1] (greedy k-centre, Gonzalez 1985).

    Args:
        losses: shape (n, k).
        count: how many to choose; all where there are fewer.

    Returns:
        Indices into ``losses``, in the order of the first coordinate.
    """
    if len(losses) <= count:
        return np.argsort(losses[:, 0], kind="stable")
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    chosen: list[int] = []
    for axis in range(losses.shape[1]):
        best = int(np.argmin(scaled[:, axis]))
        if best not in chosen and len(chosen) < count:
            chosen.append(best)
    while len(chosen) < count:
        gaps = np.linalg.norm(scaled[:, None, :] - scaled[None, chosen, :], axis=2).min(axis=1)
        gaps[chosen] = -1.0
        chosen.append(int(np.argmax(gaps)))
    picked = np.array(sorted(chosen), dtype=np.intp)
    return picked[np.argsort(losses[picked, 0], kind="stable")]
