"""Who works on a study, how fast it goes, and when it will be done; read from outside."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.trial import FrozenTrial

from qanas.core.errors import InputError
from qanas.core.trials import TrialRecord
from qanas.planning.sharing import SharedStudy
from qanas.workflows.coordinators import OWNER, UNIT, UNITS, Member, members_of
from qanas.workflows.shared_store import counted
from qanas.workflows.storages import find_study

RECENT = 50
"""Trials that throughput is taken over."""


@dataclass(frozen=True)
class Worker:
    """A coordinator, as others see it.

    Attributes:
        name: of it.
        host: its machine.
        process: its number there.
        jobs: units at a time.
        state: ``works``, ``left``, or ``silent``: its clock and this one's say that its lease is over.
        silent_seconds: since it told of itself, as far as the clocks of both machines agree.
        measured: trials that it measured.
        holds: units that it works on.
    """

    name: str
    host: str
    process: int
    jobs: int
    state: str
    silent_seconds: float
    measured: int
    holds: Sequence[str] = ()


@dataclass(frozen=True)
class Status:
    """Where a study stands.

    Attributes:
        store: its address.
        study: its name.
        trials: by outcome.
        wanted: trials that count; None where that isn't known.
        running: units that somebody works on.
        per_hour: trials that ended an hour, over the last ones; None before there are two.
        hours_left: at that rate; None where that can't be said.
        coordinators: those that work first.
    """

    store: str
    study: str
    trials: Mapping[str, int]
    wanted: int | None
    running: int
    per_hour: float | None
    hours_left: float | None
    coordinators: Sequence[Worker] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return asdict(self)


def status_of(recipe: Mapping[str, Any]) -> Status:
    """Return where the study of a resolved recipe stands.

    Args:
        recipe: with ``[store]``.

    Raises:
        InputError: it has none, or nobody has begun it.
    """
    if "store" not in recipe:
        raise InputError("store: this recipe has none: its trials are the run's own, and report.html follows them")
    table = recipe["store"]
    shared = SharedStudy(table["url"], table["name"], table["lease"])
    found, claims = find_study(shared, shared.name), find_study(shared, f"{shared.name}/{UNITS}")
    if found is None or claims is None:
        raise InputError(f"store: {shared.url} has no study {shared.name}; qanas run begins it")
    (storage, study), (claimed, units) = found, claims
    rows = storage.get_all_trials(study, deepcopy=False)
    records = [(row, record) for row in rows if (record := counted(row)) is not None]
    members = members_of(claimed, units)
    open_rows = [row for row in claimed.get_all_trials(units, deepcopy=False) if not row.state.is_finished()]
    outcomes = Counter(record.outcome for _, record in records)
    wanted = recipe.get("strategy", {}).get("trials")
    rate = _per_hour([record for _, record in records])
    ended = outcomes["measured"] + outcomes["failed"]
    left = None if rate is None or wanted is None else max(0, wanted - ended) / rate
    return Status(
        shared.url, shared.name, {name: outcomes[name] for name in ("measured", "failed", "rejected")}, wanted,
        len(open_rows), rate, left, _workers(members, [row for row, _ in records], open_rows, shared.lease),
    )  # fmt: skip


def _per_hour(records: Sequence[TrialRecord]) -> float | None:
    """Return how many trials ended an hour, over the last ones."""
    ends = sorted(r.finished_at for r in records if r.outcome != "rejected" and r.finished_at is not None)[-RECENT:]
    if len(ends) <= 1 or ends[-1] <= ends[0]:
        return None
    return (len(ends) - 1) / (ends[-1] - ends[0]) * 3600


def _workers(
    members: Mapping[str, Member], rows: Sequence[FrozenTrial], open_rows: Sequence[FrozenTrial], lease: float
) -> list[Worker]:
    now = time.time()
    measured = Counter(row.user_attrs[OWNER] for row in rows if OWNER in row.user_attrs)
    found = []
    for name, member in members.items():
        silent = now - member.at
        state = "left" if member.left else "silent" if silent > lease else "works"
        holds = [row.user_attrs[UNIT] for row in open_rows if row.user_attrs[OWNER] == name]
        found.append(
            Worker(name, member.host, member.process, member.jobs, state, silent, measured[name], tuple(holds))
        )
    return sorted(found, key=lambda worker: (worker.state != "works", worker.host, worker.process))


def told(status: Status) -> list[str]:
    """Return it in lines for people."""
    ended = status.trials["measured"] + status.trials["failed"]
    of = f" of {status.wanted}" if status.wanted else ""
    failed, rejected = status.trials["failed"], status.trials["rejected"]
    counts = (
        f"{ended}{of} trials ended ({failed} failed), {rejected} candidates rejected; {status.running} units at work"
    )
    lines = [f"{status.study} in {status.store}", counts]
    if status.per_hour is not None:
        left = "" if status.hours_left is None else f"; at that rate {status.hours_left:.2g} hours are left"
        lines.append(f"{status.per_hour:.3g} trials an hour over the last {min(RECENT, ended)}{left}")
    for worker in status.coordinators:
        doing = f", has {', '.join(worker.holds)}" if worker.holds else ""
        seen = f"{worker.state}, told of itself {worker.silent_seconds:.0f} s ago" if worker.state != "left" else "left"
        lines.append(
            f"{worker.host} process {worker.process} ({worker.name}), {worker.jobs} jobs: {seen}; "
            f"{worker.measured} trials{doing}"
        )
    return lines
