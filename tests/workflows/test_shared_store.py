"""Stores that several coordinators share: their contract, addresses without secrets, and one that is away."""

from __future__ import annotations

from pathlib import Path

import pytest
import tests.cli.unsynced  # noqa: F401 - for its effect
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from sqlalchemy.exc import OperationalError

from qanas.core.errors import InputError
from qanas.planning.sharing import SharedStudy, checked_url
from qanas.testing import check_store
from qanas.workflows import storages
from qanas.workflows.storages import Patient


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
