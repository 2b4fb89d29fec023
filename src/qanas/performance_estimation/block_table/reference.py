"""The same scores in the plain way: every path by itself, from calibration to score. For tests and benchmarks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from qanas.performance_estimation.block_table.quantized_layer import Codes
from qanas.performance_estimation.block_table.samples import ScoredSamples
from qanas.performance_estimation.block_table.statistics import PrefixStatistics
from qanas.performance_estimation.block_table.walk import Row, Scores


def score_one_by_one(statistics: PrefixStatistics, samples: ScoredSamples, rows: Iterable[Row]) -> Scores:
    """Return the scores of some rows, nothing shared between them."""
    return {row: score_alone(statistics, samples, row) for row in rows}


@torch.no_grad()
def score_alone(statistics: PrefixStatistics, samples: ScoredSamples, row: Row) -> NDArray[np.float64]:
    """Return the score of one row on every sample."""
    bits, path = row
    scheme = statistics.layers.with_bits(bits)
    state = statistics.start()
    codes = Codes.of_input(statistics.input, samples)
    for length in range(1, len(path) + 1):
        observed, state = statistics.enter(path[:length], state)
        codes = observed.quantized(codes.affine, scheme)(codes)
    scores: NDArray[np.float64] = samples.ratios(codes.dequantized()).numpy()
    return scores
