"""Block tables that are made: a network's estimate is looked up, and solvers are given the tables themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from qanas.core.bits import told_bits
from qanas.core.candidate import Candidate
from qanas.core.events import Watch
from qanas.core.measures import Measure, Metric, Score
from qanas.core.trials import TrialRecord
from qanas.hardware.costs import costs_of
from qanas.performance_estimation.base import Estimate, Estimator
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.block_table.files import BlockFiles, blocks_of
from qanas.performance_estimation.block_table.layers import Bits, Row
from qanas.performance_estimation.block_table.replaced import read_losses
from qanas.performance_estimation.block_table.table import BlockTable
from qanas.performance_estimation.fitted_score import FEWEST, FittedScore, ScoreModel
from qanas.performance_estimation.procedure import Procedure
from qanas.search_space.additive import AdditiveScores, AdditiveTable
from qanas.search_space.blockwise_space import BlockwiseSpace
from qanas.search_space.start import Proposal, Start
from qanas.supernet.block_supernet import DistilledStart

T = TypeVar("T")

ScoreName = Literal["nsr_sum", "nsr_log_sum", "replace_one", "nsr_weighted", "calibrated"]

PLACES: Mapping[ScoreName, str] = {
    "nsr_sum": "nsr",
    "nsr_log_sum": "nsr_log",
    "replace_one": "replace",
    "nsr_weighted": "nsr_weighted",
    "calibrated": "calibrated",
}

FITTED_SCORES: Mapping[ScoreName, ScoreName] = {"nsr_weighted": "nsr_sum", "calibrated": "nsr_log_sum"}
"""Scores that are fitted to retrained networks, and the sums whose blocks they weigh."""

SMALLEST_RATIO = 1e-12
"""Whose logarithm stands for that of a ratio of 0."""


class ScoreOptions(BaseModel):
    """What stands for the metric among the objectives: a recipe's ``[score]``. All of them add up over the blocks.

    Attributes:
        name: ``nsr_sum``, the sum of the blocks' noise-to-signal ratios; ``nsr_log_sum``, of their logarithms, so that
            halving a ratio is worth as much in each block; ``replace_one``, of what each block alone, in the quantized
            teacher, adds to its loss on training samples; ``nsr_weighted``, of ratios with weights that are fitted to
            retrained networks; ``calibrated``, of logarithms, likewise.
        samples: training samples of ``replace_one``.
        networks: that are retrained for a fitted score.
        epochs: of each.
        start: the weights that they start from; as finalists where nothing is said.
        held_out: share of the validation units that they are scored on, and tables are not.
        model: of ``calibrated``: a weight a block, or a rising function of each block's logarithm.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    name: ScoreName = "nsr_sum"
    samples: int = Field(default=128, ge=2)
    networks: int = Field(default=20, ge=FEWEST)
    epochs: int = Field(default=15, ge=1)
    start: Literal["scratch", "distilled"] = "scratch"
    held_out: float = Field(default=0.5, gt=0, lt=1)
    model: ScoreModel = "ridge"

    @property
    def place(self) -> str:
        """In front of a block's number: its share of the score, by column."""
        return PLACES[self.name]

    @property
    def is_fitted(self) -> bool:
        """Whether networks are retrained for it."""
        return self.name in FITTED_SCORES

    @property
    def plain(self) -> ScoreOptions:
        """The same without a fit."""
        return self.model_copy(update={"name": FITTED_SCORES.get(self.name, self.name)})

    def of_rows(self, table: BlockTable, files: BlockFiles) -> NDArray[np.float64]:
        """Return the score of a table's rows, before any fit, shape (rows,); NaN where a row has none."""
        plain = self.plain.name
        if plain == "replace_one":
            return read_losses(files.replaced.path, len(table.rows))
        if plain == "nsr_log_sum":
            logs: NDArray[np.float64] = np.log(np.maximum(table.scores, SMALLEST_RATIO))
            return logs
        return table.scores


