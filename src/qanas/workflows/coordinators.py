"""Several coordinators on one study: who is alive, and who holds which unit of work."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.execution.sharing import ALONE, Sharing
from qanas.planning.sharing import SharedStudy
from qanas.workflows.storages import TOKEN, Patient, attempted, open_storage

BEATS = 6
"""Beats that a lease lasts: a coordinator that lets so many of an observer's own pass without one is dead."""

UNITS = "units"
"""The study of claims, behind the name of the study of trials."""

UNIT, OWNER, RESULT = "unit", "owner", "result"
MEMBER = "coordinator "
"""In front of a coordinator's name, the attribute of the study of claims that it beats in."""


@dataclass(frozen=True)
class Member:
    """A coordinator, as it tells of itself.

    Attributes:
        host: its machine.
        process: its number there.
        jobs: units that it works on at a time.
        beat: another one each time.
        at: seconds since 1970 by its own clock; for people.
        started: the same, when it joined.
        left: whether it has ended in order.
    """

    host: str
    process: int
    jobs: int
    beat: str
    at: float
    started: float
    left: bool = False


def identity_in(folder: Path) -> str:
    """Return the name of the coordinator of a run's folder: the same in every session, as no two have one folder."""
    place = folder / "coordinator"
    try:
        known = place.read_text("utf-8").strip()
    except (OSError, ValueError):
        known = ""
    if not known:
        known = uuid.uuid4().hex[:12]
        write_atomically(place, f"{known}\n".encode())
    return known


def use_shared_folder(run: RunFolder, root: Path) -> None:
    """Let what stages and finalists leave lie in a folder that all coordinators see; a run's folder has links there.

    Raises:
        InputError: the run has some of its own already.
    """
    for place in (run.blocks, run.features, run.trainings):
        home = root / place.name
        home.mkdir(parents=True, exist_ok=True)
        if place.is_symlink():
            place.unlink()
        elif place.exists():
            raise InputError(f"{place}: this run has some of its own; choose another --out, or leave out store.folder")
        place.symlink_to(home.absolute(), target_is_directory=True)


class Coordinators:
    """This coordinator among others: it beats, and counts how long others haven't.

    Nobody's clock is trusted: who lets `BEATS` of an observer's own beats pass without one is dead. Where the store is
    away nobody beats, and nobody dies.

    Args:
        shared: the study.
        patient: its storage.
        study: the number of the study of claims.
        name: of this coordinator.
        jobs: units that it works on at a time.
    """

    def __init__(self, shared: SharedStudy, patient: Patient, study: int, name: str, jobs: int) -> None:
        """Join; the first beat is written."""
        self.name = name
        self._shared, self._patient, self._study = shared, patient, study
        self._session, self._count = uuid.uuid4().hex[:6], 0
        now = time.time()
        self._self = Member(socket.gethostname(), os.getpid(), jobs, "", now, now)
        self._seen: dict[str, tuple[str, int]] = {}
        self._gone: set[str] = set()
        self._ended = threading.Event()
        patient(self._beat)
        self._thread = threading.Thread(target=self._beat_on, daemon=True, name="heartbeat")
        self._thread.start()

    def is_dead(self, name: str) -> bool:
        """Tell whether a coordinator has left, or has not stirred for a lease."""
        return name != self.name and (name in self._gone or self._seen.get(name, ("", 0))[1] >= BEATS)

    def leave(self) -> None:
        """Say that this one ends; what it still holds is free at once."""
        self._ended.set()
        self._thread.join()
        self._self = replace(self._self, left=True)
        with attempted("leaving the store"):
            self._patient(self._beat)

    def _beat(self, storage: BaseStorage) -> None:
        self._count += 1
        self._self = replace(self._self, beat=f"{self._session}{self._count}", at=time.time())
        storage.set_study_user_attr(self._study, MEMBER + self.name, asdict(self._self))

    def _beat_on(self) -> None:
        """Beat until the end, on a connection of its own."""
        storage: BaseStorage | None = None
        while not self._ended.wait(self._shared.lease / BEATS):
            with attempted("heartbeat"):
                storage = storage or open_storage(self._shared)
                self._beat(storage)
                self._look(members_of(storage, self._study))

    def _look(self, members: Mapping[str, Member]) -> None:
        for name, member in members.items():
            beat, passed = self._seen.get(name, ("", 0))
            self._seen[name] = (member.beat, 0 if member.beat != beat else passed + 1)
        self._gone = {name for name, member in members.items() if member.left}


def members_of(storage: BaseStorage, study: int) -> dict[str, Member]:
    """Return all coordinators that there were, by name."""
    told = storage.get_study_user_attrs(study)
    return {name.removeprefix(MEMBER): Member(**values) for name, values in told.items() if name.startswith(MEMBER)}


