"""What a study's file holds, and what samplers know when it is opened again."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
from qanas.core.measures import Cost, Limit, Score
from qanas.core.trials import TrialRecord
from qanas.search_space.settings import Integer
from qanas.search_space.space import SearchSpace, space_of
from qanas.search_strategy.samplers import TPE
from qanas.workflows import trial_store
from qanas.workflows.trial_store import TrialStore, told

AXES = (Score("error"),)
LIMITS = (Limit(Cost("macs"), 8.0),)


@pytest.fixture
def space() -> SearchSpace:
    widths = [Integer(f"width_{layer}", "architecture", 2, low=1, high=9) for layer in range(3)]
    return space_of(widths, ["architecture"])


def judged(index: int, candidate: Candidate) -> TrialRecord:
    macs = float(sum(int(value) for value in candidate.architecture.values()))
    if macs > LIMITS[0].bound:
        return TrialRecord(index, "rejected", candidate.config, {"macs": macs}, blamed="macs", feasible=False)
    return TrialRecord(index, "measured", candidate.config, {"macs": macs}, {"error": 1 / macs})


def asked(store: TrialStore, space: SearchSpace, index: int) -> Candidate:
    proposal = TPE(startup_trials=3).ask(space, store, index)
    store.tell(space, proposal.number, judged(index, proposal.candidate))
    return proposal.candidate


def test_rejected_candidates_teach_the_same_when_the_file_is_opened_again(space: SearchSpace, tmp_path: Path) -> None:
    whole = TrialStore(None, AXES, LIMITS)
    expected = [asked(whole, space, index) for index in range(20)]
    found = [asked(TrialStore(tmp_path / "study.db", AXES, LIMITS), space, index) for index in range(20)]
    assert found == expected
    opened = TrialStore(tmp_path / "study.db", AXES, LIMITS)
    assert {record.outcome for record in opened.records} == {"measured", "rejected"}
    assert opened.records == whole.records
    for one, other in zip(opened.study.trials, whole.study.trials, strict=True):
        assert (one.params, one.distributions, one.constraints) == (
            other.params,
            other.distributions,
            other.constraints,
        )


def test_a_rejected_candidate_is_one_row(space: SearchSpace, tmp_path: Path) -> None:
    store = TrialStore(tmp_path / "study.db", AXES, LIMITS)
    candidates = [asked(store, space, index) for index in range(10)]
    measured = sum(judged(0, candidate).outcome == "measured" for candidate in candidates)
    database = sqlite3.connect(tmp_path / "study.db")
    assert database.execute("select count(*) from trials").fetchone() == (10,)
    assert database.execute("select count(*) from trial_params").fetchone() == (3 * measured,)
    database.close()
    kept = optuna.load_study(study_name="qanas", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert sum(trial.state == TrialState.PRUNED for trial in kept.trials) == 10 - measured


def test_trials_that_an_older_run_left_running(space: SearchSpace, tmp_path: Path) -> None:
    """It kept them when they were asked for: one with a record is done, one without is free again."""
    store = TrialStore(tmp_path / "study.db", AXES, LIMITS)
    kept = store._kept
    assert kept is not None
    record = judged(0, space.reference)
    parameters, distributions = space.parameters(space.reference)
    for attributes in ({"record": {"index": 0, "outcome": "measured", "config": record.config,
                                   "costs": record.costs, "metrics": record.metrics}}, {}):  # fmt: skip
        running = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=parameters, distributions=distributions, user_attrs=attributes
        )
        kept.add_trial(running)
    for _ in range(2):  # opened twice it is the same
        opened = TrialStore(tmp_path / "study.db", AXES, LIMITS)
        assert [(found.index, found.outcome, found.number) for found in opened.records] == [(0, "measured", 0)]
        assert [trial.state for trial in opened.study.trials] == [TrialState.COMPLETE]


def held(path: Path) -> sqlite3.Connection:
    """Another program's connection, which keeps the database locked."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    return other


def test_a_lock_of_another_program_is_waited_for(tmp_path: Path) -> None:
    store = TrialStore(tmp_path / "study.db", AXES, LIMITS)
    other = held(tmp_path / "study.db")
    release = threading.Timer(0.2, lambda: other.execute("rollback"))
    release.start()
    store.set_search_seconds(3.0)
    release.join()
    other.close()
    assert TrialStore(tmp_path / "study.db", AXES, LIMITS).search_seconds == 3.0


def test_a_lock_that_stays_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_store, "PATIENCE", 0.01)
    store = TrialStore(tmp_path / "study.db", AXES, LIMITS)
    other = held(tmp_path / "study.db")
    with pytest.raises(InputError, match=r"study\.db: another program has kept it locked.*the same command goes on"):
        store.set_search_seconds(3.0)
    other.close()


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        ("database or disk is full", "the disk is full: make room; then the same command goes on"),
        ("attempt to write a readonly database", "it can't be written: give permission"),
        ("unable to open database file", "look at its permissions and the disk"),
        ("disk I/O error", "the disk or its file system failed"),
        ("UNIQUE constraint failed", "the database was damaged (UNIQUE constraint failed); put a copy of it back"),
    ],
)
def test_what_the_database_says_is_told_with_the_mend(said: str, mend: str) -> None:
    with pytest.raises(InputError) as caught, told(Path("run/study.db")):
        raise OperationalError("insert", {}, sqlite3.OperationalError(said))
    assert str(caught.value).startswith("run/study.db: ")
    assert mend in str(caught.value)
