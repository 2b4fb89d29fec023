"""A surrogate of a table: the logarithm of a path's noise is nearly a sum over its layers.

On CamVid's blocks within 1 to 2 %, so that some hundred scored rows predict thousands. How far predictions are off is
measured on the scored rows themselves, each predicted by the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from qanas.performance_estimation.block_table.layers import Path, Row, positions_by_bits
from qanas.quantization.numbers.affine import WeightBits
from qanas.supernet.paths import strictly_fair_paths

ROWS_PER_UNKNOWN = 4
"""Scored rows for each number that is fitted."""

LARGEST_LEVERAGE = 0.99
"""Of a scored row on its own prediction: beyond it, the others say next to nothing about it."""

SMALLEST = np.finfo(np.float64).tiny
"""Stands for a score of 0, which no path of a trained block has: it spoils the fit, and its error tells."""


def rows_to_fit(options: Sequence[int], bits: Sequence[WeightBits], seed: int) -> list[Row]:
    """Return rows in which every option of a layer is about equally frequent, for each of the bits.

    Args:
        options: how many each layer has.
        bits: of weights.
        seed: of the choice.
    """
    unknowns = 1 + sum(count - 1 for count in options)
    generator = torch.Generator().manual_seed(seed)
    rows: list[Row] = []
    for width in bits:
        paths: set[Path] = set()
        for _ in range(-(-ROWS_PER_UNKNOWN * unknowns // max(options))):
            paths.update(strictly_fair_paths(options, generator))
        rows += [(width, path) for path in sorted(paths)]
    return rows


@dataclass(frozen=True)
class AdditiveModel:
    """Predicts scores of rows on some samples; rows of other bits have nothing to do with each other.

    Attributes:
        options: how many each layer has.
        effects: by bits, shape (all layers' options, samples): what an option adds to the logarithm of a score.
        error: standard deviation of the mean of a row's predictions over the samples, relative to it.
    """

    options: tuple[int, ...]
    effects: Mapping[WeightBits, NDArray[np.float64]]
    error: float

    @classmethod
    def fitted(cls, options: tuple[int, ...], rows: Sequence[Row], scores: NDArray[np.float64]) -> AdditiveModel:
        """Fit by least squares.

        Args:
            options: how many each layer has.
            rows: with every one of the bits that will be asked for.
            scores: shape (rows, samples).
        """
        effects: dict[WeightBits, NDArray[np.float64]] = {}
        misses: list[NDArray[np.float64]] = []
        for bits, positions in positions_by_bits(rows).items():
            present = _present(options, [rows[position][1] for position in positions])
            known = np.log(np.maximum(scores[positions], SMALLEST))
            inverse = np.linalg.pinv(present)
            effects[bits] = np.asarray(inverse @ known, np.float64)
            # What a row's score is to a prediction by all others, from one fit (Allen 1974).
            left_out = 1.0 - np.einsum("rk,kr->r", present, inverse)
            missed = (known - present @ effects[bits]).mean(axis=1)
            told = left_out > 1.0 - LARGEST_LEVERAGE
            misses.append(np.where(told, missed / np.where(told, left_out, 1.0), np.inf))
        return cls(options, effects, float(np.sqrt(np.mean(np.concatenate(misses) ** 2))))

    def predict(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        """Return scores, shape (rows, samples)."""
        samples = next(iter(self.effects.values())).shape[1]
        logarithms = np.empty((len(rows), samples))
        for bits, positions in positions_by_bits(rows).items():
            present = _present(self.options, [rows[position][1] for position in positions])
            logarithms[positions] = present @ self.effects[bits]
        scores: NDArray[np.float64] = np.exp(logarithms)
        return scores


def _present(options: Sequence[int], paths: Sequence[Path]) -> NDArray[np.float64]:
    """Return 1 for what a path has and 0 for what it hasn't, shape (paths, all layers' options)."""
    chosen = np.array(paths)
    return np.concatenate([np.eye(count)[chosen[:, layer]] for layer, count in enumerate(options)], axis=1)
