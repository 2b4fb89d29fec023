"""A block's table: every path's and bit-width's quantized noise-to-signal ratio and costs, and how it is made."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from qanas.core.bits import bits_by_layer
from qanas.core.even_spread import evenly_spread
from qanas.core.run_folder import write_parquet
from qanas.hardware.costs import ADDITIVE_COSTS, CostModel
from qanas.performance_estimation.block_table.layers import BlockLayers, Path, Row, ScoredSamples
from qanas.performance_estimation.block_table.predicting import FurtherPredictions, Predictions, rows_to_fit
from qanas.performance_estimation.block_table.racing import Heat, RacingSettings, race
from qanas.performance_estimation.block_table.walk import (
    LayerStatistics,
    PrefixStatistics,
    RecentStatistics,
    RememberedStatistics,
    affordable_memory,
    score_paths,
)
from qanas.quantization.numbers.affine import WeightBits
from qanas.search_space.quantization_group import BitsPer
from qanas.supernet.distillation import NoiseToSignal
from qanas.supernet.teacher_features import BlockFeatures
from qanas.training.trainer import channels_last


@dataclass(frozen=True)
class BlockTable:
    """The rows of one block.

    Attributes:
        rows: bits and paths.
        scores: the mean quantized noise-to-signal ratio of every row.
        samples: how many held-out samples it is over; a few of an inexact row's may stand for a prediction.
        exact: whether a row has it over all of them and with its own statistics; others were dropped on the way.
        costs: of every row, by their names.
        by_sample: the score of every exact row on every sample, shape (exact rows, samples).
    """

    rows: tuple[Row, ...]
    scores: NDArray[np.float64]
    samples: NDArray[np.int64]
    exact: NDArray[np.bool_]
    costs: Mapping[str, NDArray[np.float64]]
    by_sample: NDArray[np.float64]

    def exact_rows(self) -> NDArray[np.intp]:
        """Return the positions of the exact rows, shape (exact rows,)."""
        return np.flatnonzero(self.exact)

    def losses(self, rows: NDArray[np.intp], costs: Sequence[str]) -> NDArray[np.float64]:
        """Return score and costs of some rows, shape (rows, 1 + costs)."""
        return np.column_stack([self.scores[rows], *(self.costs[name][rows] for name in costs)])

    def write(self, path: FilePath, names: Sequence[Sequence[str]]) -> None:
        """Write the table as one Parquet file.

        Args:
            path: of the file; it appears whole or not at all.
            names: of the options of every layer, for people.
        """
        by_sample: list[list[float] | None] = [None] * len(self.rows)
        for position, scores in zip(self.exact_rows(), self.by_sample, strict=True):
            by_sample[position] = scores.tolist()
        frame = {
            "weight_bits": [list(bits) for bits, _ in self.rows],
            "path": [list(row) for _, row in self.rows],
            "options": [
                "-".join(options[position] for options, position in zip(names, row, strict=True))
                for _, row in self.rows
            ],
            "nsr": self.scores,
            "samples": self.samples,
            "exact": self.exact,
            **self.costs,
            "nsr_by_sample": by_sample,
        }
        write_parquet(path, pl.DataFrame(frame, schema_overrides={"nsr_by_sample": pl.List(pl.Float64)}))

    @classmethod
    def read(cls, path: FilePath) -> Self:
        """Return a table that `write` wrote."""
        # By its content: a path with brackets or stars would be taken for a pattern.
        frame = pl.read_parquet(io.BytesIO(FilePath(path).read_bytes()))
        known = {"weight_bits", "path", "options", "nsr", "samples", "exact", "nsr_by_sample"}
        paths: list[Path] = list(map(tuple, frame["path"].to_list()))
        bits = bits_by_layer(frame["weight_bits"].to_list(), paths)
        kept = frame["nsr_by_sample"].drop_nulls().to_list()
        return cls(
            tuple(map(Row, bits, paths)),
            frame["nsr"].to_numpy(),
            frame["samples"].to_numpy(),
            frame["exact"].to_numpy(),
            {name: frame[name].to_numpy() for name in frame.columns if name not in known},
            np.array(kept),
        )


PROBED_ROWS = 8
"""Rows that tell how good the statistics of a race are."""

MOST_FITTED = 0.5
"""Of all rows: where a model has to be fitted to more, each row is scored instead."""

MOST_PASSES = 0.1
"""Passes of the calibration samples for the statistics of a race, for each path with each of the bits."""


@dataclass(frozen=True)
class TableSettings:
    """What a table holds and how it is made.

    Attributes:
        bits: of weights.
        per: what has bits of its own.
        full: score every row on every sample with its own statistics, instead of racing.
        calibration_samples: training samples that statistics are taken over.
        samples: held-out samples that paths are scored on; None for all.
        racing: when rows are dropped.
    """

    bits: tuple[WeightBits, ...] = (8,)
    per: BitsPer = "block"
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
        seed: of the order of the samples and of the statistics of a race.
        models: of additive costs that rows are given.
    """

    def __init__(
        self,
        supernets: Sequence[BlockLayers],
        train: BlockFeatures,
        held_out: BlockFeatures,
        settings: TableSettings,
        seed: int,
        models: Sequence[CostModel] = ADDITIVE_COSTS,
    ) -> None:
        """Choose the samples."""
        self.models = models
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
        if self.settings.per == "block":
            return [Row.alike(bits, path) for bits in self.settings.bits for path in paths]
        widths = list(itertools.product(self.settings.bits, repeat=self.supernets[0].depth))
        return [Row(bits, path) for bits in widths for path in paths]

    def build(self, objectives: Sequence[str]) -> BlockTable:
        """Return the table.

        Args:
            objectives: names of the additive costs that a race keeps the front of.
        """
        rows = self.rows()
        costs = self.supernets[0].costs(rows, self.models)
        if self.settings.full:
            by_sample = self.exact_scores(rows)
            every = np.full(len(rows), by_sample.shape[1]), np.ones(len(rows), np.bool_)
            return BlockTable(tuple(rows), by_sample.mean(axis=1), *every, costs, by_sample)
        return self._raced(rows, costs, np.column_stack([costs[name] for name in objectives]))

    def _raced(
        self, rows: Sequence[Row], costs: Mapping[str, NDArray[np.float64]], objectives: NDArray[np.float64]
    ) -> BlockTable:
        """Return the table whose exact rows a race leaves, by costs of shape (rows,), objectives of shape (rows, k)."""
        settings = self.settings.racing
        options = self.supernets[0].options
        memory = affordable_memory(options, MOST_PASSES * math.prod(options) * len(self.settings.bits))
        quick = _Scores(self, [RecentStatistics(net, self.calibration, memory, self.seed) for net in self.supernets])
        own = _Scores(self, [RememberedStatistics(statistics) for statistics in self._own_statistics()])
        error = self._error_of(quick, own, rows)
        heats: list[Heat] = [Heat(quick, settings.quick_rounds, error), Heat(own, settings.rounds)]
        scored = rows_to_fit(options, self.settings.bits, self.settings.per, self.seed)
        if len(scored) < MOST_FITTED * len(rows):
            end = settings.quick_rounds[0]
            predictions = Predictions(options, quick, end, error)
            predictions.learn(self.order[:end], scored)
            heats = [predictions, FurtherPredictions(predictions), *heats]
        result = race(heats, rows, objectives, self.order, settings.z)
        seen = result.scores.shape[1]
        rest = own(self.order[seen:], [rows[position] for position in result.alive])
        by_sample = np.concatenate([result.scores, rest], axis=1)[:, np.argsort(self.order)]
        means, counts = result.means, result.samples
        means[result.alive], counts[result.alive] = by_sample.mean(axis=1), by_sample.shape[1]
        exact = np.zeros(len(rows), np.bool_)
        exact[result.alive] = True
        return BlockTable(tuple(rows), means, counts, exact, costs, by_sample)

    def _error_of(self, quick: _Scores, own: _Scores, rows: Sequence[Row]) -> float:
        """Return how far quick scores scatter about a row's own, relative to them, on some rows."""
        generator = np.random.default_rng(self.seed)
        probed = [rows[i] for i in generator.choice(len(rows), min(PROBED_ROWS, len(rows)), replace=False)]
        positions = self.order[: self.settings.racing.quick_rounds[0]]
        ratios = quick(positions, probed).mean(axis=1) / own(positions, probed).mean(axis=1)
        return float(ratios.std(ddof=1)) if len(ratios) > 1 else 0.0

    def exact_scores(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        """Return scores with the rows' own statistics on all samples, in their order, shape (rows, samples)."""
        return _Scores(self, self._own_statistics())(sorted(self.order), rows)

    def _own_statistics(self) -> list[PrefixStatistics]:
        return [PrefixStatistics(net, self.calibration) for net in self.supernets]


class _Scores:
    """Scores rows on samples, averaged over the supernets.

    Args:
        builder: of the table.
        statistics: of each supernet.
    """

    def __init__(self, builder: TableBuilder, statistics: Sequence[LayerStatistics[Any]]) -> None:
        self._builder = builder
        self._statistics = statistics

    def __call__(self, positions: Sequence[int], rows: Sequence[Row]) -> NDArray[np.float64]:
        if not positions:
            return np.empty((len(rows), 0))
        samples = ScoredSamples.of(self._builder.held_out, self._builder.noise, positions)
        tables = [score_paths(entry, samples, rows) for entry in self._statistics]
        means: NDArray[np.float64] = np.mean([[table[row] for row in rows] for table in tables], axis=0)
        return means
