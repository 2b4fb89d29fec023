"""Where the trials of several machines meet: the address of a study, and who may know its password."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from qanas.core.errors import InputError, unknown

PASSWORD = "QANAS_STORE_PASSWORD"  # noqa: S105 - the name of an environment variable
"""The environment variable with the database's password; PGPASSWORD and ~/.pgpass are read by PostgreSQL itself."""

LEASE = 60.0
"""Seconds after which work of a coordinator that doesn't stir is given to others, where a recipe doesn't say."""

FILES = ("sqlite", "journal")
"""Kinds of stores that are a file: for one machine; for a folder that several machines share."""

KINDS = ("postgresql", *FILES)


@dataclass(frozen=True)
class SharedStudy:
    """A study that several coordinators work on.

    Attributes:
        url: of the database or file, without a password.
        name: of the study.
        lease: seconds after which work of a coordinator that doesn't stir is given to others.
        folder: that all of them see, for what stages and finalists leave; None: each has its own.
    """

    url: str
    name: str
    lease: float = LEASE
    folder: Path | None = None

    def as_table(self) -> dict[str, str | float]:
        """Return it as a resolved recipe has it."""
        folder = {} if self.folder is None else {"folder": str(self.folder)}
        return {"url": self.url, "name": self.name, "lease": self.lease, **folder}

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return urlsplit(self.url).scheme

    @property
    def path(self) -> Path:
        """The file of a store that is one."""
        return Path(urlsplit(self.url).path)


def checked_url(url: str) -> str:
    """Return the address of a store, with environment variables put in.

    Raises:
        InputError: it is none, or has a password in it.
    """
    found = os.path.expandvars(url)
    missing = re.search(r"\$\{?(\w+)", found)
    if missing:
        raise InputError(f"store.url: the environment variable {missing[1]} is not set; set it or write the value")
    try:
        parts = urlsplit(found)
        secret = parts.password is not None or any("pass" in name.lower() for name, _ in parse_qsl(parts.query))
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"store.url: this is no address ({error}); {_FORMS}") from error
    if secret:
        raise InputError(
            f"store.url: it has a password, which recipes, logs and cards would show; leave it out, set {PASSWORD}"
        )
    if parts.scheme not in KINDS:
        raise InputError(f"store.url: {unknown('kind of store', parts.scheme, KINDS)}; {_FORMS}")
    if parts.scheme in FILES and (host or not Path(parts.path).name):
        raise InputError(f"store.url: a file's address has three slashes and an absolute path; {_FORMS}")
    if parts.scheme == "postgresql" and not parts.path.strip("/"):
        raise InputError(f"store.url: it names no database; {_FORMS}")
    return found


_FORMS = "such as postgresql://user@host/database, journal:///shared/folder/study.journal, sqlite:///folder/study.db"
