"""The trials of a study that several coordinators work on."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from qanas.core.errors import InputError
from qanas.core.measures import Limit, Measure, columns_of
from qanas.core.trials import TrialRecord
from qanas.search_space.space import SearchSpace
from qanas.search_space.start import Proposal
from qanas.workflows.coordinators import OWNER, Session
from qanas.workflows.storages import TOKEN
from qanas.workflows.trial_store import (
    CONSTRAINTS,
    RECORD,
    SEARCH_SECONDS,
    TrialStore,
    parameters_of,
    read_record,
    stored,
    stored_with_settings,
)

INDEX, TRAINING, FACTS = "index", "training", "facts"
METRIC_NAMES = "study:metric_names"
"""The attribute in which Optuna keeps what a study's objectives are called."""

STATES = {"measured": TrialState.COMPLETE, "failed": TrialState.FAIL, "rejected": TrialState.PRUNED}
"""How the row of a trial ends; one that was taken from its coordinator is pruned, too, but not as rejected."""


class SharedTrialStore(TrialStore):
    """All trials of a study: in memory, where samplers learn of them, and in a storage that others write to as well.

    The row of a trial is there from the moment it is trained, and its end decides: of a coordinator that was given up
    for dead and the one that does its work again, one ends the row that counts.

    Args:
        session: at the study.
        facts: what a coordinator has to agree on with the others.
        axes: of the front.
        limits: bounds on costs.
    """

    def __init__(
        self, session: Session, facts: Mapping[str, Any], axes: Sequence[Measure], limits: Sequence[Limit]
    ) -> None:
        """Make the study, or join it, and read it.

        Raises:
            InputError: the study is another one's.
        """
        super().__init__(None, axes, limits)
        self._session, self._patient, self._leases = session, session.patient, session.leases
        self._id = self._patient.study(session.shared.name, [axis.direction for axis in axes])
        self._begun: dict[int, int] = {}
        self._seen: set[int] = set()
        self._elsewhere: set[tuple[str, str]] = set()
        attributes = self._patient(self._attributes)
        self._agree({**facts, "axes": columns_of(axes)}, attributes)
        self._seconds = float(attributes.get(self._seconds_name, 0.0))
        self.news()

    @property
    def _seconds_name(self) -> str:
        return f"{SEARCH_SECONDS} {self._session.name}"

    def _attributes(self, storage: BaseStorage) -> dict[str, Any]:
        return storage.get_study_user_attrs(self._id)

    def _agree(self, facts: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        if FACTS not in known:
            self._patient(lambda storage: storage.set_study_system_attr(self._id, METRIC_NAMES, facts["axes"]))
            self._patient(lambda storage: storage.set_study_user_attr(self._id, FACTS, dict(facts)))
            return
        different = [f"{name} is {known[FACTS].get(name)}, here {value}" for name, value in facts.items()
                     if known[FACTS].get(name) != value]  # fmt: skip
        if different:
            raise InputError(
                f"store: the study {self._session.shared.name} is of another run ({'; '.join(different)}); give "
                "store.name another name, or use the same recipe, data and version"
            )

    def news(self) -> list[TrialRecord]:
        """Return what others found since, which samplers know then."""
        self._leases.refresh()
        found, self._elsewhere = [], set()
        for row in self._patient.rows(self._id):
            if row.number in self._seen:
                continue
            if not row.state.is_finished():
                if row._trial_id not in self._begun.values():
                    self._elsewhere.add(_training_of(row))
                continue
            self._seen.add(row.number)
            record = counted(row)
            if record is not None:
                self.study.add_trial(self._trial(record, *parameters_of(row), row.system_attrs))
                self.records.append(record)
                found.append(record)
        return found

    @property
    def held(self) -> Collection[int]:
        """The indices that somebody works on."""
        named = (unit.removeprefix(_TRIAL) for unit in self._leases.held if unit.startswith(_TRIAL))
        return {int(index) for index in named}

    @property
    def elsewhere(self) -> Collection[tuple[str, str]]:
        """What others train now."""
        return self._elsewhere

    def claim(self, index: int) -> bool:
        """Take an index; false where somebody else has it. What a dead coordinator had begun for it is ended."""
        unit = f"{_TRIAL}{index}"
        if not self._leases.claim(unit):
            return False
        ended = False
        for row in self._patient.rows(self._id):
            if row.number in self._seen or row.user_attrs.get(INDEX) != index:
                continue
            if row.state.is_finished() or not self._patient.close(row._trial_id, TrialState.PRUNED):
                ended |= counted(self._row(row._trial_id)) is not None
        if ended:  # whoever was given up for dead has ended it after all
            self._leases.finish(unit)
        return not ended

    def _row(self, row: int) -> FrozenTrial:
        return self._patient(lambda storage: storage.get_trial(row))

    def release(self, index: int) -> None:
        """Give an index back."""
        self._leases.release(f"{_TRIAL}{index}")

    def begin(self, space: SearchSpace, index: int, proposal: Proposal, training: tuple[str, str]) -> bool:
        """Open the row of a trial; false where somebody else does the same training, or has the index by now."""
        if proposal.number is None:
            (parameters, distributions), attributes = space.parameters(proposal.candidate), {}
        else:
            asked = self.study.get_trials(deepcopy=False)[proposal.number]
            parameters, distributions = asked.params, asked.distributions
            attributes = {name: value for name, value in asked.system_attrs.items() if CONSTRAINTS not in name}
        told = {INDEX: index, TRAINING: list(training), OWNER: self._session.name, TOKEN: uuid.uuid4().hex}
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=dict(parameters), distributions=dict(distributions), user_attrs=told,
            system_attrs=attributes,
        )  # fmt: skip
        own = self._patient.add(self._id, trial)
        self._leases.refresh()
        if not self.holds(index) or (index and self._is_done_elsewhere(training, own)):  # the reference is trial 0
            self._patient.close(own, TrialState.PRUNED)
            return False
        self._begun[index] = own
        return super().begin(space, index, proposal, training)

    def _is_done_elsewhere(self, training: tuple[str, str], own: int) -> bool:
        """Tell whether a row before one's own is of the same training: of two at the same moment the first has it."""
        rows = self._patient.rows(self._id)
        number = next(row.number for row in rows if row._trial_id == own)
        same = [row for row in rows if row.number < number and _training_of(row) == training]
        return any(not row.state.is_finished() or counted(row) is not None for row in same)

    def holds(self, index: int) -> bool:
        """Tell whether an index was still this coordinator's at the last look."""
        return self._leases.holds(f"{_TRIAL}{index}")

    def wait(self) -> bool:
        """Wait a little for what others work on; false where there are none."""
        if not self._session.others(f"{_TRIAL}{index}" for index in self.held):
            return False
        self._leases.wait()
        return True

    def tell(self, space: SearchSpace, number: int | None, record: TrialRecord) -> bool:
        """Add what became of a candidate; false where its index was given to somebody else meanwhile."""
        if record.outcome == "rejected":
            self._reject(space, number, record)
            return True
        self.under_way.pop(record.index, None)
        row, unit = self._begun.pop(record.index), f"{_TRIAL}{record.index}"
        values = self._values(record) if record.outcome == "measured" else None
        kept = self._patient.note(row, RECORD, stored(record)) and self._patient.close(
            row, STATES[record.outcome], values
        )
        self._leases.finish(unit)
        if not kept:
            self.drop(number)
            return False
        self._remember(space, number, record, self._row(row).number)
        return True

    def _reject(self, space: SearchSpace, number: int | None, record: TrialRecord) -> None:
        asked = None if number is None else self.study.get_trials(deepcopy=False)[number]
        settings = space.parameters(record.candidate) if asked is None else (asked.params, asked.distributions)
        told = {RECORD: stored_with_settings(record, *settings), TOKEN: uuid.uuid4().hex}
        row = self._patient.add(self._id, optuna.trial.create_trial(state=TrialState.PRUNED, user_attrs=told))
        self._remember(space, number, record, self._row(row).number)

    def _remember(self, space: SearchSpace, number: int | None, record: TrialRecord, kept_as: int) -> None:
        """Let samplers know what is kept."""
        if number is None:
            self.study.add_trial(self._trial(record, *space.parameters(record.candidate)))
        else:
            self._finish(number, record)
        self._seen.add(kept_as)
        self.records.append(replace(record, number=kept_as))

    def set_search_seconds(self, seconds: float) -> None:
        """Store the wall-clock seconds that this coordinator has searched."""
        self._seconds = seconds
        self._patient(lambda storage: storage.set_study_user_attr(self._id, self._seconds_name, seconds))


_TRIAL = "trial "


def _training_of(row: FrozenTrial) -> tuple[str, str]:
    candidate, parent = row.user_attrs.get(TRAINING, ("", ""))
    return candidate, parent


def counted(row: FrozenTrial) -> TrialRecord | None:
    """Return what is known of a trial; None where its row is open, or was taken from its coordinator."""
    if RECORD not in row.user_attrs or not row.state.is_finished():
        return None
    record = read_record(row)
    return record if row.state == STATES[record.outcome] else None
