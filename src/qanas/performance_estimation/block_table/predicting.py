"""A surrogate of a table: the logarithm of a path's noise is nearly a sum over its layers and pairs of layers.

On CamVid's blocks within 1 %, so that some hundred scored rows predict thousands; within 0.5 % where further rows are
scored among those that the first predictions leave. How far predictions are off is measured on the scored rows
themselves, each predicted by the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qanas.core.even_spread import evenly_spread
from qanas.performance_estimation.block_table.layers import Path, Row
from qanas.performance_estimation.block_table.racing import Heat, Score
from qanas.quantization.numbers.affine import WeightBits
from qanas.search_space.quantization_group import BitsPer
from qanas.supernet.paths import strictly_fair_paths

ROWS_PER_UNKNOWN = 4
"""Scored rows for each number that stands for an option by itself."""

FURTHER_ROWS = 300
"""Scored among those that predictions leave, to predict the others better."""

WORTH_FURTHER = 4
"""Times as many are left where that is done."""

ALONE_PENALTY = 1e-6
"""Of large effects of an option with its bits: next to none."""

PAIR_PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 1e6)
"""Of large effects of pairs, the last one without any: that is taken by which each row is predicted best by others."""

SMALLEST = np.finfo(np.float64).tiny
"""Stands for a score of 0, which no path of a trained block has: it spoils the fit, and its error tells."""

Floats = NDArray[np.float64]


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
class RowCodes:
    """What of a row makes a difference to a model, as numbers of effects.

    An effect is one of an option with its bits, of two options of different layers, or of the bits of two layers.

    Attributes:
        options: how many each layer has.
        bits: that rows can have.
    """

    options: tuple[int, ...]
    bits: tuple[WeightBits, ...]

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        return list(itertools.combinations(range(len(self.options)), 2))

    @property
    def sizes(self) -> list[int]:
        """How many effects there are of each kind: of each layer, of each pair's options, of each pair's bits."""
        widths = len(self.bits)
        pairs = [self.options[one] * self.options[other] for one, other in self._pairs]
        return [*(count * widths for count in self.options), *pairs, *[widths * widths] * len(pairs)]

    def of(self, rows: Sequence[Row]) -> NDArray[np.intp]:
        """Return the effects that rows have, one of each kind, shape (rows, kinds)."""
        paths = np.array([row.path for row in rows])
        widths = np.searchsorted(self.bits, np.array([row.bits for row in rows]))
        alone = [widths[:, layer] * count + paths[:, layer] for layer, count in enumerate(self.options)]
        pairs = [paths[:, one] * self.options[other] + paths[:, other] for one, other in self._pairs]
        of_bits = [widths[:, one] * len(self.bits) + widths[:, other] for one, other in self._pairs]
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        codes: NDArray[np.intp] = np.column_stack([*alone, *pairs, *of_bits]) + starts
        return codes

    def present(self, codes: NDArray[np.intp]) -> Floats:
        """Return 1 for the effects that rows have, given shape (rows, kinds), else 0, shape (rows, effects)."""
        present = np.zeros((len(codes), sum(self.sizes)))
        np.put_along_axis(present, codes, 1.0, axis=1)
        return present


@dataclass(frozen=True)
class PairModel:
    """Predicts scores of rows on some samples: ridge regression of their logarithms.

    Attributes:
        codes: what makes a difference.
        mean: of the logarithms, shape (samples,).
        effects: shape (effects, samples).
        error: standard deviation of the mean of a row's predictions over the samples, relative to it.
    """

    codes: RowCodes
    mean: Floats
    effects: Floats
    error: float

    @classmethod
    def fitted(cls, options: tuple[int, ...], rows: Sequence[Row], scores: Floats) -> PairModel:
        """Fit, with the penalty by which rows are predicted best by the others.

        Args:
            options: how many each layer has.
            rows: with every option with all of its bits that will be asked for.
            scores: shape (rows, samples).
        """
        codes = RowCodes(options, tuple(sorted({width for row in rows for width in row.bits})))
        present = codes.present(codes.of(rows))
        known = np.log(np.maximum(scores, SMALLEST))
        first_pair = sum(codes.sizes[: len(options)])
        fits = []
        for penalty in PAIR_PENALTIES:
            scale = np.full(present.shape[1], 1.0 / penalty)
            scale[:first_pair] = 1.0 / ALONE_PENALTY
            mean, weights, error = _ridge((present * scale) @ present.T, known)
            fits.append(cls(codes, mean, scale[:, None] * (present.T @ weights), error))
        return min(fits, key=lambda fit: fit.error)

    def predict(self, rows: Sequence[Row]) -> Floats:
        """Return scores, shape (rows, samples)."""
        logarithms = self.mean + sum(self.effects[column] for column in self.codes.of(rows).T)
        scores: Floats = np.exp(logarithms)
        return scores


def _ridge(kernel: Floats, known: Floats) -> tuple[Floats, Floats, float]:
    """Return a mean without penalty, shape (samples,), weights of rows, shape (rows, samples), and the error.

    The error is that of each row's mean over the samples, predicted by all others, from one fit (Allen 1974).

    Args:
        kernel: of rows' effects over the penalties, shape (rows, rows).
        known: logarithms of scores, shape (rows, samples).
    """
    inverse = np.linalg.inv(kernel + np.eye(len(kernel)))
    sums = inverse.sum(axis=1)
    mean = sums @ known / sums.sum()
    without_mean = inverse - np.outer(sums, sums) / sums.sum()
    left_out = (without_mean @ known).mean(axis=1) / np.diag(without_mean)
    return mean, inverse @ (known - mean), float(np.sqrt(np.mean(left_out**2)))


class Predictions(Heat):
    """Heats in which some rows' scores stand for all.

    Args:
        options: how many each layer has.
        score: of rows on samples.
        end: how many samples rows are scored on.
        own_error: of such a score by itself, relative to it.
    """

    def __init__(self, options: tuple[int, ...], score: Score, end: int, own_error: float) -> None:
        """Know no row yet."""
        super().__init__(self.predicted, (end,))
        self._options = options
        self._score = score
        self._own_error = own_error
        self._known: dict[Row, Any] = {}
        self._model: PairModel | None = None

    def learn(self, samples: Sequence[int], rows: Sequence[Row]) -> None:
        """Score rows on samples, and fit a model to all scored so far."""
        fresh = [row for row in rows if row not in self._known]
        self._known |= dict(zip(fresh, self._score(samples, fresh), strict=True))
        self._model = PairModel.fitted(self._options, list(self._known), np.array(list(self._known.values())))
        self.error = math.hypot(self._model.error, self._own_error)

    def predicted(self, samples: Sequence[int], rows: Sequence[Row]) -> Floats:
        """Return scores of rows, shape (rows, samples); the samples are those that it learnt on."""
        del samples
        assert self._model is not None  # noqa: S101 - it learns before it is asked
        return self._model.predict(rows)


class FurtherPredictions(Heat):
    """The same once more, where many rows are left: some of these are scored, and the rest predicted better.

    Args:
        first: that left them.
    """

    def __init__(self, first: Predictions) -> None:
        """Take over what is known."""
        super().__init__(self.predicted, first.rounds, first.error)
        self._first = first

    def predicted(self, samples: Sequence[int], rows: Sequence[Row]) -> Floats:
        """Return scores of rows, shape (rows, samples)."""
        if len(rows) > WORTH_FURTHER * FURTHER_ROWS:
            self._first.learn(samples, [rows[place] for place in evenly_spread(len(rows), FURTHER_ROWS)])
            self.error = self._first.error
        return self._first.predicted(samples, rows)
