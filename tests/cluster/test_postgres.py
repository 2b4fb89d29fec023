"""A study in a real PostgreSQL: the store's contract, secrets, and a short form of `benchmarks/shared_study.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qanas.core.errors import InputError
from qanas.planning.sharing import PASSWORD, SharedStudy
from qanas.testing import check_store
from qanas.workflows.storages import open_storage

if TYPE_CHECKING:
    from throwaway_postgres import Postgres

pytestmark = pytest.mark.cluster

BENCH = Path(__file__).parents[2] / "benchmarks" / "shared_study.py"


def test_it_keeps_the_contract(postgres: Postgres, tmp_path: Path) -> None:
    check_store(SharedStudy(postgres.url, "contract"), tmp_path)


def test_a_wrong_password_is_told_without_it(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "guessed-wrong")
    with pytest.raises(InputError, match=r"can't be opened: .*its password is taken from QANAS_STORE_PASSWORD") as told:
        open_storage(SharedStudy(postgres.url, "study"))
    assert "guessed-wrong" not in str(told.value)


def test_workers_and_the_database_die_and_no_trial_is_lost(postgres: Postgres, tmp_path: Path) -> None:
    assert postgres.password, "the bench has a server of its own; this one says whether there can be one"
    found = tmp_path / "found.json"
    command = [sys.executable, str(BENCH), "--trials", "16", "--kills", "3", "--out", str(found)]
    subprocess.run(command, check=True, env={**os.environ, PASSWORD: ""})
    told = json.loads(found.read_text("utf-8"))
    assert told["distinct indices"] == told["distinct candidates"] == told["measured"] == 16
    assert told["measured twice"] == told["failed"] == told["open at the end"] == 0
    assert told["database restarts"] == 2
    assert told["fronts equal that of one machine"]
    assert told["candidates equal those of one machine, index by index"]
    assert not told["password in a file"]
