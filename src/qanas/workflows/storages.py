"""Optuna's storages behind one contract: opened by address, patient where a database is away for a while."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from qanas.core.errors import InputError
from qanas.execution.interrupts import interrupts_deferred
from qanas.planning.sharing import PASSWORD, SharedStudy

logger = logging.getLogger("qanas")

R = TypeVar("R")

CONNECT_S = 10
"""Seconds for which a connection is waited for."""

AGAIN_S = (0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts while a store is away; the last for all further ones."""

OPENED = 5
"""Attempts to open a store: others that make its tables at the same moment make it fail."""

TOKEN = "token"  # noqa: S105 - the name of an attribute
"""The attribute that tells a row's writer whether it was written, where the answer got lost."""


def open_storage(shared: SharedStudy) -> BaseStorage:
    """Return the storage of a study; its tables are made where there are none.

    Raises:
        InputError: it can't be opened.
    """
    if shared.kind == "journal":
        try:
            shared.path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(str(shared.path)))
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"store.url: {shared.path}: {error}; all machines have to see and write it") from error
    for attempt in range(OPENED):
        try:
            return get_storage(_database(shared))
        except ImportError as error:
            raise InputError("store.url: needs psycopg; install it with: pip install 'qanas[postgres]'") from error
        except (SQLAlchemyError, StorageInternalError, OSError) as error:
            logger.info("opening the store: %s", _reason(error))
            if attempt == OPENED - 1:
                raise InputError(f"store.url: {shared.url} can't be opened: {_reason(error)}{_mend(error)}") from error
            time.sleep(AGAIN_S[0])
    raise AssertionError


def _database(shared: SharedStudy) -> RDBStorage:
    if shared.kind == "sqlite":
        shared.path.parent.mkdir(parents=True, exist_ok=True)
        options = {"connect_args": {"timeout": CONNECT_S}}
        return RDBStorage(f"sqlite:///{shared.path}", engine_kwargs=options)
    password = os.environ.get(PASSWORD)
    arguments = {"connect_timeout": CONNECT_S} | ({"password": password} if password else {})
    return RDBStorage(
        shared.url.replace("postgresql:", "postgresql+psycopg:", 1),
        engine_kwargs={"pool_pre_ping": True, "connect_args": arguments},
    )


def _mend(error: BaseException) -> str:
    return f"; its password is taken from {PASSWORD} or PGPASSWORD" if "password" in str(error) else ""


def _first_cause(error: BaseException) -> BaseException:
    found = error
    while found.__cause__ is not None:
        found = found.__cause__
    return found


def _reason(error: BaseException) -> str:
    """Return in one line what a database said."""
    return " ".join(str(_first_cause(error)).split("\n")[0].split()) or type(error).__name__


def is_away(error: BaseException) -> bool:
    """Tell whether an error says that the store can't be reached now: the same may work later."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OperationalError | InterfaceError | OSError):
            return True
        found = found.__cause__
    return False


class Patient:
    """A storage whose operations wait, with one message, while it is away.

    Ctrl-C waits until an operation is over, not until the storage is back.

    Args:
        shared: where it is.
        say: told once when it is away, and once when it is back.
    """

    def __init__(self, shared: SharedStudy, say: Callable[[str], None]) -> None:
        """Open it."""
        self._shared = shared
        self._say = say
        self._leaving = False
        with interrupts_deferred():
            self._storage = open_storage(shared)

    def __call__(
        self, operation: Callable[[BaseStorage], R], done: Callable[[BaseStorage], R | None] | None = None
    ) -> R:
        """Return what an operation returns, once the storage is there.

        Args:
            operation: on the storage; may be called several times.
            done: what the operation returned, if an attempt whose answer got lost did it; None for operations that
                can be done twice.
        """
        for attempt in range(10**9):
            try:
                with interrupts_deferred():
                    before = done(self._storage) if done is not None and attempt else None
                    found = operation(self._storage) if before is None else before
            except (SQLAlchemyError, StorageInternalError, OSError) as error:
                if self._leaving or not is_away(error):
                    raise
                logger.info("the store is away: %s", _reason(error))
                if not attempt:
                    self._say(f"store: {self._shared.url} is away ({_reason(error)}); waiting until it is back")
            else:
                if attempt:
                    self._say("store: it is back")
                return found
            time.sleep(AGAIN_S[min(attempt, len(AGAIN_S) - 1)])
        raise AssertionError

    def hurry(self) -> None:
        """Wait no longer: whoever leaves tries once."""
        self._leaving = True

    def add(self, study: int, trial: FrozenTrial) -> int:
        """Add a row with a `TOKEN` once, and return what the storage knows it by."""

        def added(storage: BaseStorage) -> int | None:
            token = trial.user_attrs[TOKEN]
            return next((t._trial_id for t in _rows(storage, study) if t.user_attrs.get(TOKEN) == token), None)

        return self(lambda storage: storage.create_new_trial(study, trial), added)

    def note(self, row: int, name: str, value: Any) -> bool:  # noqa: ANN401 - whatever JSON holds
        """Give an open row an attribute; false where it was closed."""

        def note(storage: BaseStorage) -> bool:
            try:
                storage.set_trial_user_attr(row, name, value)
            except RuntimeError:
                return False
            return True

        return self(note)

    def close(self, row: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """End a row, and return whether it was still open: of several that try, one succeeds."""
        tried = False

        def close(storage: BaseStorage) -> bool:
            nonlocal tried
            again, tried = tried, True
            try:
                storage.set_trial_state_values(row, state, values)
            except RuntimeError:  # it is closed
                return again and storage.get_trial(row).state == state
            return True

        return self(close)

    def rows(self, study: int) -> list[FrozenTrial]:
        """Return all rows of a study, in the order of their numbers; not to be changed."""
        return self(lambda storage: _rows(storage, study))

    def study(self, name: str, directions: Sequence[str]) -> int:
        """Return a study's number; it is made where there is none."""
        ways = [StudyDirection.MINIMIZE if way == "minimize" else StudyDirection.MAXIMIZE for way in directions]

        def opened(storage: BaseStorage) -> int:
            with contextlib.suppress(KeyError):
                return storage.get_study_id_from_name(name)
            with contextlib.suppress(DuplicatedStudyError):
                return storage.create_new_study(ways, name)
            return storage.get_study_id_from_name(name)

        return self(opened)


def _rows(storage: BaseStorage, study: int) -> list[FrozenTrial]:
    return storage.get_all_trials(study, deepcopy=False)


def find_study(shared: SharedStudy, name: str) -> tuple[BaseStorage, int] | None:
    """Return a storage and the number of a study in it; None where there is none.

    Raises:
        InputError: the storage can't be opened.
    """
    storage = open_storage(shared)
    try:
        return storage, storage.get_study_id_from_name(name)
    except KeyError:
        return None


@contextlib.contextmanager
def attempted(what: str) -> Iterator[None]:
    """Let what a thread in the background does fail: it is tried again soon."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a driver raises
        logger.info("%s: %s", what, _reason(error))


def host_of(shared: SharedStudy) -> str:
    """Return where a store is, for people."""
    return urlsplit(shared.url).hostname or str(shared.path)
