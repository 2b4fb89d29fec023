"""The trials of a run, in Optuna's storage."""

from __future__ import annotations

import fcntl
import functools
import json
import logging
import os
import sqlite3
import tempfile
import urllib.parse
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import ExperimentalWarning, OptunaError, StorageInternalError
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from qanas.core.candidate import Candidate, Value
from qanas.core.errors import InputError
from qanas.core.measures import Limit, Measure, columns_of
from qanas.core.run_folder import digest, locks_lacking
from qanas.core.trials import TrialRecord
from qanas.execution.interrupts import interrupts_deferred
from qanas.search_space.space import SearchSpace
from qanas.search_space.start import Proposal

logger = logging.getLogger("qanas")

PATIENCE = 300
"""Seconds for which another program may keep the database locked."""

STUDY = "qanas"
RECORD = "record"
PARAMETERS = "parameters"
DIGEST = "digest"
SEARCH_SECONDS = "search_seconds"
NONE: Mapping[str, Any] = MappingProxyType({})
CONSTRAINTS = "constraints"
"""In the keys under which Optuna keeps how far a trial is over limits; that follows from its record."""


class TrialStore:
    """All trials of a run: in memory, where samplers learn of them, and in a SQLite file that Optuna's dashboard opens.

    Samplers ask hundreds of times what a file would have to be read for, and choose dozens of settings, each a
    transaction of its own. So a trial is kept when it has ended, in one piece: of those that were running when their
    process died nothing is kept, and their index is free again. Older runs kept running trials, too: those that have a
    record are closed as it says, the others without one.

    Args:
        path: the SQLite file; None for trials that cost nothing and are done anew instead of kept.
        axes: of the front.
        limits: bounds on costs, known to samplers as constraints.

    Attributes:
        study: in memory; what samplers see.
        records: of every trial that ended, in that order.
        under_way: what is trained now, by the trial's index, see `begin`.
    """

    @interrupts_deferred()
    def __init__(self, path: Path | None, axes: Sequence[Measure], limits: Sequence[Limit]) -> None:
        """Open the file, or create it, and read it."""
        self.path = path
        self.axes = axes
        self.limits = limits
        self.study = optuna.create_study(study_name=STUDY, directions=[axis.direction for axis in axes])
        self.records: list[TrialRecord] = []
        self.under_way: dict[int, tuple[str, str]] = {}
        self._asked: dict[int, Trial] = {}
        self._kept: Study | None = None
        self._ended = 0
        self._seconds = 0.0
        if path is not None:
            try:
                with told(path):
                    self._kept = _open_file(path, axes)
                    self._read(self._kept)
            except (
                LookupError,
                ValueError,
                TypeError,
                AttributeError,
            ) as error:  # a damaged row
                logger.exception("%s", path)
                raise InputError(f"{path}: the database was damaged ({error}); {_BACKUP}") from error

    def _read(self, kept: Study) -> None:
        self._seconds = float(kept.user_attrs.get(SEARCH_SECONDS, 0.0))
        trials = kept.get_trials(deepcopy=False)
        self._ended = len(trials)
        for trial in trials:
            record = read_record(trial) if RECORD in trial.user_attrs else None
            if not trial.state.is_finished():
                self._close(kept, trial.number, record)
            if record is not None:
                parameters, distributions = parameters_of(trial)
                self.study.add_trial(self._trial(record, parameters, distributions, trial.system_attrs))
                self.records.append(record)

    def _told(self) -> AbstractContextManager[None]:
        """Turn errors of the database into a line each."""
        return nullcontext() if self.path is None else told(self.path)

    @property
    def search_seconds(self) -> float:
        """Wall-clock seconds that the search has taken, over all sessions."""
        return self._seconds

    @interrupts_deferred()
    def set_search_seconds(self, seconds: float) -> None:
        """Store the wall-clock seconds."""
        self._seconds = seconds
        if self._kept is not None:
            with self._told():
                self._kept.set_user_attr(SEARCH_SECONDS, seconds)

    @interrupts_deferred()
    def suggest(self, space: SearchSpace, sampler: BaseSampler) -> Proposal:
        """Return a new trial with the candidate that a sampler proposes for it."""
        self.study.sampler = sampler
        trial = self.study.ask()
        self._asked[trial.number] = trial
        return Proposal(space.sample(partial(suggest, trial)), number=trial.number)

    def news(self) -> list[TrialRecord]:
        """Return what others found since; nobody else writes to this one."""
        return []

    @property
    def held(self) -> Collection[int]:
        """The indices that somebody works on, as far as that is kept here."""
        return ()

    @property
    def elsewhere(self) -> Collection[tuple[str, str]]:
        """What others train now, see `begin`."""
        return ()

    def claim(self, index: int) -> bool:
        """Take an index; false where somebody else has it."""
        del index
        return True

    def holds(self, index: int) -> bool:
        """Tell whether a claimed index is still this one's."""
        del index
        return True

    def release(self, index: int) -> None:
        """Give an index back."""

    def begin(self, space: SearchSpace, index: int, proposal: Proposal, training: tuple[str, str]) -> bool:
        """Say what is trained for an index; false where somebody else does the same training.

        Args:
            space: of the candidate.
            index: that was claimed.
            proposal: what is trained.
            training: what tells it from others.
        """
        del space, proposal
        self.under_way[index] = training
        return True

    def wait(self) -> bool:
        """Wait a little for what others work on; false where there are none."""
        return False

    @interrupts_deferred()
    def drop(self, number: int | None) -> None:
        """Close a trial without a record, as if it had never been asked for: samplers learn nothing of it."""
        if number is not None:
            del self._asked[number]
            self._close(self.study, number, None)

    @interrupts_deferred()
    def tell(self, space: SearchSpace, number: int | None, record: TrialRecord) -> bool:
        """Add what became of a candidate; false where its index was given to somebody else meanwhile.

        Args:
            space: whose settings samplers learn from one that they didn't propose.
            number: of the trial that it was proposed for; None where it is no sampler's of Optuna.
            record: what became of it.
        """
        if record.outcome != "rejected":
            self.under_way.pop(record.index, None)
        if number is None:
            trial = self._trial(record, *space.parameters(record.candidate))
            self.study.add_trial(trial)
        else:
            trial = self._finish(number, record)
        if self._kept is not None:
            with self._told():
                self._keep(self._kept, trial, record)
        self.records.append(replace(record, number=self._ended))
        self._ended += 1
        return True

    def _finish(self, number: int, record: TrialRecord) -> FrozenTrial:
        """End a trial that was asked for."""
        trial = self._asked.pop(number)
        for column, excess in self._excess(record).items():
            trial.set_constraint(column, excess)
        self._close(self.study, number, record)
        return self.study.get_trials(deepcopy=False)[number]

    def _keep(self, kept: Study, trial: FrozenTrial, record: TrialRecord) -> None:
        """Write a trial. All of a rejected one, of which there may be many, is in its record: one row."""
        if record.outcome != "rejected":
            settings = trial.params, trial.distributions
            kept.add_trial(self._trial(record, *settings, trial.system_attrs, {RECORD: stored(record)}))
            return
        settled = stored_with_settings(record, trial.params, trial.distributions)
        kept.add_trial(optuna.trial.create_trial(state=TrialState.PRUNED, user_attrs={RECORD: settled}))

    def _trial(
        self,
        record: TrialRecord,
        parameters: Mapping[str, Any] = NONE,
        distributions: Mapping[str, BaseDistribution] = NONE,
        system_attrs: Mapping[str, Any] = NONE,
        user_attrs: Mapping[str, Any] = NONE,
    ) -> FrozenTrial:
        """Return a trial that has ended; samplers learn its settings as far as they are searched."""
        measured = record.outcome == "measured"
        return optuna.trial.create_trial(
            state=TrialState.COMPLETE if measured else _state_without_values(record),
            values=self._values(record) if measured else None,
            params=dict(parameters),
            distributions=dict(distributions),
            user_attrs=dict(user_attrs),
            system_attrs={name: value for name, value in system_attrs.items() if not name.startswith(CONSTRAINTS)},
            constraints=self._excess(record),
        )

    def _close(self, study: Study, number: int, record: TrialRecord | None) -> None:
        """End a running trial as its record says; failed where there is none."""
        if record is not None and record.outcome == "measured":
            study.tell(number, self._values(record))
        else:
            study.tell(number, state=_state_without_values(record))

    def _excess(self, record: TrialRecord) -> dict[str, float]:
        """Return by how much a candidate is over each limit; one that gave no network has no costs."""
        known = [limit for limit in self.limits if limit.cost.column in record.costs]
        return {limit.cost.column: limit.excess(record.costs) for limit in known}

    def _values(self, record: TrialRecord) -> list[float]:
        return [record.measurement.value(axis) for axis in self.axes]