class Leases:
    """See `qanas.execution.sharing.Sharing`: claims are rows of a study, in the order that its storage says.

    A row that is running is held; one that is complete, finished; one that is pruned, given back. Of several rows for
    a unit the first that isn't given back has it: two who claim at the same moment both see the same one.

    Args:
        patient: the storage.
        study: the number of the study of claims.
        coordinators: who is alive.
        pause: seconds to wait for others.
    """

    def __init__(self, patient: Patient, study: int, coordinators: Coordinators, pause: float) -> None:
        """Free what an earlier session of this coordinator held."""
        self._patient, self._study, self._coordinators, self._pause = patient, study, coordinators, pause
        self._first: dict[str, FrozenTrial] = {}
        self._results: dict[str, Any] = {}
        self._known: set[int] = set()
        self.held: dict[str, str] = {}
        self._mine: dict[str, int] = {}
        for row in self._open_rows():
            if row.user_attrs[OWNER] == coordinators.name:
                patient.close(row._trial_id, TrialState.PRUNED)
        self.refresh()

    def refresh(self) -> None:
        """Look who holds what now, and free what the dead held."""
        first: dict[str, FrozenTrial] = {}
        for row in self._open_rows():
            if self._coordinators.is_dead(row.user_attrs[OWNER]):
                self._patient.close(row._trial_id, TrialState.PRUNED)
            else:
                first.setdefault(row.user_attrs[UNIT], row)
        self._first = first
        self.held = {unit: row.user_attrs[OWNER] for unit, row in first.items()}

    def _open_rows(self) -> list[FrozenTrial]:
        """Return the rows that are held, and learn of those that were finished since."""
        held = []
        for row in self._patient.rows(self._study):
            if row.number in self._known:
                continue
            if row.state.is_finished():
                self._known.add(row.number)
                if row.state == TrialState.COMPLETE:
                    self._results[row.user_attrs[UNIT]] = row.user_attrs.get(RESULT)
            else:
                held.append(row)
        return held

    def claim(self, unit: str) -> bool:
        """Take a unit; false where somebody else holds or has finished it."""
        if unit in self._results or unit in self.held:
            return False
        told = {UNIT: unit, OWNER: self._coordinators.name, TOKEN: uuid.uuid4().hex}
        row = self._patient.add(self._study, optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=told))
        self._mine[unit] = row
        self.refresh()
        if not self.holds(unit):
            self._patient.close(row, TrialState.PRUNED)
            del self._mine[unit]
            return False
        return True

    def holds(self, unit: str) -> bool:
        """Tell whether this coordinator had a unit at the last look."""
        first = self._first.get(unit)
        return unit not in self._results and first is not None and first._trial_id == self._mine.get(unit)

    def finish(self, unit: str, result: Any = None) -> bool:  # noqa: ANN401 - whatever JSON holds
        """Say that a unit is done; false where it was given to somebody else."""
        row = self._mine.pop(unit)
        return (result is None or self._patient.note(row, RESULT, result)) and self._patient.close(
            row, TrialState.COMPLETE, [0.0]
        )

    def release(self, unit: str) -> None:
        """Give a unit back, not done."""
        self._patient.close(self._mine.pop(unit), TrialState.PRUNED)

    def release_all(self) -> None:
        """Give back what is still held."""
        for unit in list(self._mine):
            self.release(unit)

    def results(self) -> dict[str, Any]:
        """Return what is known of finished units."""
        self.refresh()
        return self._results

    def wait(self) -> None:
        """Wait a little for others, and look what they did."""
        time.sleep(self._pause)
        self.refresh()


class Session:
    """One coordinator's time at a shared study; leaves in order at its end.

    Args:
        shared: the study.
        patient: its storage.
        folder: of this coordinator's run.
        jobs: units that it works on at a time.
    """

    def __init__(self, shared: SharedStudy, patient: Patient, folder: Path, jobs: int) -> None:
        """Join."""
        self.shared, self.patient = shared, patient
        self.units = self.patient.study(f"{shared.name}/{UNITS}", ["minimize"])
        self.coordinators = Coordinators(shared, self.patient, self.units, identity_in(folder), jobs)
        self.leases = Leases(self.patient, self.units, self.coordinators, min(1.0, shared.lease / BEATS))

    @property
    def files(self) -> Sharing:
        """Who does which unit that leaves files: shared where there is a folder that all see."""
        return ALONE if self.shared.folder is None else self.leases

    @property
    def name(self) -> str:
        """Of this coordinator."""
        return self.coordinators.name

    def others(self, units: Iterable[str]) -> bool:
        """Tell whether somebody else holds one of some units."""
        return any(self.leases.held.get(unit, self.name) != self.name for unit in units)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back what is held, and leave."""
        self.patient.hurry()
        with attempted("leaving the store"):
            self.leases.release_all()
        self.coordinators.leave()
