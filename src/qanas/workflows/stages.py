"""Stages of an estimator's preparation, in a run's folder: resumable, each file named by what it was made from."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qanas.core.errors import InputError
from qanas.core.events import Event
from qanas.core.run_folder import RunFolder, digest, write_atomically
from qanas.execution.executors import Failure, Unit
from qanas.execution.sharing import ALONE, Sharing, one_at_a_time, work_off_shared
from qanas.performance_estimation.base import StageFile as StageFileContract
from qanas.performance_estimation.base import StageUnit
from qanas.planning.dependence import made_from
from qanas.planning.plan import Plan
from qanas.planning.progress import Progress
from qanas.shipping.finalists import FinalistUnit, reference_finalist, train

logger = logging.getLogger("qanas")


DIGEST = "sha256"
"""The key of a note that tells what the file was when it was written; early runs have none."""


@functools.lru_cache(maxsize=1024)
def _digest_of(path: Path, changed: int, size: int) -> str:
    """Return a file's digest; looked at anew where it changed."""
    del changed, size
    return digest(path.read_bytes())


@dataclass(frozen=True)
class StageFile:
    """What one unit of work leaves, and a note on how it went, written after it: where the note is, both are.

    Attributes:
        path: of what it leaves.
    """

    path: Path

    @property
    def note(self) -> Path:
        """The file of the note."""
        return self.path.with_suffix(".json")

    @property
    def finished(self) -> bool:
        """Whether the unit is done."""
        return bool(self.read_note())

    def finish(self, note: Mapping[str, Any]) -> None:
        """Write the note."""
        content = {**note, DIGEST: digest(self.path.read_bytes())}
        write_atomically(self.note, (json.dumps(content) + "\n").encode())

    def read_note(self) -> dict[str, Any]:
        """Return the note; empty where the unit is not done, or what it left was damaged since."""
        try:
            note = json.loads(self.note.read_text("utf-8"))
            kept = self.path.stat()
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(note, dict):
            return {}
        found = _digest_of(self.path, kept.st_mtime_ns, kept.st_size) if DIGEST in note else None
        if note.pop(DIGEST, None) != found:
            logger.warning("%s was damaged and is made anew", self.path)
            return {}
        return note


_SHARE = "let --out, or store.folder, be in a folder that all machines see at the same place"


def _name_of(unit: Unit[Any, Any]) -> str:
    """Return what a unit is called among coordinators: what it leaves, without the folder where each has it."""
    assert isinstance(unit, StageUnit)  # noqa: S101 - nothing else was submitted
    return f"{unit.file.path.parent.name}/{unit.file.path.name}"


def _is_done(unit: Unit[Any, Any]) -> bool:
    assert isinstance(unit, StageUnit)  # noqa: S101 - see above
    return unit.file.finished


class RunStages:
    """See `qanas.performance_estimation.base.Stages`.

    Args:
        plan: with the resolved recipe.
        folder: of the run.
        progress: who watches.
        sharing: with other coordinators, in a folder that all of them see.

    Attributes:
        effort: CPU seconds of each stage, over all sessions.
        worked: whether this session has made something; one that finds all of it made tells the times of before.
    """

    def __init__(self, plan: Plan, folder: RunFolder, progress: Progress, sharing: Sharing = ALONE) -> None:
        """Read what earlier sessions took."""
        self._sharing = sharing
        self._plan = plan
        self._folder = folder
        self._progress = progress
        self.worked = False
        self.effort: dict[str, float] = folder.seconds_before("effort_cpu_seconds")
        self._in_units = 0.0  # CPU seconds of this process in stages of their own

    def reference(self) -> Path:
        """Return the weights of the reference's first repetition, trained as the estimator's procedure says."""
        finalist = reference_finalist(self._plan, self._plan.estimator.procedure)
        unit = FinalistUnit.of(self._folder, finalist, 0)
        trainings, trained = train(self._plan, "teacher", [unit], self._progress, self._sharing)
        self.worked |= trained > 0
        training = trainings[finalist.identity, 0]
        if not unit.files.weights.is_file():
            raise InputError(f"teacher: the reference can't be trained: {training.failure}")
        self.effort["teacher"] = training.cpu_seconds
        return unit.files.weights

    def folder(self, name: str, *stages: str) -> Path:
        """Return a folder of the run, named by what those stages are made from."""
        digests = [made_from(stage, self._plan.recipe) for stage in stages]
        return self._folder.path / name / "-".join(digests)

    def file(self, folder: str, name: str, suffix: str, stage: str, *more: object) -> StageFile:
        """Return a file of a stage, named by what it is made from."""
        digest = made_from(stage, self._plan.recipe, *more)
        return StageFile(self._folder.blocks / folder / f"{name}-{digest}{suffix}")

    def keep_only(self, files: Sequence[StageFileContract]) -> None:
        """Remove what earlier sessions made from other inputs."""
        kept = {part for file in files for part in (file.path, file.path.with_suffix(".json"))}
        for home in {file.path.parent for file in files}:
            if home.is_dir():
                for path in home.iterdir():
                    being_written = self._sharing is not ALONE and path.name.startswith(".")
                    if path not in kept and not being_written:
                        path.unlink()

    def work_off(self, stage: str, units: Sequence[StageUnit]) -> None:
        """Run the units whose files are not finished yet."""
        waiting = [unit for unit in units if not unit.file.finished]
        self.worked |= bool(waiting)
        self._progress.stage(stage, len(units), len(units) - len(waiting))
        order = {id(unit): position for position, unit in enumerate(waiting)}
        started = time.process_time()

        def on_event(unit: Unit[Any, Any], event: Event) -> bool:
            self._progress.epoch(order[id(unit)], event)
            return True

        with self._plan.engine.executor(
            self._plan.bench, min(self._plan.jobs, max(len(waiting), 1)), on_event
        ) as executor:
            for unit, result in work_off_shared(executor, waiting, self._sharing, _name_of, _is_done):
                assert isinstance(unit, StageUnit)  # noqa: S101 - nothing else was submitted
                if isinstance(result, Failure):
                    raise InputError(f"{stage}: {unit.label} failed: {result.reason}")
                if not unit.file.finished:
                    raise InputError(f"{unit.file.path}: it was left on another machine; {_SHARE}")
                note = unit.file.read_note() if result is None else result
                logger.info("%s %s %s", stage, unit.label, {k: v for k, v in note.items() if k != "losses"})
                self._progress.unit_finished(unit.label)
        self._in_units += time.process_time() - started
        self.effort[stage] = sum(unit.file.read_note().get("cpu_seconds", 0.0) for unit in units)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note the CPU seconds of what is done in this process, in place of what an earlier session noted of it."""
        with one_at_a_time(self._sharing, f"stage {stage}"):
            started, elsewhere = time.process_time(), self._in_units
            yield
        if self.worked or stage not in self.effort:
            self.effort[stage] = time.process_time() - started - (self._in_units - elsewhere)

    def message(self, text: str) -> None:
        """Print a line that stays."""
        self._progress.message(text)
