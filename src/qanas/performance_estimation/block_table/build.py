"""From trained supernets of a block to its table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qanas.core.even_spread import evenly_spread
from qanas.performance_estimation.block_table.layers import ADDITIVE_COSTS, BlockLayers
from qanas.performance_estimation.block_table.racing import RacingSettings, race
from qanas.performance_estimation.block_table.samples import ScoredSamples
from qanas.performance_estimation.block_table.statistics import LayerStatistics, PrefixStatistics, SharedStatistics
from qanas.performance_estimation.block_table.table import BlockTable
from qanas.performance_estimation.block_table.walk import Row, score_paths
from qanas.quantization.affine import WeightBits
from qanas.supernet.noise import NoiseToSignal
from qanas.supernet.teacher_features import BlockFeatures
from qanas.training.memory_order import channels_last

PROBED_ROWS = 16
"""Rows that tell how good the shared statistics of a race are."""

SHARED_ROUNDS = 2
"""Rounds of fair paths that the statistics of a race are taken over: 12 paths at 6 options a layer."""


@dataclass(frozen=True)
class TableSettings:
    """What a table holds and how it is made.

    Attributes:
        bits: of the weights of a block.
        full: score every row on every sample with its own statistics, instead of racing.
        calibration_samples: training samples that statistics are taken over.
        samples: held-out samples that paths are scored on; None for all.
        racing: when rows are dropped.
    """

    bits: tuple[WeightBits, ...] = (8,)
    full: bool = False
    calibration_samples: int = 32
    samples: int | None = None
    racing: RacingSettings = field(default_factory=RacingSettings)


class TableBuilder:
    """Scores the paths of a block, averaged over several supernets of it.

    Args:
        supernets: the layers of each, traced.
        train: the teacher's features on training samples.
        held_out: on held-out ones.
        settings: what the table holds.
        seed: of the order of the samples and of the paths of shared statistics.
    """

    def __init__(
        self,
        supernets: Sequence[BlockLayers],
        train: BlockFeatures,
        held_out: BlockFeatures,
        settings: TableSettings,
        seed: int,
    ) -> None:
        """Choose the samples."""
        self.supernets = supernets
        self.held_out = held_out
        self.settings = settings
        self.seed = seed
        self.noise = NoiseToSignal.of(held_out.outputs)
        calibrated = evenly_spread(len(train), settings.calibration_samples)
        self.calibration = channels_last(train.inputs[torch.from_numpy(calibrated)])
        order = np.random.default_rng(seed).permutation(len(held_out))
        self.order = [int(position) for position in order[: settings.samples]]

    def rows(self) -> list[Row]:
        """Return every row of the block."""
        paths = list(itertools.product(*(range(count) for count in self.supernets[0].options)))
        return [(bits, path) for bits in self.settings.bits for path in paths]

    def build(self, objectives: Sequence[str]) -> BlockTable:
        """Return the table.

        Args:
            objectives: names of the additive costs that a race keeps the front of.
        """
        rows = self.rows()
        costs = {name: np.empty(len(rows)) for name in ADDITIVE_COSTS}
        for position, (bits, path) in enumerate(rows):
            for name, value in self.supernets[0].path_costs(path, bits).items():
                costs[name][position] = value
        means, counts = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
        alive = np.arange(len(rows))
        if not self.settings.full:
            columns = np.column_stack([costs[name] for name in objectives])
            quick = _SharedScores(self)
            error = self._error_of(quick, rows)
            result = race(quick, rows, columns, self.order, self.settings.racing, error)
            means, counts, alive = result.means, result.samples, result.alive
        by_sample = self.exact_scores([rows[position] for position in alive])
        means[alive], counts[alive] = by_sample.mean(axis=1), by_sample.shape[1]
        exact = np.zeros(len(rows), np.bool_)
        exact[alive] = True
        return BlockTable(tuple(rows), means, counts, exact, costs, by_sample)

    def _error_of(self, quick: _SharedScores, rows: Sequence[Row]) -> float:
        """Return how far scores with shared statistics scatter about a row's own, relative to them, on some rows."""
        generator = np.random.default_rng(self.seed)
        probed = [rows[i] for i in generator.choice(len(rows), min(PROBED_ROWS, len(rows)), replace=False)]
        positions = self.order[: self.settings.racing.rounds[0]]
        own = self._own_scores(positions, probed)
        ratios = quick(positions, probed).mean(axis=1) / own.mean(axis=1)
        return float(ratios.std(ddof=1)) if len(ratios) > 1 else 0.0

    def exact_scores(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        """Return the scores of rows with their own statistics on all samples, in the order of the samples."""
        return self._own_scores(sorted(self.order), rows)

    def _own_scores(self, positions: Sequence[int], rows: Sequence[Row]) -> NDArray[np.float64]:
        statistics = [PrefixStatistics(net, self.calibration) for net in self.supernets]
        return self._averaged(statistics, positions, rows)

    def _averaged(
        self, statistics: Sequence[LayerStatistics[Any]], positions: Sequence[int], rows: Sequence[Row]
    ) -> NDArray[np.float64]:
        samples = ScoredSamples.of(self.held_out, self.noise, positions)
        tables = [score_paths(entry, samples, rows) for entry in statistics]
        means: NDArray[np.float64] = np.mean([[table[row] for row in rows] for table in tables], axis=0)
        return means


class _SharedScores:
    """Scores rows with statistics that are taken once for all of them."""

    def __init__(self, builder: TableBuilder) -> None:
        self._builder = builder
        self._statistics = [
            SharedStatistics(net, builder.calibration, SHARED_ROUNDS, builder.seed) for net in builder.supernets
        ]

    def __call__(self, positions: Sequence[int], rows: Sequence[Row]) -> NDArray[np.float64]:
        return self._builder._averaged(self._statistics, positions, rows)
