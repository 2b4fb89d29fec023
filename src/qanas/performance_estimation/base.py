"""What an estimator is: it says how good a candidate is, for the search alone."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel

from qanas.core.candidate import Candidate
from qanas.core.events import Watch
from qanas.core.measures import Limit, Measure
from qanas.core.trials import CurvePoint, TrialRecord
from qanas.execution.executors import Unit
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import Procedure
from qanas.search_space.start import Proposal, Start

T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """What an estimator says of a candidate.

    Attributes:
        scores: by column: those of `Estimator.axis`, and whatever else is worth a column.
        train_seconds: CPU seconds spent in training.
        train_losses: on training data, by epoch; empty where nothing was trained now.
        curve: scores on training and on validation samples at a few epochs.
    """

    scores: Mapping[str, float]
    train_seconds: float = 0.0
    train_losses: Sequence[float] = ()
    curve: Sequence[CurvePoint] = ()


@dataclass(frozen=True)
class StageUnit(Unit[Bench, dict[str, Any]], ABC):
    """A unit of a stage of preparation: leaves a file and returns a note on how it went, with its ``cpu_seconds``.

    Attributes:
        file: what it leaves; where that is finished, the unit is not run again.
    """

    file: StageFile

    @property
    @abstractmethod
    def label(self) -> str:
        """For people."""

    def run(self, bench: Bench, watch: Watch) -> dict[str, Any]:
        """Write the file, and say that it is finished."""
        started = time.process_time()
        note = self.write(bench, watch)
        note["cpu_seconds"] = time.process_time() - started
        self.file.finish(note)
        return note

    @abstractmethod
    def write(self, bench: Bench, watch: Watch) -> dict[str, Any]:
        """Do the work and write the file; return what its note says of it.

        Args:
            bench: what candidates are measured on.
            watch: told how far it has come.
        """


class StageFile(Protocol):
    """What one unit of a stage leaves, named by a digest of all that it was made from."""

    @property
    def path(self) -> Path:
        """Of the file."""

    @property
    def finished(self) -> bool:
        """Whether it is there as a whole."""

    def finish(self, note: Mapping[str, Any]) -> None:
        """Say that it is, with a note on how it went."""

    def read_note(self) -> dict[str, Any]:
        """Return the note; empty where it is not finished."""


class Stages(Protocol):
    """Where an estimator's preparation is done: resumable, in worker processes, noted in the run's summary."""

    def reference(self) -> Path:
        """Return the weights of the trained reference, a state dict as safetensors; trained if it wasn't before.

        Raises:
            InputError: it can't be trained.
        """

    def folder(self, name: str, *stages: str) -> Path:
        """Return the folder of something that depends on what these stages depend on, and goes with the run."""

    def file(self, folder: str, name: str, suffix: str, stage: str, *more: object) -> StageFile:
        """Return a file of a stage.

        Args:
            folder: below the estimator's.
            name: of the file, before its digest.
            suffix: with the dot.
            stage: whose inputs in the recipe name it.
            more: what else it was made from, as JSON can hold it.
        """

    def keep_only(self, files: Sequence[StageFile]) -> None:
        """Remove what earlier sessions made from other inputs beside these files."""

    def work_off(self, stage: str, units: Sequence[StageUnit]) -> None:
        """Run the units whose files are not finished yet.

        Raises:
            InputError: one failed.
        """

    def timed(self, stage: str) -> AbstractContextManager[None]:
        """Count the CPU seconds of what is done inside for a stage."""

    def message(self, text: str) -> None:
        """Tell whoever watches."""


class Estimator(ABC):
    """Says how good a candidate is. Passes `qanas.testing.check_estimator`.

    Its constructor's first argument is the procedure that the recipe's ``[estimation]`` describes; further ones are
    further keys of that table, or tables of the recipe that `tables` names.
    """

    procedure: Procedure

    tables: ClassVar[Mapping[str, type[BaseModel]]] = {}
    """Tables of a recipe that are this estimator's own, by the constructor's argument that takes them."""

    stages: ClassVar[tuple[str, ...]] = ("trials",)
    """What it leaves in a run's folder between reference and front, by the names that say what depends on what."""

    cheap: ClassVar[bool] = False
    """Whether an estimate takes milliseconds: it is made in the main process, and no trial has a row on disk."""

    reads_history: ClassVar[bool] = False
    """Whether an estimate depends on earlier ones; where it doesn't, it is given none."""

    keeps_weights: ClassVar[bool] = False
    """Whether it trains candidates to the end, and keeps their weights where a proposal asks for it."""

    starts: ClassVar[tuple[str, ...]] = ("scratch",)
    """Kinds of weights that finalists can start from, a recipe's ``[finalists] start``."""

    offers: ClassVar[tuple[type[object], ...]] = ()
    """What a solver can ask of it, once it is prepared, see `offer`."""

    @classmethod
    def bounded(cls, tables: Mapping[str, BaseModel], limits: Sequence[Limit]) -> Mapping[str, BaseModel]:
        """Return its own tables as the constructor takes them, with what limits on costs say where a table doesn't.

        Args:
            tables: of a recipe, those that `tables` names.
            limits: of the same recipe, its device's among them.
        """
        del limits
        return tables

    def keeping(self, folder: Path) -> Estimator:
        """Return the estimator that knows where the weights of trials are kept; itself where it keeps none."""
        del folder
        return self

    def axis(self, measure: Measure) -> Measure:
        """Return what stands for a measure among the objectives; itself where that is what it estimates."""
        return measure

    def check_bench(self, bench: Bench) -> None:
        """Refuse, before any data is read, networks and schemes that can't be estimated.

        Args:
            bench: what candidates are measured on.

        Raises:
            InputError: names the key and the mend.
        """
        del bench

    def check(self, bench: Bench, measures: Sequence[Measure]) -> None:
        """Refuse, before anything is trained, what can't be estimated.

        Args:
            bench: what candidates are measured on.
            measures: objectives, and the costs of limits.

        Raises:
            InputError: names the key and the mend.
        """
        del measures
        self.procedure.check(bench)

    def prepare(self, bench: Bench, stages: Stages, measures: Sequence[Measure]) -> Estimator:
        """Return an estimator that can estimate: itself where nothing is to be done before.

        Args:
            bench: what candidates are measured on.
            stages: do the work.
            measures: objectives, and the costs of limits.

        Raises:
            InputError: a stage failed.
        """
        del bench, stages, measures
        return self

    @abstractmethod
    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        """Return how good a candidate is; the result depends on the arguments but ``watch`` alone.

        Args:
            bench: what candidates are measured on.
            proposal: the candidate, and the weights that it starts from.
            seed: of all that is random.
            history: the trials that were finished when it was proposed.
            watch: told how far it has come.

        Raises:
            TrainingFailed: it can't be estimated, with the reason.
        """

    def refusal(self, bench: Bench, candidate: Candidate) -> str:
        """Return why a candidate can't be estimated at all, before anything is spent on it; empty if it can."""
        del bench, candidate
        return ""

    def offer(self, kind: type[T]) -> T:
        """Return what a solver needs, of one of the kinds that `offers` has."""
        raise TypeError(f"{type(self).__name__} offers no {kind.__name__}")

    def finalist_start(self, bench: Bench, candidate: Candidate, kind: str) -> Start:
        """Return the weights that a finalist starts from.

        Args:
            bench: what candidates are measured on.
            candidate: the finalist.
            kind: one of `starts`.
        """
        del kind
        return bench.start_of(candidate)

    def forecast(self, bench: Bench) -> float:
        """Return about how many CPU seconds the preparation will take."""
        del bench
        return 0.0

    def forecast_estimate(self, bench: Bench) -> float | None:
        """Return about how many CPU seconds an estimate takes, where nothing is trained for it; None: a training."""
        del bench
        return None

    def forecast_asked(self, bench: Bench, asked: Sequence[object]) -> float:
        """Return about how many CPU seconds it takes to have what a solver asks for, see `Strategy.asks_for`."""
        del bench, asked
        return 0.0

    def summary(self) -> dict[str, Any]:
        """Return what the run's summary says of the preparation."""
        return {}
