"""Gaussian-process regression with the length scales of groups of columns, fitted by what is likeliest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FITTING_STEPS = 40
"""Length scales and noise that are tried."""

PRIOR_SD = 0.8
"""Standard deviation of the logarithm of every length scale, and of the noise."""

NUMBERS, OPTIONS = 0.5, 1.5
"""Length scales that are expected of columns from 0 to 1: of numbers, and of one column an option."""

NOISE = 0.4
"""Standard deviation of noise that is expected, relative to that of the targets."""

JITTER = 1e-6


@dataclass(frozen=True)
class ColumnGroup:
    """Columns that share a length scale.

    Attributes:
        columns: which.
        settings: how many settings they encode: distances grow with the root of that.
        numbers: whether a column is a number; else each is an option.
    """

    columns: Sequence[int]
    settings: int
    numbers: bool = True

    @property
    def expected(self) -> float:
        """The logarithm of the length scale that is expected."""
        return float(np.log((NUMBERS if self.numbers else OPTIONS) * np.sqrt(self.settings)))


class GaussianProcess:
    """A posterior over functions: Matern 5/2, noise, a constant mean.

    Length scales and noise are those of the largest posterior density among `FITTING_STEPS` steps of a random walk
    from what is expected (Rasmussen & Williams 2006, algorithm 2.1 for each): the same arguments, the same process.

    Args:
        groups: of columns; those in none don't matter.
        rows: shape (n, columns).
        targets: shape (n,).
        seed: of the walk.
    """

    def __init__(self, groups: Sequence[ColumnGroup], rows: Array, targets: Array, seed: int = 0) -> None:
        """Fit."""
        self._groups = groups
        self._rows = rows
        self._mean = float(targets.mean())
        self._scale = float(targets.std()) + 1e-9
        scaled = (targets - self._mean) / self._scale
        squares = self._squares(rows, rows)
        expected = np.array([*(group.expected for group in groups), np.log(NOISE)])
        generator = np.random.default_rng(seed)
        best, found = expected, _solved(squares, scaled, expected, expected)
        step = 0.5
        for _ in range(FITTING_STEPS):
            moved = generator.normal(size=len(expected)) * step * (generator.random(len(expected)) < 0.5)  # noqa: PLR2004 - half of them
            tried = _solved(squares, scaled, best + moved, expected)
            if tried.cost < found.cost:
                best, found = best + moved, tried
            else:
                step = max(0.15, 0.97 * step)
        self.scales = best
        self._fit = found

    def _squares(self, first: Array, second: Array) -> Array:
        """Return squared distances of rows (n, columns) and (m, columns) by group, shape (groups, n, m)."""
        found = np.zeros((len(self._groups), len(first), len(second)))
        for place, group in enumerate(self._groups):
            one, other = first[:, group.columns], second[:, group.columns]
            norms = (one**2).sum(1)[:, None] + (other**2).sum(1)[None]
            found[place] = np.maximum(norms - 2 * one @ other.T, 0.0)
        return found

    def predict(self, rows: Array) -> tuple[Array, Array]:
        """Return means and standard deviations of the function, shape (m,) each, at rows of shape (m, columns)."""
        kernel = _kernel(self._squares(rows, self._rows), self.scales)
        mean = kernel @ self._fit.weights
        solved = np.linalg.solve(self._fit.root, kernel.T)
        variance = np.maximum(1.0 - (solved**2).sum(0), JITTER)
        return mean * self._scale + self._mean, np.sqrt(variance) * self._scale


@dataclass(frozen=True)
class _Fit:
    """A kernel matrix, solved: its Cholesky root, shape (n, n), and the weights of the targets, shape (n,)."""

    cost: float
    root: Array
    weights: Array


def _kernel(squares: Array, scales: Array) -> Array:
    """Return the correlations, shape (n, m), of squared distances by group, shape (groups, n, m)."""
    distance = np.sqrt(5 * np.tensordot(np.exp(-2 * scales[: len(squares)]), squares, 1) + 1e-12)
    correlations: Array = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return correlations


def _solved(squares: Array, targets: Array, scales: Array, expected: Array) -> _Fit:
    """Return the fit of targets, shape (n,), under scales; its cost is minus the log posterior density."""
    count = len(targets)
    matrix = _kernel(squares, scales) + (np.exp(2 * scales[-1]) + JITTER) * np.eye(count)
    try:
        root = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return _Fit(np.inf, np.eye(count), np.zeros(count))
    weights = np.linalg.solve(root.T, np.linalg.solve(root, targets))
    prior = 0.5 * (((scales - expected) / PRIOR_SD) ** 2).sum()
    cost = 0.5 * targets @ weights + np.log(np.diag(root)).sum() + prior
    return _Fit(float(cost), root, weights)
