"""The files of a run: their names, atomic writes, and the lock that keeps a second run out."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import shutil
import sys
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import polars as pl
import tomli_w
from filelock import FileLock, Timeout

from qanas.core.card import Card
from qanas.core.errors import InputError
from qanas.core.json_values import json_value
from qanas.core.measures import Direction, Metric, measure_of

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path


logger = logging.getLogger("qanas")

DONE = "done"
"""The status of a run that went to its end, in `summary.json`."""

SEED_ID = "seed"
"""The folder of the reference under ``models/``."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that, killed at any moment, either the old or the new content is there.

    Processes that write the same file wait for each other.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with naming(path), _held(partial) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":
                file.close()  # no open file is renamed there
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)  # on a full disk it would keep the room that others need
            raise


@contextmanager
def _held(partial: Path) -> Iterator[BinaryIO]:
    """Open a file, made empty, that no other process writes meanwhile; without locks, that is as it comes."""
    while True:
        with partial.open("ab") as file:
            _lock(file)
            there = os.fstat(file.fileno())
            try:
                same = os.path.samestat(there, partial.stat())
            except FileNotFoundError:
                same = False
            if same:  # else who held it before has put it into its place
                if there.st_size:
                    file.truncate(0)  # left by a process that was killed
                yield file
                return


