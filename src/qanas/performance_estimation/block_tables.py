"""The estimator of block-wise search: distilled blocks, scored quantized, whose scores add up (Lu et al. 2023)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file

from qanas.core.errors import InputError
from qanas.core.events import Event, Watch
from qanas.core.measures import Cost, Measure, Metric, Score, columns_of
from qanas.core.run_folder import write_atomically
from qanas.core.seeds import derive_seed
from qanas.core.trials import TrialRecord
from qanas.performance_estimation.base import Estimate, Estimator, StageFile, Stages, StageUnit
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.block_table.files import BlockFiles, FeatureFolders, blocks_of
from qanas.performance_estimation.block_table.layers import BlockLayers
from qanas.performance_estimation.block_table.replaced import ReplacedUnit
from qanas.performance_estimation.block_table.retrained import (
    RetrainedUnit,
    divided,
    drawn_rows,
    metric_of_retrained,
)
from qanas.performance_estimation.block_table.table import TableBuilder, TableSettings
from qanas.performance_estimation.fitted_score import FittedScore
from qanas.performance_estimation.procedure import Procedure
from qanas.performance_estimation.scored_blocks import ScoredBlocks, ScoreOptions
from qanas.quantization.numbers.affine import WeightBits
from qanas.search_space.additive import AdditiveScores
from qanas.search_space.blockwise_space import Block, BlockwiseSpace
from qanas.search_space.quantization_group import BitsPer
from qanas.search_space.start import Proposal
from qanas.supernet.block_supernet import BlockSupernet
from qanas.supernet.distillation import DistillationSettings, distil
from qanas.supernet.paths import Sampling
from qanas.supernet.teacher_features import BlockFeatures, features_are_there, features_of, write_features
from qanas.training.packed import packed

T = TypeVar("T")

PROBED_PASSES = 3
"""Passes through a supernet that are timed for a forecast."""

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


class DistillationOptions(BaseModel):
    """How each block's supernet is trained: a recipe's ``[distillation]``.

    Attributes:
        steps: paths trained.
        sampling: which paths.
        seeds: supernets of each block, from different seeds; their scores are averaged.
        batch_size: samples of a batch.
        learning_rate: of the first step.
        views: of every training sample that the teacher is asked about: as it is, then changed at random.
    """

    model_config = _STRICT
    steps: int = Field(default=3000, ge=1)
    sampling: Sampling = "fair"
    seeds: int = Field(default=1, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=1.0, gt=0)
    views: int = Field(default=2, ge=1)

    @property
    def settings(self) -> DistillationSettings:
        """What the distillation itself has to know."""
        return DistillationSettings(self.steps, self.sampling, self.batch_size, self.learning_rate)


class TableOptions(BaseModel):
    """What each block's table holds: a recipe's ``[table]``; see `TableSettings`."""

    model_config = _STRICT
    bits: list[WeightBits] = Field(default=[8], min_length=1)
    per: BitsPer = "block"
    full: bool = False
    samples: int | None = Field(default=None, ge=2)
    calibration_samples: int = Field(default=32, ge=2)

    @property
    def settings(self) -> TableSettings:
        """What the making of a table has to know."""
        return TableSettings(tuple(self.bits), self.per, self.full, self.calibration_samples, self.samples)


@dataclass(frozen=True)
class BlockTables(Estimator):
    """Cuts the reference into blocks, distils options for each, and scores every path through a block as quantized.

    What it says of a network is the sum of its blocks' noise-to-signal ratios, without training it.

    Attributes:
        procedure: trains the reference, which teaches.
        distillation: how each block's supernet is trained.
        table: what each block's table holds.
        score: what stands for the metric.
    """

    procedure: Procedure
    distillation: DistillationOptions = field(default_factory=DistillationOptions)
    table: TableOptions = field(default_factory=TableOptions)
    score: ScoreOptions = field(default_factory=ScoreOptions)

    tables: ClassVar[Mapping[str, type[BaseModel]]] = {
        "distillation": DistillationOptions,
        "table": TableOptions,
        "score": ScoreOptions,
    }
    stages = ("supernets", "tables", "replaced", "retrained")
    cheap = True
    offers = (AdditiveScores,)
    starts = ("scratch", "distilled")

    def axis(self, measure: Measure) -> Measure:
        """Return the score in place of a metric."""
        return Score(self.score.name) if isinstance(measure, Metric) else measure

    def check_bench(self, bench: Bench) -> None:
        """Refuse networks without blocks, and a scheme with bits by layer."""
        if not isinstance(bench.networks, BlockwiseSpace):
            raise InputError(
                f"estimation.name: block_tables needs blocks, which {type(bench.networks).__name__} has not"
            )
        if bench.scheme.layers:
            raise InputError("quantization.layers: bits of blocks and layers are searched, table.bits; leave it out")
        has = blocks_of(bench)[0].bits_per
        if has != self.table.per:
            raise InputError(
                f"table.per: {self.table.per}, but the space has a setting of bits for each {has}; "
                f"give per = '{has}', or space.bits_per = '{self.table.per}'"
            )

    def check(self, bench: Bench, measures: Sequence[Measure]) -> None:
        """Refuse what can't be trained, and a fitted score with nothing to fit it to."""
        super().check(bench, measures)
        if self.score.is_fitted:
            if not any(isinstance(measure, Metric) for measure in measures):
                raise InputError(f"score.name: {self.score.name} is fitted to a metric; name one among the objectives")
            divided(bench, self.score.held_out)

    def prepare(self, bench: Bench, stages: Stages, measures: Sequence[Measure]) -> ScoredBlocks:
        """Train the teacher, note what it has at its blocks' borders, distil, and score."""
        teacher = stages.reference()
        blocks = blocks_of(bench)
        columns = columns_of(measure for measure in measures if isinstance(measure, Cost))
        additive = {model.measure.column for model in bench.additive_costs}
        decisive = [name for name in dict.fromkeys(columns) if name in additive]
        made_for = self._made_for(bench, decisive)
        files = [self._files(stages, block, made_for) for block in blocks]
        stages.keep_only([file for entry in files for file in (*entry.supernets, entry.table, entry.replaced)])
        awaited = [file for entry in files for file in (entry.table, *([entry.replaced] if self._replaces else []))]
        if not all(file.finished for file in awaited):
            features = self._write_features(bench, stages, teacher)
            self._write_tables(stages, features, files, tuple(decisive))
            if self._replaces:
                self._write_replaced(stages, features, files, teacher)
        made = ScoredBlocks(self.procedure, self.score, bench, teacher, tuple(files))
        if not self.score.is_fitted:
            return made
        return replace(made, fitted=self._fitted(made, stages, measures))

    @property
    def _replaces(self) -> bool:
        """Whether rows are scored by what they cost the teacher."""
        return self.score.name == "replace_one"

    def _write_tables(
        self, stages: Stages, features: FeatureFolders, files: Sequence[BlockFiles], decisive: tuple[str, ...]
    ) -> None:
        """Distil, and score."""
        supernets = [
            DistillationUnit(file, self, block, features, number)
            for block, entry in enumerate(files)
            for number, file in enumerate(entry.supernets)
        ]
        tables = [
            TableUnit(entry.table, self, block, features, entry.supernets, decisive)
            for block, entry in enumerate(files)
        ]
        stages.work_off("distillation", supernets)
        stages.work_off("tables", tables)

    def _write_replaced(
        self, stages: Stages, features: FeatureFolders, files: Sequence[BlockFiles], teacher: Path
    ) -> None:
        """Measure what each row costs the teacher."""
        units = [
            ReplacedUnit(entry.replaced, self.procedure, block, entry, features, teacher, self.score.samples)
            for block, entry in enumerate(files)
        ]
        stages.work_off("replaced", units)

    def _fitted(self, tables: ScoredBlocks, stages: Stages, measures: Sequence[Measure]) -> FittedScore:
        """Retrain networks, and fit the score to how they come out."""
        score, bench = self.score, tables.bench
        metric = next(measure for measure in measures if isinstance(measure, Metric))
        plain = replace(tables, score=score.plain)
        offered = plain.offer(AdditiveScores)
        decisive = [column for column in columns_of(measures) if column in offered.outside]
        size = decisive[0] if decisive else next(iter(offered.outside))
        seed = derive_seed(bench.seed, "networks of the fit")
        networks = [offered.candidate(r) for r in drawn_rows(offered.tables, size, score.networks, seed)]
        units = []
        for candidate in networks:
            start = tables.finalist_start(bench, candidate, score.start)
            file = stages.file("retrained", f"network_{candidate.key}", ".parquet", "retrained", candidate.key)
            procedure = self.procedure.with_settings(epochs=score.epochs)
            units.append(RetrainedUnit(file, candidate, procedure, start, score.held_out))
        stages.keep_only([unit.file for unit in units])
        stages.work_off("retrained", units)
        losses = [metric.loss(metric_of_retrained(unit.file.path, metric.column)) for unit in units]
        with stages.timed("fit"):
            rows = [tables.rows_of(candidate) for candidate in networks]
            model = score.model if score.name == "calibrated" else "ridge"
            fitted = FittedScore.of(score.plain.name, model, plain.scores, rows, np.array(losses))
        if fitted.warning:
            stages.message(fitted.warning)
        return fitted

    def _made_for(self, bench: Bench, decisive: Sequence[str]) -> list[str]:
        """Return what tables depend on beside the recipe: costs of the race, and sources of devices' costs."""
        # A race keeps the front of the costs alone, whatever the metric and the bounds.
        raced_for = [] if self.table.full else sorted(decisive)
        # Those that a score is fitted on are not the tables'.
        if self.score.is_fitted:
            raced_for = [*raced_for, f"all but {self.score.held_out} of the units"]
        sources = ((model.measure.column, model.digest) for model in bench.additive_costs)
        return [*raced_for, *(f"{column} {digest}" for column, digest in sources if digest)]

    def _files(self, stages: Stages, block: Block, made_for: Sequence[str]) -> BlockFiles:
        """Name the files of a block by what they are made from."""
        supernets = (
            stages.file(block.name, f"supernet_{number}", ".safetensors", "supernets", block.name)
            for number in range(self.distillation.seeds)
        )
        table = stages.file(block.name, "table", ".parquet", "tables", block.name, made_for)
        replaced = stages.file(block.name, "replaced", ".parquet", "replaced", block.name, made_for)
        return BlockFiles(tuple(supernets), table, replaced)

    def _write_features(self, bench: Bench, stages: Stages, teacher: Path) -> FeatureFolders:
        """Pass samples through the teacher, if that was not done before."""
        home = stages.folder("features", "reference") / str(self.distillation.views)
        folders = FeatureFolders(home / "train", home / "held_out")
        if features_are_there(folders.train) and features_are_there(folders.held_out):
            return folders
        stages.message("the teacher's features are computed")
        network = bench.build(bench.reference, 0).eval()
        network.load_state_dict(load_file(teacher))
        blocks = blocks_of(bench)
        with stages.timed("features"):
            if not features_are_there(folders.train):  # somebody who shares the folder may have been faster
                write_features(network, blocks, self._views(bench), folders.train)
            if not features_are_there(folders.held_out):
                held_out = torch.from_numpy(bench.data_of(bench.reference).val.inputs)
                write_features(network, blocks, held_out, folders.held_out)
        return folders

    def _views(self, bench: Bench) -> torch.Tensor:
        """Return the training samples as they are, and changed at random: shape (views * n, *input_shape)."""
        split = bench.data_of(bench.reference).train
        inputs, targets = torch.from_numpy(split.inputs), torch.from_numpy(split.targets)
        generator = torch.Generator().manual_seed(derive_seed(bench.seed, "views"))
        changed = (bench.task.augment(inputs, targets, generator)[0] for _ in range(1, self.distillation.views))
        return torch.cat([inputs, *changed])

    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        """Refuse: there are no tables before `prepare`."""
        del bench, proposal, seed, history, watch
        raise TypeError("block tables estimate once they are prepared")

    def forecast(self, bench: Bench) -> float:
        """Time a few passes through each block's supernet. Tables take less than what they are tables of."""
        blocks = blocks_of(bench)
        teacher = bench.build(bench.reference, 0).eval()
        few = bench.data_of(bench.reference).train.inputs[: self.distillation.batch_size]
        # Nothing is to be learnt here: the features of an untrained teacher may send a learning supernet astray.
        settings = replace(self.distillation.settings, passes=PROBED_PASSES, sampling="uniform", learning_rate=0.0)
        seconds = 0.0
        for block, features in zip(blocks, features_of(teacher, blocks, torch.from_numpy(few)), strict=True):
            supernet = BlockSupernet.seeded(block, 0)
            times = [time.perf_counter()]
            for _ in range(2):
                distil(supernet, features, settings, seed=0)
                times.append(time.perf_counter())
            _, second = (after - before for before, after in pairwise(times))  # the first one is slow
            seconds += second / PROBED_PASSES * self.distillation.steps
        seconds *= self.distillation.seeds
        if self.score.is_fitted:
            retraining = self.procedure.with_settings(epochs=self.score.epochs)
            seconds += self.score.networks * retraining.forecast(bench, bench.reference)
        return seconds


