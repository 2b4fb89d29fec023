"""A race: rows of a table are scored on ever more samples, and dropped where another one beats them beyond doubt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qanas.core.pareto import non_dominated
from qanas.performance_estimation.block_table.layers import Row

Score = Callable[[Sequence[int], Sequence[Row]], NDArray[np.float64]]
"""From positions of samples and rows to scores, shape (rows, samples)."""


@dataclass(frozen=True)
class RacingSettings:
    """When rows are dropped.

    Attributes:
        quick_rounds: after how many samples, by quick scores.
        rounds: after how many samples, by a row's own scores.
        z: standard errors by which a row has to be worse. At 4, chance drops one of 30,000 pairs that are equal.
    """

    quick_rounds: tuple[int, ...] = (4, 12)
    rounds: tuple[int, ...] = (24, 48)
    z: float = 4.0


@dataclass
class Heat:
    """A part of a race in which all scores are taken in one way.

    Attributes:
        score: of rows on samples.
        rounds: after how many samples rows are dropped.
        error: standard deviation of a score's own error, relative to it, however many samples it is over; asked for
            after each round.
    """

    score: Score
    rounds: tuple[int, ...]
    error: float = 0.0


@dataclass(frozen=True)
class RaceResult:
    """What a race came to.

    Attributes:
        means: the score of every row over the samples that it was scored on (or predicted), in its last heat.
        samples: how many those were, or a prediction rests on.
        alive: positions of the rows that are left.
        scores: of those in the last heat, shape (rows left, samples), the samples in the race's order.
    """

    means: NDArray[np.float64]
    samples: NDArray[np.int64]
    alive: NDArray[np.intp]
    scores: NDArray[np.float64]


def race(
    heats: Sequence[Heat], rows: Sequence[Row], costs: NDArray[np.float64], order: Sequence[int], z: float
) -> RaceResult:
    """Score rows round by round and drop those that another one beats.

    Args:
        heats: one after the other, each from the first sample on.
        rows: all of them.
        costs: shape (rows, k): what each row costs.
        order: positions of all samples, in the order in which they are used.
        z: standard errors by which a row has to be worse.
    """
    means, counts = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    alive = np.arange(len(rows))
    for heat in heats:
        scores = np.empty((len(alive), 0))
        for end in heat.rounds:
            fresh = order[scores.shape[1] : end]
            if not fresh:
                break
            scores = np.concatenate([scores, heat.score(fresh, [rows[int(position)] for position in alive])], axis=1)
            means[alive], counts[alive] = scores.mean(axis=1), scores.shape[1]
            kept = surviving(scores, costs[alive], len(order), z, heat.error)
            alive, scores = alive[kept], scores[kept]
    return RaceResult(means, counts, alive, scores)


def surviving(
    scores: NDArray[np.float64], costs: NDArray[np.float64], population: int, z: float, error: float = 0.0
) -> NDArray[np.bool_]:
    """Tell which rows no other one beats.

    Only rows on the front so far are tried as the better ones: what another row would beat, one of them beats too,
    but for noise.

    Args:
        scores: shape (rows, samples).
        costs: shape (rows, k).
        population: how many samples there are in all; the error of their mean falls to 0 as they are all seen.
        z: standard errors.
        error: of a score by itself, relative to it.
    """
    seen = scores.shape[1]
    kept = np.ones(len(scores), np.bool_)
    if seen < 2:  # noqa: PLR2004 - one sample has no standard error
        return kept
    unseen_share = max(0.0, 1.0 - seen / population)
    means = scores.mean(axis=1)
    for better in non_dominated(np.column_stack([means, costs])):
        rivals = np.flatnonzero(kept & (costs >= costs[better]).all(axis=1))
        rivals = rivals[rivals != better]
        differences = scores[rivals] - scores[better]
        of_samples = differences.var(axis=1, ddof=1) * unseen_share / seen
        of_scores = error**2 * (means[rivals] ** 2 + means[better] ** 2)
        kept[rivals[differences.mean(axis=1) > z * np.sqrt(of_samples + of_scores)]] = False
    return kept