def _lock(file: BinaryIO) -> None:
    """Wait for an open file until nobody else holds it; it is free when it is closed, or its process dies."""
    if sys.platform != "win32":
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of the system name a file: those of a write, such as a full disk, name none."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def folder_written_atomically(path: Path) -> Iterator[Path]:
    """Give a folder to fill, which then appears under its name as a whole, or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with naming(path):
            yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@dataclass(frozen=True)
class RunFolder:
    """Where everything of one run lies.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.toml"

    @property
    def study(self) -> Path:
        """Every trial, as Optuna's SQLite storage."""
        return self.path / "study.db"

    @property
    def scheme_sweep(self) -> Path:
        """One row a quantization scheme: its score on the reference, and which was chosen."""
        return self.path / "scheme_sweep.csv"

    @property
    def trials(self) -> Path:
        """Every trial as one typed table: what was measured, or why it failed or was rejected."""
        return self.path / "trials.parquet"

    @property
    def trials_csv(self) -> Path:
        """The same as early runs left it; read where trials.parquet is not there."""
        return self.path / "trials.csv"

    @property
    def front(self) -> Path:
        """One row a front point."""
        return self.path / "front.csv"

    @property
    def finalists(self) -> Path:
        """One row a finalist: its metrics over several trainings."""
        return self.path / "finalists.csv"

    @property
    def importance(self) -> Path:
        """How much each setting mattered, as JSON."""
        return self.path / "importance.json"

    @property
    def summary(self) -> Path:
        """Counts and times of the run, as JSON."""
        return self.path / "summary.json"

    @property
    def log(self) -> Path:
        """What happened, with the tracebacks that the screen spares the user."""
        return self.path / "log.txt"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def models(self) -> Path:
        """One folder a shipped model."""
        return self.path / "models"

    @property
    def trainings(self) -> Path:
        """The finished trainings of finalists, kept so that a killed run goes on from them."""
        return self.path / "trainings"

    @property
    def prepared(self) -> Path:
        """The task's data as worker processes map it; there while a run with several jobs works."""
        return self.path / "prepared"

    @property
    def blocks(self) -> Path:
        """Supernets and tables of a block-wise search."""
        return self.path / "blocks"

    @property
    def trained(self) -> Path:
        """The trained weights of trials, where a strategy hands them on to their children."""
        return self.path / "trained"

    @property
    def features(self) -> Path:
        """What the teacher has at its blocks' borders; there while a block-wise search works."""
        return self.path / "features"

    def model(self, identity: str) -> Path:
        """The folder of one shipped model."""
        return self.models / identity

    def exists(self) -> bool:
        """Tell whether a run was started here."""
        return self.recipe.is_file()

    def require_sound(self) -> None:
        """Refuse what has the name of a file or folder of the run and is none: a pipe, say, would never be written.

        Raises:
            InputError: names it.
        """
        files = (self.recipe, self.study, self.scheme_sweep, self.trials, self.front, self.finalists, self.importance,
                 self.summary, self.log, self.report, self.path / "lock")  # fmt: skip
        folders = (self.models, self.trainings, self.prepared, self.blocks, self.features)
        odd = [path for path in files if os.path.lexists(path) and not path.is_file()]
        odd += [path for path in folders if os.path.lexists(path) and not path.is_dir()]
        if odd:
            kind = "folder" if odd[0] in folders else "file"
            raise InputError(f"{odd[0]}: this is no {kind}; take it away, and the run writes its own")

    def require(self) -> None:
        """Refuse a folder in which no run was started.

        Raises:
            InputError: there is no recipe.toml.
        """
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such folder; give the folder of a run (qanas run RECIPE --out DIR)")
        if not self.exists():
            raise InputError(f"{self.recipe}: missing, so this is no run's folder; give the folder of a qanas run")

    def read_recipe(self) -> dict[str, Any]:
        """Return the resolved recipe.

        Raises:
            InputError: it was damaged by hand.
        """
        try:
            return tomllib.loads(self.recipe.read_text("utf-8", "surrogateescape"))  # a folder's name may be no UTF-8
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{self.recipe}: {error}; the file was damaged, start again in another folder") from error

    def write_recipe(self, resolved: Mapping[str, Any]) -> None:
        """Write the resolved recipe."""
        write_atomically(self.recipe, tomli_w.dumps(resolved).encode("utf-8", "surrogateescape"))

    def write_table(self, path: Path, rows: list[dict[str, Any]]) -> None:
        """Write a table as CSV; columns are those of all rows, in the order of first use."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        data = {name: [row.get(name) for row in rows] for name in columns}
        write_atomically(path, pl.DataFrame(data, strict=False).write_csv().encode())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write counts and times; what is not defined is null."""
        write_atomically(self.summary, (json.dumps(json_value(summary), indent=2, allow_nan=False) + "\n").encode())

    def read_summary(self) -> dict[str, Any]:
        """Return counts and times; empty before the search has ended once.

        Raises:
            InputError: it was damaged.
        """
        if not self.summary.is_file():
            return {}
        try:
            summary = json.loads(self.summary.read_text("utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.summary}: {error}; it was damaged, run again to write it anew") from error
        if not isinstance(summary, dict):
            raise InputError(f"{self.summary}: it holds no table; it was damaged, run again to write it anew")
        return summary

    def seconds_before(self, table: str) -> dict[str, float]:
        """Return what earlier sessions took, by part; a damaged file, which is written anew, tells nothing.

        Args:
            table: of the summary.
        """
        try:
            found = self.read_summary().get(table, {})
        except InputError:
            return {}
        numbers = found.items() if isinstance(found, dict) else ()
        return {name: float(value) for name, value in numbers if isinstance(value, int | float)}

    @property
    def done(self) -> bool:
        """Whether the run went to its end: all that it was asked for is here."""
        return self.read_summary().get("status") == DONE

    def metric_directions(self) -> dict[str, Direction]:
        """Return which way each metric of the run's task is better; of early runs those of objectives alone."""
        told: dict[str, Direction] = self.read_summary().get("metrics", {})
        named = ((measure_of(column), way) for column, way in self.read_recipe().get("objectives", {}).items())
        found: dict[str, Direction] = {measure.name: way for measure, way in named if isinstance(measure, Metric)}
        return found | told

    def cards(self) -> dict[str, Card]:
        """Return the cards of the shipped models, the reference first, then by size; others' folders are passed over.

        Raises:
            InputError: a card that is no card.
        """
        cards = {}
        for path in sorted(self.models.glob("[!.]*/card.json")):
            content = path.read_bytes()
            try:
                cards[path.parent.name] = Card.model_validate_json(content)
            except ValueError as error:
                if _is_of_others(content):
                    continue
                first = str(error).splitlines()[0]
                raise InputError(f"{path}: {first}; the card was damaged, run again to write it anew") from error
        order = sorted(cards, key=lambda name: (name != SEED_ID, cards[name].weight_bytes, name))
        return {name: cards[name] for name in order}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder while this one works in it.

        The operating system frees the lock when its process dies, however it dies: a lock can't be stale.

        Raises:
            InputError: another run works here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        holder = self.path / "lock.pid"
        lock = FileLock(self.path / "lock")
        process = _process_of(holder)
        taken = f"{self.path}: another qanas run (process {process or 'unknown'}) works in this folder"
        try:
            with warnings.catch_warnings(record=True) as said:  # without locks it takes another kind by itself
                warnings.simplefilter("always")
                lock.acquire(timeout=0)
            for warning in said:
                logger.warning("%s: %s", self.path, warning.message)
        except Timeout as error:
            raise InputError(f"{taken}; wait for it or choose --out") from error
        except (NotImplementedError, OSError) as error:
            if not locks_lacking(error):
                raise
            # Processes are told apart by their numbers instead, on one machine.
            if process is not None and process != os.getpid() and _is_alive(process):
                raise InputError(f"{taken}; wait for it, or remove {holder} if that is another program") from error
            logger.warning("%s: the file system has no locks; don't run twice in it from two machines", self.path)
        try:
            write_atomically(holder, f"{os.getpid()}\n".encode())
            yield
            holder.unlink(missing_ok=True)
        finally:
            lock.release()


def locks_lacking(error: BaseException) -> bool:
    """Tell whether an error says that the file system has no locks, as some that are mounted over a network."""
    return isinstance(error, NotImplementedError) or getattr(error, "errno", None) in _NO_LOCKS


_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def _is_of_others(content: bytes) -> bool:
    """Tell whether a card is another program's: a JSON object with nothing in it that tells a shipped model."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and bool(told) and not {"candidate", "sha256"} & told.keys()


def _process_of(holder: Path) -> int | None:
    """Return the number in a lock's file; None where it holds none."""
    try:
        return int(holder.read_bytes())
    except (OSError, ValueError):
        return None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


PARQUET = ".parquet"

TEXT_COLUMNS = ("candidate", "key", "outcome", "reason", "status")
"""Columns of text in any table: in CSV, names made of digits alone must stay as they were written."""


def read_table(path: Path) -> pl.DataFrame:
    """Read a table, CSV or Parquet by its name; a missing or empty file is a table without rows or columns.

    Args:
        path: of the file.

    Returns:
        One row a trial, front point or finalist.

    Raises:
        InputError: the file is no table.
    """
    content = path.read_bytes() if path.is_file() else b""
    if not content.strip():
        return pl.DataFrame()
    try:
        # By its content: the library takes brackets and stars in a path for a pattern, and other files for this one.
        return pl.read_parquet(io.BytesIO(content)) if path.suffix == PARQUET else _read_csv(content)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OSError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{path}: {first}; the table was damaged, run again to write it anew") from error


def _read_csv(content: bytes) -> pl.DataFrame:
    table = pl.read_csv(content, infer_schema_length=None)
    text = {name: pl.String for name in TEXT_COLUMNS if name in table.columns}
    return pl.read_csv(content, infer_schema_length=None, schema_overrides=text)


def write_parquet(path: Path, table: pl.DataFrame) -> None:
    """Write a table with its types; equal tables give equal bytes."""
    content = io.BytesIO()
    table.write_parquet(content)
    write_atomically(path, content.getvalue())