@dataclass(frozen=True)
class BlockUnit(StageUnit):
    """Work on one block.

    Attributes:
        settings: of the tables.
        block: its position.
        features: the teacher's.
    """

    settings: BlockTables
    block: int
    features: FeatureFolders

    @property
    def label(self) -> str:
        """The block."""
        return f"block {self.block + 1}"


@dataclass(frozen=True)
class DistillationUnit(BlockUnit):
    """One supernet of a block.

    Attributes:
        number: of the supernet.
    """

    number: int

    def write(self, bench: Bench, watch: Watch) -> dict[str, Any]:
        """Train the supernet and write its weights."""
        block = blocks_of(bench)[self.block]
        seed = derive_seed(bench.seed, "distillation", block.name, self.number)
        supernet = BlockSupernet.seeded(block, derive_seed(seed, "weights"))
        features = BlockFeatures.mapped(self.features.train, self.block)
        losses: list[float] = []

        def noted(event: Event) -> bool:
            losses.append(event.loss)
            return watch(event)

        distil(supernet, features, self.settings.distillation.settings, derive_seed(seed, "order"), noted)
        write_atomically(self.file.path, packed(supernet.state_dict()))
        return {"losses": losses}


@dataclass(frozen=True)
class TableUnit(BlockUnit):
    """The table of a block.

    Attributes:
        supernets: of the block, distilled.
        decisive: the additive costs that a race keeps the front of, by column.
    """

    supernets: tuple[StageFile, ...]
    decisive: tuple[str, ...]

    def write(self, bench: Bench, watch: Watch) -> dict[str, Any]:
        """Score paths and write the table."""
        del watch
        block = blocks_of(bench)[self.block]
        train = BlockFeatures.mapped(self.features.train, self.block)
        held_out = BlockFeatures.mapped(self.features.held_out, self.block)
        score = self.settings.score
        if score.is_fitted:
            held_out = held_out.part(divided(bench, score.held_out)[0])
        shape = tuple(train.inputs.shape[1:])
        supernets = []
        for file in self.supernets:
            supernet = BlockSupernet(block)
            supernet.load_state_dict(load_file(file.path))
            supernets.append(BlockLayers.of(supernet.eval(), shape, bench.scheme))
        seed = derive_seed(bench.seed, "table", block.name)
        settings = self.settings.table.settings
        builder = TableBuilder(supernets, train, held_out, settings, seed, bench.additive_costs)
        table = builder.build(self.decisive)
        table.write(self.file.path, [[option.name for option in options] for options in block.layers])
        return {
            "rows": len(table.rows),
            "exact_rows": int(table.exact.sum()),
            "samples": int(table.samples.max()),
        }
