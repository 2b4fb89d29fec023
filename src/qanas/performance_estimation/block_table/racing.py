"""A surrogate of a table: the logarithm of a path's noise is nearly a sum over its layers.

On CamVid's blocks within 1 to 2 %, so that some hundred scored rows predict thousands. How far predictions are off is
measured on the scored rows themselves, each predicted by the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from qanas.core.pareto import non_dominated
from qanas.performance_estimation.block_table.layers import Path, Row
from qanas.quantization.numbers.affine import WeightBits
from qanas.search_space.blockwise_space import BitsPer
from qanas.supernet.paths import strictly_fair_paths

ROWS_PER_UNKNOWN = 4
"""Scored rows for each number that is fitted."""

LARGEST_LEVERAGE = 0.99
"""Of a scored row on its own prediction: beyond it, the others say next to nothing about it."""

SMALLEST = np.finfo(np.float64).tiny
"""Stands for a score of 0, which no path of a trained block has: it spoils the fit, and its error tells."""


def rows_to_fit(options: Sequence[int], bits: Sequence[WeightBits], per: BitsPer, seed: int) -> list[Row]:
    """Return rows in which every option of a layer is about equally frequent with each of the bits.

    Args:
        options: how many each layer has.
        bits: of weights.
        per: what has bits of its own.
        seed: of the choice.
    """
    generator = torch.Generator().manual_seed(seed)
    if per == "block":
        return [Row.alike(width, path) for width in bits for path in _fair_paths(options, generator)]
    # A choice of a layer is one of its options with bits.
    choices = _fair_paths([count * len(bits) for count in options], generator)
    picked = [[divmod(choice, count) for choice, count in zip(path, options, strict=True)] for path in choices]
    return [Row(tuple(bits[width] for width, _ in row), tuple(option for _, option in row)) for row in picked]


def _fair_paths(options: Sequence[int], generator: torch.Generator) -> list[Path]:
    unknowns = 1 + sum(count - 1 for count in options)
    paths: set[Path] = set()
    for _ in range(-(-ROWS_PER_UNKNOWN * unknowns // max(options))):
        paths.update(strictly_fair_paths(options, generator))
    return sorted(paths)


@dataclass(frozen=True)
class AdditiveModel:
    """Predicts scores of rows on some samples: what an option with its bits adds is the same whatever the others are.

    Where all layers have the same bits, rows of other bits have nothing to do with each other.

    Attributes:
        options: how many each layer has.
        bits: that rows can have.
        effects: shape (all layers' options with each of the bits, samples): what each adds to the logarithm of a score.
        error: standard deviation of the mean of a row's predictions over the samples, relative to it.
    """

    options: tuple[int, ...]
    bits: tuple[WeightBits, ...]
    effects: NDArray[np.float64]
    error: float

    @classmethod
    def fitted(cls, options: tuple[int, ...], rows: Sequence[Row], scores: NDArray[np.float64]) -> AdditiveModel:
        """Fit by least squares.

        Args:
            options: how many each layer has.
            rows: with every option with all of its bits that will be asked for.
            scores: shape (rows, samples).
        """
        bits = tuple(sorted({width for row in rows for width in row.bits}))
        present = _present(options, bits, rows)
        known = np.log(np.maximum(scores, SMALLEST))
        inverse = np.linalg.pinv(present)
        effects = np.asarray(inverse @ known, np.float64)
        # What a row's score is to a prediction by all others, from one fit (Allen 1974).
        left_out = 1.0 - np.einsum("rk,kr->r", present, inverse)
        missed = (known - present @ effects).mean(axis=1)
        told = left_out > 1.0 - LARGEST_LEVERAGE
        misses = np.where(told, missed / np.where(told, left_out, 1.0), np.inf)
        return cls(options, bits, effects, float(np.sqrt(np.mean(misses**2))))

    def predict(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        """Return scores, shape (rows, samples)."""
        scores: NDArray[np.float64] = np.exp(_present(self.options, self.bits, rows) @ self.effects)
        return scores


def _present(options: Sequence[int], bits: Sequence[WeightBits], rows: Sequence[Row]) -> NDArray[np.float64]:
    """Return 1 for what a row has and 0 for what it hasn't, shape (rows, all layers' options with each of the bits)."""
    paths = np.array([row.path for row in rows])
    widths = np.searchsorted(bits, np.array([row.bits for row in rows]))
    parts = []
    for layer, count in enumerate(options):
        parts.append(np.eye(count * len(bits))[widths[:, layer] * count + paths[:, layer]])
    return np.concatenate(parts, axis=1)


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


@dataclass(frozen=True)
class Heat:
    """A part of a race in which all scores are taken in one way.

    Attributes:
        score: of rows on samples.
        rounds: after how many samples rows are dropped.
        error: standard deviation of a score's own error, relative to it, however many samples it is over.
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
