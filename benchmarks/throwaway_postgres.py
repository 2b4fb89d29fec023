"""A PostgreSQL cluster on loopback that is thrown away, for tests and measurements: Debian's package, no service."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

USER = "qanas"


def lacking() -> str:
    """Return what is missing for a cluster; empty where nothing is."""
    if not _programs():
        return "no PostgreSQL; on Debian: apt-get install postgresql"
    if os.getuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL doesn't run as root, and there is no runuser"
    return ""


def _programs() -> str:
    """Return the folder of the newest version's programs; empty where there is none."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))  # noqa: PTH207 - one folder of the system
    on_path = shutil.which("initdb")
    return found[-1] if found else str(Path(on_path).parent) if on_path else ""


class Postgres:
    """A cluster with one database, a user and a password of its own; gone with the context.

    Attributes:
        port: on loopback.
        password: of the user.
    """

    def __init__(self) -> None:
        """Make it, and start it."""
        self._home = Path(tempfile.mkdtemp(prefix="qanas-postgres-"))
        self._as = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if self._as:
            shutil.chown(self._home, "postgres")
        self.password = secrets.token_hex(8)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        secret = self._home / "password"
        secret.write_text(self.password, "utf-8")
        secret.chmod(0o644)
        self._data = self._home / "data"
        self._run("initdb", "-D", str(self._data), "-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}")
        secret.unlink()
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "qanas",
                  env={**os.environ, "PGPASSWORD": self.password})  # fmt: skip

    @property
    def url(self) -> str:
        """The address of its database, without the password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/qanas"

    def _run(self, program: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        command = [*self._as, f"{_programs()}/{program}", *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self._home, env=env)  # noqa: S603 - our own

    def start(self) -> None:
        """Start its server."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._home}"
        self._run("pg_ctl", "start", "-w", "-D", str(self._data), "-o", options, "-l", str(self._home / "log"))

    def stop(self) -> None:
        """Stop its server at once, in the middle of what it does."""
        self._run("pg_ctl", "stop", "-m", "immediate", "-D", str(self._data))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Throw it away."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)