def _state_without_values(record: TrialRecord | None) -> TrialState:
    """Return what samplers are told: a rejected trial teaches them which limit it broke; failed ones teach nothing."""
    rejected = record is not None and record.outcome == "rejected"
    return TrialState.PRUNED if rejected else TrialState.FAIL


def parameters_of(trial: FrozenTrial) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """Return a kept trial's settings and their ranges."""
    kept = trial.user_attrs[RECORD].get(PARAMETERS, {})
    ranges = {name: json_to_distribution(text) for name, (_, text) in kept.items()}
    return trial.params | {name: value for name, (value, _) in kept.items()}, trial.distributions | ranges


def _open_file(path: Path, axes: Sequence[Measure]) -> Study:
    directions = [axis.direction for axis in axes]
    if not path.exists():
        # Created beside and renamed: a half-made database would stop every later run.
        partial_path = path.with_name(f".{path.name}.partial")
        partial_path.unlink(missing_ok=True)
        study = optuna.create_study(study_name=STUDY, storage=_storage(partial_path), directions=directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(columns_of(axes))
        partial_path.replace(path)
    if not path.stat().st_size:
        raise KeyError(STUDY)
    study = optuna.load_study(study_name=STUDY, storage=_storage(path))
    names = study.metric_names
    if names is not None and names != columns_of(axes):
        raise InputError(f"{path}: its trials were scored by {', '.join(names)}: {_ANOTHERS}")
    return study


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


def _storage(path: Path) -> RDBStorage:
    """Return the database as Optuna takes it; no character of the path means anything else, as it would in a URL."""
    return RDBStorage(f"sqlite:///{STUDY}.db", engine_kwargs={"creator": functools.partial(_connection, path)})


def _connection(path: Path) -> sqlite3.Connection:
    quoted = urllib.parse.quote(os.fsencode(path.absolute()))
    locks = "" if _can_lock(path.parent) else "?nolock=1"
    return sqlite3.connect(f"file:{quoted}{locks}", uri=True, timeout=PATIENCE, check_same_thread=False)


@functools.cache
def _can_lock(folder: Path) -> bool:
    """Tell whether the file system has the locks that SQLite takes."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return not locks_lacking(error)
    return True


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what the database says into a line that names the file and the mend.

    Raises:
        InputError: the file can't be read or written.
    """
    try:
        yield
    except KeyError as error:
        raise InputError(f"{path}: holds no study, it was emptied or replaced; {_BACKUP}") from error
    except (RuntimeError, OptunaError, SQLAlchemyError) as error:
        reason = " ".join(str(_first_cause(error)).split())
        mend = next((text for sign, text in _MENDS.items() if sign in reason), None)
        if mend is None and not isinstance(error, SQLAlchemyError | StorageInternalError):
            raise
        mend = mend or "the database was damaged ({reason}); " + _BACKUP
        logger.exception("%s", path)
        raise InputError(f"{path}: {mend.format(reason=reason)}") from error


def _first_cause(error: BaseException) -> BaseException:
    """Return what the database itself said."""
    while error.__cause__ is not None or getattr(error, "orig", None) is not None:
        error = getattr(error, "orig", None) or error.__cause__  # type: ignore[assignment]  # one of the two is there
    return error


_BACKUP = "put a copy of it back, or remove it to search anew: trained finalists stay"
_ANOTHERS = "it is of another run; put this one's back, or remove it to search anew: trained finalists stay"
_AGAIN = "then the same command goes on, nothing finished is lost"
_MENDS = {
    "no longer compatible": "it is of another version of Optuna ({reason}): install that one, or upgrade the file",
    "is locked": "another program has kept it locked for minutes: close that; " + _AGAIN,
    "is full": "the disk is full: make room; " + _AGAIN,
    "readonly": "it can't be written: give permission; " + _AGAIN,
    "unable to open": "it can't be opened, look at its permissions and the disk: " + _AGAIN,
    "disk I/O": "the disk or its file system failed ({reason}): make room, or choose --out on another one; " + _AGAIN,
    "not a database": "this is no database, it was damaged; " + _BACKUP,
    "malformed": "the database was damaged; " + _BACKUP,
    "no such table": "the database was damaged; " + _BACKUP,
    "no such column": "the database was damaged; " + _BACKUP,
}
"""What to say where a message of SQLite or Optuna has these words."""


def stored_with_settings(
    record: TrialRecord, parameters: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
) -> dict[str, Any]:
    """Return a record as it is kept where its row has no settings of its own."""
    settings = {name: [value, distribution_to_json(distributions[name])] for name, value in parameters.items()}
    return stored(record, {PARAMETERS: settings})


def stored(record: TrialRecord, more: Mapping[str, Any] = NONE) -> dict[str, Any]:
    """Return a record as it is kept."""
    content = {**asdict(record), **more}
    return {**content, DIGEST: _digest_of(content)}


def _digest_of(stored: Mapping[str, Any]) -> str:
    return digest(json.dumps(stored, sort_keys=True).encode())


def read_record(trial: FrozenTrial) -> TrialRecord:
    """Return what is known of a trial.

    Raises:
        InputError: it is not what was stored.
    """
    try:
        stored = dict(trial.user_attrs[RECORD])
        known = stored.pop(DIGEST, None)  # early runs have none
        if known is not None and known != _digest_of(stored):
            raise ValueError("its digest is another one")  # noqa: TRY301 - as what else can be wrong with it
        kept = {entry.name: stored[entry.name] for entry in fields(TrialRecord) if entry.name in stored}
        return TrialRecord(**{**kept, "number": trial.number})
    except (TypeError, ValueError) as error:
        raise InputError(f"study.db: the record of trial {trial.number} was damaged ({error}); {_BACKUP}") from error


def require_reference(path: Path, records: Iterable[TrialRecord], reference: Candidate) -> None:
    """Refuse the trials of another run: the first one is the reference, always; its architecture tells it.

    Args:
        path: of the file.
        records: of the trials.
        reference: of the run.

    Raises:
        InputError: it is another one.
    """
    own = dict(reference.architecture)
    if any(record.index == 0 and dict(record.config.get("architecture", {})) != own for record in records):
        raise InputError(f"{path}: its first trial is not this recipe's reference: {_ANOTHERS}")


def most_blamed(records: Iterable[TrialRecord]) -> tuple[str, int]:
    """Return the cost whose limit rejected most, empty where none did, and how many."""
    return Counter(record.blamed for record in records if record.outcome == "rejected").most_common(1)[0]
