"""From images to a front without training a whole candidate."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from qanas.core.errors import InputError
from qanas.core.measurement import Objective
from qanas.core.run_folder import RunFolder
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.block_table.table import BlockTable
from qanas.supernet.distilled_start import DistilledStart
from qanas.supernet.teacher_features import write_features
from qanas.workflows.blockwise.files import BlockFiles, StageFile, remove_stale, teacher_digest
from qanas.workflows.blockwise.solution import BlockwisePoint, solve
from qanas.workflows.blockwise.teacher import load_teacher, teacher_unit
from qanas.workflows.blockwise.units import (
    BlockUnit,
    DistillationUnit,
    FeatureFolders,
    TableUnit,
    blocks_of,
    blockwise_space,
)
from qanas.workflows.finalists import train
from qanas.workflows.plan import BlockwisePlan, Setup
from qanas.workflows.progress import Progress
from qanas.workflows.search import Search
from qanas.workflows.units import Failure, Unit
from qanas.workflows.workers import make_executor

logger = logging.getLogger("qanas")


class BlockwiseSearch(Search):
    """Teacher, features, supernets, tables, front; each stage is skipped where its files are there.

    Args:
        setup: plan and data.
        plan: the plan's own part for this kind of search.
        folder: of the run.
        progress: who watches.
    """

    def __init__(self, setup: Setup, plan: BlockwisePlan, folder: RunFolder, progress: Progress) -> None:
        """Name the files."""
        self._setup = setup
        self._plan = plan
        self._folder = folder
        self._progress = progress
        self._blocks = blocks_of(setup)
        self._files = [BlockFiles.of(folder, block.name, setup.plan, plan.supernets) for block in self._blocks]
        self._front: list[BlockwisePoint] = []
        self._started = time.monotonic()
        before = folder.read_summary()
        self._seconds_before = float(before.get("seconds", {}).get("search", 0.0))
        self._effort: dict[str, float] = before.get("effort_cpu_seconds", {})

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The recipe's, the sum of the blocks' scores in place of the metric."""
        costs = [
            objective for objective in self._setup.plan.objectives if objective.name in self._setup.plan.cost_names
        ]
        return (Objective(self._plan.score), *costs)

    def run(self) -> None:
        """Go through the stages that are not done yet.

        Raises:
            InputError: the teacher can't be trained, or a block can't be distilled or scored.
        """
        unit = teacher_unit(self._setup, self._folder)
        trainings, _ = train(self._setup, "teacher", [unit], self._progress)
        teacher = trainings[unit.finalist.identity, unit.seed]
        if not unit.files.weights.is_file():
            raise InputError(f"teacher: the seed network can't be trained: {teacher.failure}")
        self._effort["teacher"] = teacher.cpu_seconds
        remove_stale(self._files)
        if not all(entry.table.finished for entry in self._files):
            features = self._write_features()
            self._work_off("distillation", self._distillations(features))
            self._work_off("tables", self._tables(features))
        tables = [BlockTable.read(entry.table.path) for entry in self._files]
        with self._cpu_time_of("search"):
            self._front = solve(self._setup, self._plan, tables)
        self._progress.message(f"front of {len(self._front)} networks")

    def front(self) -> Sequence[BlockwisePoint]:
        """Return the front; empty before the tables are there."""
        return self._front

    def setup_of_finalists(self, setup: Setup) -> Setup:
        """Return the setup in which candidates start from distilled blocks, if the plan says so."""
        if not self._plan.distilled_finalists:
            return setup
        supernets = tuple(entry.supernets[0].path for entry in self._files)
        teacher = teacher_unit(setup, self._folder).files.weights
        return setup.with_start(DistilledStart(blockwise_space(setup), teacher, supernets))

    def write_tables(self) -> None:
        """Do nothing: every stage has written its files."""

    def summary(self) -> dict[str, Any]:
        """Return the effort of each stage in CPU seconds, the size of the tables, and the costs of the teacher."""
        distilled = [file.read_note() for entry in self._files for file in entry.supernets]
        tables = {block.name: entry.table.read_note() for block, entry in zip(self._blocks, self._files, strict=True)}
        sizes = ("rows", "exact_rows", "samples")
        return {
            "effort_cpu_seconds": {
                **self._effort,
                "distillation": sum(note.get("cpu_seconds", 0.0) for note in distilled),
                "tables": sum(note.get("cpu_seconds", 0.0) for note in tables.values()),
            },
            "tables": {
                "rows": sum(note.get("rows", 0) for note in tables.values()),
                "blocks": {name: {size: note.get(size) for size in sizes} for name, note in tables.items()},
            },
            "front": len(self._front),
            "teacher": self._setup.problem.costs(self._setup.space.reference),
            "seconds": self._seconds_before + time.monotonic() - self._started,
        }

    # Stages

    @contextmanager
    def _cpu_time_of(self, stage: str) -> Iterator[None]:
        """Note the CPU seconds of what is done in this process, in place of what an earlier session noted."""
        started = time.process_time()
        yield
        self._effort[stage] = time.process_time() - started

    def _write_features(self) -> FeatureFolders:
        """Pass samples through the teacher, if that was not done before."""
        setup, recipe = self._setup, self._setup.plan.recipe
        home = self._folder.features / f"{teacher_digest(recipe)}-{self._plan.views}"
        folders = FeatureFolders(home / "train", home / "held_out")
        if folders.train.is_dir() and folders.held_out.is_dir():
            return folders
        self._progress.message("the teacher's features are computed")
        teacher = load_teacher(setup, self._folder)
        with self._cpu_time_of("features"):
            write_features(teacher, self._blocks, self._views(), folders.train)
            write_features(teacher, self._blocks, torch.from_numpy(setup.problem.data.val.inputs), folders.held_out)
        return folders

    def _views(self) -> torch.Tensor:
        """Return the training samples as they are, and changed at random as they are in training."""
        problem = self._setup.problem
        split = problem.data.train
        inputs, targets = torch.from_numpy(split.inputs), torch.from_numpy(split.targets)
        generator = torch.Generator().manual_seed(derive_seed(self._setup.plan.seed, "views"))
        changed = (problem.task.augment(inputs, targets, generator)[0] for _ in range(1, self._plan.views))
        return torch.cat([inputs, *changed])

    def _distillations(self, features: FeatureFolders) -> list[tuple[StageFile, BlockUnit]]:
        return [
            (file, DistillationUnit(block, files, features, seed))
            for block, files in enumerate(self._files)
            for seed, file in enumerate(files.supernets)
        ]

    def _tables(self, features: FeatureFolders) -> list[tuple[StageFile, BlockUnit]]:
        return [(files.table, TableUnit(block, files, features)) for block, files in enumerate(self._files)]

    def _work_off(self, stage: str, wanted: Sequence[tuple[StageFile, BlockUnit]]) -> None:
        """Do the units whose files are not there yet."""
        waiting = [unit for file, unit in wanted if not file.finished]
        self._progress.stage(stage, len(wanted), len(wanted) - len(waiting))
        order = {id(unit): position for position, unit in enumerate(waiting)}

        def on_passes(unit: Unit[dict[str, Any]], _: int, passes: int, loss: float) -> None:
            self._progress.epoch(order[id(unit)], passes, self._plan.distillation.passes, loss)

        jobs = min(self._setup.plan.jobs, max(len(waiting), 1))
        with make_executor(self._setup, jobs, on_passes) as executor:
            for unit, result in executor.work_off(waiting):
                assert isinstance(unit, BlockUnit)  # noqa: S101 - nothing else was submitted
                block = self._blocks[unit.block].name
                if isinstance(result, Failure):
                    raise InputError(f"{stage}: {block} failed: {result.reason}")
                logger.info("%s %s %s", stage, block, {key: note for key, note in result.items() if key != "losses"})
                self._progress.unit_finished(block)
