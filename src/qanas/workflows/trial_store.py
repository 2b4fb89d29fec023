"""The trials of a run, in Optuna's storage."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from qanas.core.candidate import Candidate, Value
from qanas.core.measurement import Limit, Measurement, Objective
from qanas.search_space.space import SearchSpace
from qanas.workflows.interrupts import interrupts_deferred

STUDY = "qanas"
RECORD = "record"
SEARCH_SECONDS = "search_seconds"

Outcome = Literal["measured", "failed", "rejected"]


@dataclass(frozen=True)
class TrialRecord:
    """One trial: what was measured, or why it failed or was rejected.

    Attributes:
        index: of the counted trial, from 0, the seed network; a rejected one has that of the trial it was to be.
        outcome: ``measured`` and ``failed`` ones count; ``rejected`` ones cost no training.
        config: the candidate's settings, group by group.
        costs: from shapes alone.
        metrics: validation metrics; empty unless measured.
        reason: why it failed or was rejected.
        blamed: the cost whose limit rejected it.
        is_seed: whether it is the seed network.
        feasible: whether it meets every limit; the seed network is measured even if not.
        train_seconds: CPU seconds spent in training.
        started_at: seconds since 1970 (UTC) at which it was asked for.
        finished_at: seconds since 1970 (UTC) at which its outcome was known.
        number: Optuna's number of the trial.
    """

    index: int
    outcome: Outcome
    config: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    blamed: str = ""
    is_seed: bool = False
    feasible: bool = True
    train_seconds: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    number: int = -1

    @property
    def candidate(self) -> Candidate:
        """What was tried."""
        return Candidate(**self.config)

    @property
    def measurement(self) -> Measurement:
        """What was measured."""
        return Measurement(self.metrics, self.costs, self.train_seconds)

    def row(self) -> dict[str, Any]:
        """Return the trial as a row of a table."""
        settings = {name: value for group in self.config.values() for name, value in group.items()}
        return {
            "number": self.number,
            "index": self.index if self.outcome in ("measured", "failed") else None,
            "key": self.candidate.key,
            "outcome": self.outcome,
            "reason": self.reason or None,
            "seed_network": self.is_seed,
            "feasible": self.feasible,
            **self.metrics,
            **self.costs,
            **settings,
            "train_seconds": self.train_seconds,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
        }


class TrialStore:
    """All trials of a run, kept by Optuna in SQLite: its dashboard opens the file.

    A trial is there as a whole or as one that is still running. Of those that were running when their process
    died, the ones that have a record are closed as it says when the store is opened again; the others are closed
    without one, and their index is free again.

    Args:
        path: the SQLite file.
        objectives: axes of the front.
        limits: bounds on costs, known to samplers as constraints.
    """

    @interrupts_deferred()
    def __init__(self, path: Path, objectives: tuple[Objective, ...], limits: tuple[Limit, ...]) -> None:
        """Open the study, or create it."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.objectives = objectives
        self.limits = limits
        directions = [objective.direction for objective in objectives]
        if not path.exists():
            # Created beside and renamed: a half-made database would stop every later run.
            partial = path.with_name(f".{path.name}.partial")
            partial.unlink(missing_ok=True)
            study = optuna.create_study(study_name=STUDY, storage=_url(partial), directions=directions)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                study.set_metric_names([objective.name for objective in objectives])
            partial.replace(path)
        self.study = optuna.load_study(study_name=STUDY, storage=_url(path))
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING, TrialState.WAITING]):
            record = _record(trial) if RECORD in trial.user_attrs else None
            self._close(trial.number, record)

    @interrupts_deferred()
    def records(self) -> list[TrialRecord]:
        """Return every finished trial, in the order of Optuna's numbers."""
        trials = self.study.get_trials(deepcopy=False)
        return [_record(trial) for trial in trials if trial.state.is_finished() and RECORD in trial.user_attrs]

    @property
    def search_seconds(self) -> float:
        """Wall-clock seconds that the search has taken, over all sessions."""
        return float(self.study.user_attrs.get(SEARCH_SECONDS, 0.0))

    @interrupts_deferred()
    def set_search_seconds(self, seconds: float) -> None:
        """Store the wall-clock seconds."""
        self.study.set_user_attr(SEARCH_SECONDS, seconds)

    @interrupts_deferred()
    def ask(self, space: SearchSpace, sampler: BaseSampler) -> tuple[Trial, Candidate]:
        """Return a new trial and the candidate that the sampler proposes for it."""
        self.study.sampler = sampler
        trial = self.study.ask()
        return trial, space.sample(partial(suggest, trial))

    @interrupts_deferred()
    def tell(self, trial: Trial, record: TrialRecord) -> TrialRecord:
        """Close an asked trial with what became of it."""
        for limit in self.limits:
            trial.set_constraint(limit.cost, limit.excess(record.costs))
        trial.set_user_attr(RECORD, asdict(record))
        self._close(trial.number, record)
        return replace(record, number=trial.number)

    def _close(self, number: int, record: TrialRecord | None) -> None:
        """End a running trial as its record says; failed where there is none."""
        if record is not None and record.outcome == "measured":
            self.study.tell(number, self._values(record))
            return
        # Pruned, a rejected trial teaches samplers which limit it broke; failed ones teach nothing.
        rejected = record is not None and record.outcome == "rejected"
        self.study.tell(number, state=TrialState.PRUNED if rejected else TrialState.FAIL)

    def _values(self, record: TrialRecord) -> list[float]:
        return [record.measurement.value(objective.name) for objective in self.objectives]

    @interrupts_deferred()
    def add_seed(self, space: SearchSpace, record: TrialRecord) -> TrialRecord:
        """Add the seed network's trial, in one piece; samplers learn its settings as far as they are searched."""
        parameters, distributions = space.parameters(record.candidate)
        measured = record.outcome == "measured"
        self.study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE if measured else TrialState.FAIL,
                values=self._values(record) if measured else None,
                params=parameters,
                distributions=distributions,
                user_attrs={RECORD: asdict(record)},
                constraints={limit.cost: limit.excess(record.costs) for limit in self.limits},
            )
        )
        number = len(self.study.get_trials(deepcopy=False)) - 1
        return replace(record, number=number)


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Value:
    """Let the trial's sampler choose a value from a range."""
    match distribution:
        case IntDistribution():
            return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
        case FloatDistribution():
            return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
        case CategoricalDistribution():
            return cast("Value", trial.suggest_categorical(name, distribution.choices))
    raise TypeError(f"{name}: no setting has a {type(distribution).__name__}")


def _url(path: Path) -> str:
    return f"sqlite:///{path}"


def _record(trial: FrozenTrial) -> TrialRecord:
    return TrialRecord(**{**trial.user_attrs[RECORD], "number": trial.number})


def most_blamed(records: list[TrialRecord]) -> tuple[str, int]:
    """Return the cost whose limit rejected most, and how many."""
    return Counter(record.blamed for record in records if record.outcome == "rejected").most_common(1)[0]
