"""qanas from Python: the same as the commands, with data frames for what they print."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from qanas.core.errors import InputError
from qanas.core.keys import flatten
from qanas.core.run_folder import RunFolder, read_table

if TYPE_CHECKING:
    import polars as pl

    from qanas.core.card import Card
    from qanas.planning.progress import Progress

FilePath = str | os.PathLike[str]

Overrides = Mapping[str, Any] | Sequence[str]
"""``{"strategy.trials": 20}``, ``{"strategy": {"trials": 20}}`` or ``["strategy.trials=20"]``."""


@dataclass(frozen=True)
class Result:
    """A run, as its folder tells it when it is read; `load` reads it anew.

    A table whose file is not there yet, because the run was interrupted, has no rows.

    Attributes:
        folder: of the run; the models' files are in its ``models``.
        front: of the search: scores, costs and settings, one row a point; ``candidate`` names the ones that shipped.
        finalists: the reference and the finalists: float, quantized and deployed scores over their trainings.
        trials: all of them: what was measured, or why they failed or were rejected (``docs/analysis.md``); no rows for
            a search over tables of blocks, which are Parquet files in the folder's ``blocks``.
        models: the cards of the shipped models by name, the reference first.
        recipe: resolved: every default, versions, the data's fingerprint.
        summary: counts and times, and the finalists that did not ship, with their reasons.
    """

    folder: Path
    front: pl.DataFrame
    finalists: pl.DataFrame
    trials: pl.DataFrame
    models: dict[str, Card]
    recipe: dict[str, Any]
    summary: dict[str, Any]

    @property
    def report(self) -> Path:
        """The report's page."""
        return RunFolder(self.folder).report


def run(
    recipe: FilePath, overrides: Overrides = (), out: FilePath | None = None, progress: Progress | None = None
) -> Result:
    """Search, train the finalists, export, re-measure, report: what ``qanas run`` does.

    Ctrl-C raises KeyboardInterrupt and loses nothing that was finished: the same call goes on from there, as it does
    when a process was killed. Worker processes don't import the calling script, which needs no main guard. Runs in
    several threads of a process wait for each other.

    Args:
        recipe: a TOML file.
        overrides: keys that differ from the file, as a mapping (values as they are) or as the command's ``--set``
            takes them.
        out: where to put everything; ``runs/<recipe's name>`` if None.
        progress: who is told; lines or a live table on standard output if None.

    Returns:
        The run, with its tables.

    Raises:
        InputError: one line that names the file, the key and the mend.

    Example:
        result = qanas.run("recipes/turbofan_quick.toml", overrides={"strategy.trials": 20})
        result.front.select("mae_quantized", "weight_bytes")
    """
    from qanas.recipe import load_plan
    from qanas.reporting.live import LiveDisplay
    from qanas.reporting.report import write_report
    from qanas.workflows.run import run_search

    path = Path(recipe)
    given = Path(out) if out is not None else Path("runs") / path.stem
    folder = RunFolder(given.absolute())  # a user's class may change the current folder
    here = Path.cwd()
    with _ONE_AT_A_TIME, _process_left_as_it_was():
        plan = load_plan(path, override_texts(overrides))
        plan.check()
        if progress is None:
            with LiveDisplay() as display:
                run_search(plan, folder, display)
        else:
            run_search(plan, folder, progress)
        write_report(folder)
        os.chdir(here)
    return load(given)


_ONE_AT_A_TIME = threading.RLock()
"""Held by a run: torch's generator and the tracing of networks are one for all threads of a process."""


@contextmanager
def _process_left_as_it_was() -> Iterator[None]:
    """Give the caller's process back what a run changes in it: where modules are found, and what Optuna prints."""
    import optuna

    path, verbosity = list(sys.path), optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        sys.path[:] = path
        optuna.logging.set_verbosity(verbosity)


def load(folder: FilePath) -> Result:
    """Return a run that is there already, finished or not.

    Raises:
        InputError: there is none, or one of its files is damaged.
    """
    from qanas.reporting.run_data import trials_file

    found = RunFolder(Path(folder))
    found.require()
    return Result(
        folder=found.path,
        front=read_table(found.front),
        finalists=read_table(found.finalists),
        trials=read_table(trials_file(found)),
        models=found.cards(),
        recipe=found.read_recipe(),
        summary=found.read_summary(),
    )


def override_texts(overrides: Overrides) -> list[str]:
    """Return overrides as the command takes them: ``a.b=value``, the value in TOML.

    >>> override_texts({"strategy": {"trials": 20}, "space.name": "lstm"})
    ['strategy.trials=20', 'space.name="lstm"']

    Raises:
        InputError: a value that TOML can't hold.
    """
    if isinstance(overrides, str):
        return [overrides]
    if not isinstance(overrides, Mapping):
        return list(overrides)
    return [f"{key}={_toml(key, value)}" for key, value in flatten(overrides).items()]


def _toml(key: str, value: object) -> str:
    plain = os.fspath(value) if isinstance(value, os.PathLike) else value
    try:
        return tomli_w.dumps({"value": plain}).partition("=")[2].strip()
    except TypeError as error:
        raise InputError(
            f"overrides: {key} = {value!r} can't be written as TOML; give a number, a text, a truth value or a list"
        ) from error
