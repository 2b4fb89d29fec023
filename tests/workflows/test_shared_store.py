"""Stores that several coordinators share: their contract, addresses without secrets, and one that is away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import tests.cli.unsynced  # noqa: F401 - for its effect
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from sqlalchemy.exc import OperationalError

from qanas.core.errors import InputError
from qanas.core.run_folder import RunFolder
from qanas.performance_estimation.base import Estimate
from qanas.performance_estimation.training import Training
from qanas.planning.sharing import SharedStudy, checked_url
from qanas.reporting.live import LiveDisplay
from qanas.testing import check_store
from qanas.workflows import storages
from qanas.workflows.coordinators import Session, use_shared_folder
from qanas.workflows.search import Search, _store
from qanas.workflows.status import status_of
from qanas.workflows.status import told as lines_of
from qanas.workflows.storages import Patient

if TYPE_CHECKING:
    from tests.workflows.conftest import MakePlan

    from qanas.core.candidate import Candidate
    from qanas.performance_estimation.bench import Bench
    from qanas.planning.plan import Plan
    from qanas.search_space.start import Proposal


def shared(kind: str, folder: Path) -> SharedStudy:
    return SharedStudy(f"{kind}://{folder}/study", "study")


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_it_keeps_the_contract(kind: str, tmp_path: Path) -> None:
    check_store(shared(kind, tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://me:secret@host/db", "has a password, which recipes, logs and cards would show; leave it out"),
        ("postgresql://me@host/db?password=secret", "has a password"),
        ("postgresql://me@host", "names no database"),
        ("mysql://me@host/db", "unknown kind of store 'mysql'"),
        ("journal://shared/study", "three slashes and an absolute path"),
        ("postgresql://me@host:five/db", "this is no address"),
        ("postgresql://$NOT_SET_HERE/db", "environment variable NOT_SET_HERE is not set"),
    ],
)
def test_an_address_is_checked_and_has_no_secret(url: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        checked_url(url)
    assert str(caught.value).startswith("store.url: ")
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_store_that_is_away_is_waited_for_with_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages, "AGAIN_S", (0.0,))
    said: list[str] = []
    patient = Patient(shared("sqlite", tmp_path), said.append)
    attempts = 0

    def late(_: BaseStorage) -> str:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise StorageInternalError from OperationalError("select", {}, Exception("no route to host"))
        return "there"

    assert patient(late) == "there"
    assert [text.split("(")[0] for text in said] == [f"store: sqlite://{tmp_path}/study is away ", "store: it is back"]
    attempts = 0
    patient.hurry()
    with pytest.raises(StorageInternalError):
        patient(late)


class Quick(Training):
    """Says a number that follows from the candidate."""

    def estimate(self, bench: Bench, proposal: Proposal, seed: int, history: object, watch: object) -> Estimate:
        del bench, seed, history, watch
        drawn = int(proposal.candidate.key, 16) / 16**12
        return Estimate({"worst_quantized": drawn, "worst_float": drawn})


def searched(plan: Plan, folder: Path) -> Search:
    folder.mkdir()
    assert plan.store is not None
    with Session(plan.store, Patient(plan.store, print), folder, plan.jobs) as session:
        search = Search(plan, RunFolder(folder), LiveDisplay(), session)
        search.run()
    return search


def test_who_joins_finds_what_others_found(make_plan: MakePlan, tmp_path: Path) -> None:
    store = {"url": f"journal://{tmp_path}/study.journal"}
    tables = {"space": {"most": 9}, "limits": {"weight_bytes": 200}}
    plan = make_plan(store=store, strategy={"trials": 3}, **tables)
    plan = replace(plan, estimator=Quick(plan.estimator.procedure))
    assert plan.recipe["store"]["name"].startswith("qanas-")
    first = searched(plan, tmp_path / "first")
    longer = make_plan(store=store, strategy={"trials": 6}, **tables)
    assert longer.store == plan.store, "how long it goes on makes no other study"
    second = searched(replace(longer, estimator=plan.estimator), tmp_path / "second")
    assert second.records[: len(first.records)] == first.records
    alone = make_plan(strategy={"trials": 6}, **tables)
    (tmp_path / "alone").mkdir()
    whole = Search(replace(alone, estimator=plan.estimator), RunFolder(tmp_path / "alone"), LiveDisplay())
    whole.run()

    def told(search: Search) -> list[tuple[int, str, Candidate]]:
        return [(record.index, record.outcome, record.candidate) for record in search.records]

    assert told(second) == told(whole)
    assert [record.candidate for record in second.front()] == [record.candidate for record in whole.front()]

    status = status_of(longer.recipe)
    assert (status.trials["measured"], status.wanted, status.running, status.hours_left) == (6, 6, 0, 0)
    assert [(worker.state, worker.measured) for worker in status.coordinators] == [("left", 3)] * 2
    assert "6 of 6 trials ended (0 failed)" in lines_of(status)[1]


def test_a_run_with_trials_of_its_own_is_not_mixed_with_a_study(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan(store={"url": f"journal://{tmp_path}/study.journal"})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "study.db").touch()
    with pytest.raises(InputError, match="this run has trials of its own"):
        _store(plan, RunFolder(tmp_path / "run"), cast("Session", object()))


def test_a_shared_folder_is_linked_once(tmp_path: Path) -> None:
    runs = [RunFolder(tmp_path / name) for name in ("one", "two")]
    for run in (*runs, *runs):
        run.path.mkdir(exist_ok=True)
        use_shared_folder(run, tmp_path / "shared")
    (runs[0].trainings / "of one").mkdir()
    assert (runs[1].trainings / "of one").is_dir()
    own = RunFolder(tmp_path / "own")
    own.blocks.mkdir(parents=True)
    with pytest.raises(InputError, match="this run has some of its own"):
        use_shared_folder(own, tmp_path / "shared")