@dataclass(frozen=True)
class ScoredBlocks(Estimator):
    """Block tables that are made: a network's estimate is looked up.

    Attributes:
        procedure: trains the reference.
        score: what stands for the metric.
        bench: what they were made on.
        teacher: the trained reference's weights.
        files: of each block.
        fitted: the score, where it is fitted to retrained networks.
    """

    procedure: Procedure
    score: ScoreOptions
    bench: Bench
    teacher: Path
    files: tuple[BlockFiles, ...]
    fitted: FittedScore | None = field(default=None, compare=False, repr=False)

    cheap = True
    offers = (AdditiveScores,)
    starts = ("scratch", "distilled")

    def axis(self, measure: Measure) -> Measure:
        """Return the score in place of a metric."""
        return Score(self.score.name) if isinstance(measure, Metric) else measure

    @cached_property
    def block_tables(self) -> list[BlockTable]:
        """The table of every block."""
        return [BlockTable.read(entry.table.path) for entry in self.files]

    @cached_property
    def scores(self) -> list[NDArray[np.float64]]:
        """The score of every row of each table, shape (rows,)."""
        if self.fitted is not None:
            return list(self.fitted.scores)
        return [self.score.of_rows(table, files) for table, files in zip(self.block_tables, self.files, strict=True)]

    @cached_property
    def _positions(self) -> list[dict[Row, int]]:
        """The position of every row in its table, by bits and path."""
        return [{row: position for position, row in enumerate(table.rows)} for table in self.block_tables]

    def rows_of(self, candidate: Candidate) -> list[int]:
        """Return the row of each block's table that a network is made of.

        Raises:
            ValueError: a block of it is in no table.
        """
        rows = []
        for block, positions in zip(blocks_of(self.bench), self._positions, strict=True):
            for name, value in block.settings.items():
                if candidate.architecture.get(name) != value:
                    raise ValueError(f"{block.name} is made for {name} = {value}")
            bits = cast("Bits", block.bits_of(candidate.quantization))
            row = Row(bits, block.path_of(candidate.architecture))
            if row not in positions:
                raise ValueError(f"{block.name} has no row for weights of {told_bits([bits])} bits")
            rows.append(positions[row])
        for block, scores, position in zip(blocks_of(self.bench), self.scores, rows, strict=True):
            if np.isnan(scores[position]):
                raise ValueError(f"{block.name} has no {self.score.name} for a row that its race dropped")
        return rows

    def refusal(self, bench: Bench, candidate: Candidate) -> str:
        """Return which block of a network is in no table: the reference's need not be."""
        del bench
        try:
            self.rows_of(candidate)
        except ValueError as error:
            return str(error)
        return ""

    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        """Return the sum of the scores of a network's rows, and each; rows that a race dropped have rougher ones."""
        del bench, seed, history, watch
        rows = self.rows_of(proposal.candidate)
        each = [float(scores[row]) for scores, row in zip(self.scores, rows, strict=True)]
        scores = {f"{self.score.place}_{place}": score for place, score in enumerate(each, 1)}
        return Estimate({self.score.name: sum(each), **scores})

    def offer(self, kind: type[T]) -> T:
        """Return the exact rows of every table."""
        return cast("T", BlockScores(self)) if kind is AdditiveScores else super().offer(kind)

    def finalist_start(self, bench: Bench, candidate: Candidate, kind: str) -> Start:
        """Return distilled blocks and the teacher's own weights, if asked for."""
        if kind != "distilled" or candidate == bench.reference:
            return bench.start_of(candidate)
        supernets = tuple(entry.supernets[0].path for entry in self.files)
        return DistilledStart(cast("BlockwiseSpace", bench.networks), self.teacher, supernets)

    def summary(self) -> dict[str, Any]:
        """Return the size of the tables, and what the reference costs."""
        names = [block.name for block in blocks_of(self.bench)]
        notes = {name: entry.table.read_note() for name, entry in zip(names, self.files, strict=True)}
        sizes = ("rows", "exact_rows", "samples")
        return {
            "tables": {
                "rows": sum(note.get("rows", 0) for note in notes.values()),
                "blocks": {name: {size: note.get(size) for size in sizes} for name, note in notes.items()},
            },
            "teacher": self.bench.costs_of(self.bench.reference),
            **({"fitted_score": self.fitted.told} if self.fitted is not None else {}),
        }


class BlockScores(AdditiveScores):
    """The exact rows of block tables, as a solver takes them.

    Args:
        scored: the tables.
    """

    def __init__(self, scored: ScoredBlocks) -> None:
        """Take the rows with a score over all samples, and what a network costs outside its blocks."""
        self._bench = scored.bench
        self._tables = scored.block_tables
        self.axis = Score(scored.score.name)
        self.place = scored.score.place
        exact = [table.exact_rows() for table in self._tables]
        self.tables = [
            AdditiveTable(rows, scores[rows], {name: values[rows] for name, values in table.costs.items()})
            for table, scores, rows in zip(self._tables, scored.scores, exact, strict=True)
        ]
        whole = costs_of(self._bench.blueprint(self.candidate([0] * len(self.tables))), self._bench.additive_costs)
        self.outside = {
            name: value - sum(float(table.costs[name][0]) for table in self.tables) for name, value in whole.items()
        }

    def candidate(self, rows: Sequence[int]) -> Candidate:
        """Return the network of one row a block, given by their positions in `tables`."""
        numbers = [int(table.numbers[row]) for table, row in zip(self.tables, rows, strict=True)]
        picked = [table.rows[number] for table, number in zip(self._tables, numbers, strict=True)]
        bits, paths = zip(*picked, strict=True)
        networks = cast("BlockwiseSpace", self._bench.networks)
        return networks.candidate(self._bench.shape, self._bench.reference, paths, bits)
