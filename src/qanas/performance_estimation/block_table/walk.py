"""The scores of many paths in one walk over the tree of their prefixes.

Paths that begin alike are alike as far as that: each prefix is calibrated, quantized and computed once, on the integer
codes that its layers hand on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qanas.performance_estimation.block_table.layers import Prefix, Row
from qanas.performance_estimation.block_table.quantized_layer import Codes
from qanas.performance_estimation.block_table.samples import ScoredSamples
from qanas.performance_estimation.block_table.statistics import LayerStatistics
from qanas.quantization.numbers.affine import WeightBits

Scores = Mapping[Row, NDArray[np.float64]]
"""The quantized noise-to-signal ratio of every sample, by row."""


@torch.no_grad()
def score_paths(statistics: LayerStatistics[Any], samples: ScoredSamples, rows: Iterable[Row]) -> Scores:
    """Return the scores of some rows.

    Args:
        statistics: where batch norms and ranges come from.
        samples: what is scored on.
        rows: paths and bits.
    """
    bits_below: dict[Prefix, set[WeightBits]] = defaultdict(set)
    for bits, path in rows:
        for length in range(1, len(path) + 1):
            bits_below[path[:length]].add(bits)
    if not bits_below:
        return {}
    walk = _Walk(statistics, samples, bits_below)
    start = Codes.of_input(statistics.input, samples)
    walk.below((), statistics.start(), dict.fromkeys(set().union(*bits_below.values()), start))
    return walk.scores


class _Walk:
    """Depth first, so that only the values of one path are in memory."""

    def __init__(
        self,
        statistics: LayerStatistics[Any],
        samples: ScoredSamples,
        bits_below: Mapping[Prefix, set[WeightBits]],
    ) -> None:
        self.statistics = statistics
        self.samples = samples
        self.bits_below = bits_below
        self.scores: dict[Row, NDArray[np.float64]] = {}
        self.longer: dict[Prefix, list[Prefix]] = defaultdict(list)
        for prefix in sorted(bits_below):
            self.longer[prefix[:-1]].append(prefix)

    def below(self, prefix: Prefix, state: Any, codes: Mapping[WeightBits, Codes]) -> None:  # noqa: ANN401
        """Score every path that begins with a prefix.

        Args:
            prefix: the layers passed.
            state: what the statistics know behind it.
            codes: the values behind it, by the bits of its weights.
        """
        layers = self.statistics.layers
        for longer in self.longer[prefix]:
            observed, behind = self.statistics.enter(longer, state)
            outputs = {}
            for bits in sorted(self.bits_below[longer]):
                outputs[bits] = observed.quantized(codes[bits].affine, layers.with_bits(bits))(codes[bits])
            if len(longer) < layers.depth:
                self.below(longer, behind, outputs)
                continue
            for bits, values in outputs.items():
                self.scores[bits, longer] = self.samples.ratios(values.dequantized()).numpy()
