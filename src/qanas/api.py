"""qanas from Python: the same as the commands, with data frames for what they print."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import tomli_w

from qanas.core.errors import InputError, unknown
from qanas.core.keys import LAYERS, flatten
from qanas.core.own_modules import callers_modules_kept
from qanas.core.run_folder import RunFolder, read_table

if TYPE_CHECKING:
    import polars as pl
    from torch import nn

    from qanas.core.card import Card
    from qanas.exporting.report import Export
    from qanas.exporting.samples import Given
    from qanas.hardware.profile import Profile
    from qanas.planning.progress import Progress
    from qanas.quantization.border import Arrays
    from qanas.shipping.shipped import Pick
    from qanas.workflows.check import Forecast

FilePath = str | os.PathLike[str]

Overrides = Mapping[str, Any] | Sequence[str]
"""``{"strategy.trials": 20}``, ``{"strategy": {"trials": 20}}`` or ``["strategy.trials=20"]``."""


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        told = [f"{len(self.trials)} trials", f"front of {len(self.front)}", f"{len(self.models)} models"]
        verdict = self.summary.get("verdict", {})
        told += [f"take {verdict['recommended']}"] if isinstance(verdict, dict) and "recommended" in verdict else []
        return f"<qanas run {self.folder}: {self.summary.get('status', 'not ended')}, {', '.join(told)}>"

    @property
    def report(self) -> Path:
        """The report's page."""
        return RunFolder(self.folder).report


def run(
    recipe: FilePath,
    overrides: Overrides = (),
    out: FilePath | None = None,
    progress: Progress | None = None,
    *,
    watch: bool = False,
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
        watch: open the report, which follows the run, in a browser where there is one.

    Returns:
        The run, with its tables.

    Raises:
        InputError: one line that names the file, the key and the mend.

    Example:
        result = qanas.run("recipes/turbofan_quick.toml", overrides={"strategy.trials": 20})
        result.front.select("mae_quantized", "weight_bytes")
    """
    from qanas.reporting.live import LiveDisplay

    path = Path(recipe)
    given = Path(out) if out is not None else Path("runs") / path.stem
    with _ONE_AT_A_TIME, _process_left_as_it_was():
        if progress is None:
            with LiveDisplay() as display:
                display.waiting("reading data, trying everything once")
                _run(path, overrides, given, display, display.message, watch=watch)
        else:
            _run(path, overrides, given, progress, lambda _: None, watch=watch)
    return load(given)


def _run(
    recipe: Path, overrides: Overrides, out: Path, progress: Progress, say: Callable[[str], None], *, watch: bool
) -> None:
    """Run a recipe, and leave its report as it ends.

    Args:
        recipe: a TOML file.
        overrides: as `run` takes them.
        out: where to put everything.
        progress: who is told.
        say: told where the report is.
        watch: whether it is opened.
    """
    from qanas.recipe import load_plan
    from qanas.recipe.begun import as_begun
    from qanas.reporting.following import FollowingReport, opened
    from qanas.reporting.report import write_report
    from qanas.workflows.run import run_search

    folder = RunFolder(out.absolute())  # a user's class may change the current folder
    plan = load_plan(recipe, override_texts(overrides))
    plan.check()

    def there() -> None:
        say(f"report, which follows the run: {RunFolder(out).report}")
        if watch:
            say(opened(folder.report))

    run_search(as_begun(plan, folder), folder, progress, FollowingReport(folder, there))
    write_report(folder)


_ONE_AT_A_TIME = threading.RLock()
"""Held by a run: torch's generator and the tracing of networks are one for all threads of a process."""


@contextmanager
def _process_left_as_it_was() -> Iterator[None]:
    """Give the caller's process back what a run changes in it.

    That is where modules are found, what Optuna prints, and the current folder.
    """
    import optuna

    here, verbosity = Path.cwd(), optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with callers_modules_kept():
            yield
    finally:
        os.chdir(here)
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


def check(recipe: FilePath, overrides: Overrides = ()) -> Forecast:
    """Hold a recipe against everything that a run does, on a few samples, and say what it would be.

    Args:
        recipe: a TOML file.
        overrides: as `run` takes them.

    Returns:
        The reference's costs, remarks on the data, the hours that a run may take.

    Raises:
        InputError: one line that names the file, the key and the mend.
    """
    from qanas.recipe import load_plan
    from qanas.workflows.check import checked

    with _process_left_as_it_was():
        return checked(load_plan(Path(recipe), override_texts(overrides)))


def profile(subject: FilePath, overrides: Overrides = (), device: str | None = None) -> Profile:
    """Return what each layer costs, of a recipe's reference as it would ship, or of any .tflite file.

    Args:
        subject: a recipe, or a .tflite file.
        overrides: of the recipe's keys.
        device: whose latency is told; the recipe's, or this machine, if left out.

    Raises:
        InputError: it can't be read, or has an operator that nothing is known of.
    """
    from qanas.deployment.tflite_reader import read_tflite
    from qanas.hardware.device import Device
    from qanas.hardware.profile import profiled
    from qanas.recipe import load_plan

    path, settings = Path(subject), override_texts(overrides)
    if path.suffix.lower() != ".tflite":
        with _process_left_as_it_was():
            plan = load_plan(path, settings)
            plan.check()
            bench = plan.bench
            parts = [name for name, _ in bench.build(bench.reference, 0).named_children()]
            chosen = bench.device if device is None else Device.named(device)
            return profiled(bench.blueprint(bench.reference).program, chosen, parts)
    if settings:
        raise InputError(f"{path}: a file has no settings; leave them out, or name a recipe")
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a recipe, or a model as .tflite")
    try:
        return profiled(read_tflite(path.read_bytes()), Device.named(device or "host"))
    except (InputError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error


def pick(
    run: Result | FilePath, limits: Mapping[str, float | str] | None = None, goals: Mapping[str, float] | None = None
) -> Pick:
    """Name the best shipped model within some limits, or the smallest that reaches some goals, and why.

    Args:
        run: a result, or the folder of a run.
        limits: upper bounds on costs: ``{"arena_bytes": "64 KiB"}``.
        goals: scores to be reached: ``{"accuracy": 0.9}``; the recipe's if None.

    Raises:
        InputError: no such model.
    """
    from qanas.shipping.shipped import goals_of, parse_goal, parse_limit, pick_model

    folder = _folder_of(run)
    wanted = goals_of(folder) if goals is None else [parse_goal(f"{n}={b}", folder) for n, b in goals.items()]
    return pick_model(folder, [parse_limit(f"{name}={bound}") for name, bound in (limits or {}).items()], wanted)


def verify(run: Result | FilePath) -> dict[str, tuple[str, ...]]:
    """Measure every shipped model again; return what differs from its card, by name: nothing where it is true.

    Args:
        run: a result, or the folder of a run.

    Raises:
        InputError: the folder holds no run, or the data is not there.
    """
    from qanas.recipe import load_plan
    from qanas.shipping.shipped import require_same_data, verify_models

    folder = _folder_of(run)
    with _process_left_as_it_was():
        plan = load_plan(folder.recipe)
        plan.check()
        require_same_data(plan, folder)
        return {verdict.identity: verdict.differences for verdict in verify_models(plan, folder)}


def compare(
    *runs: Result | FilePath, score: str | None = None, cost: str | None = None, out: FilePath | None = None
) -> dict[str, Any]:
    """Put the fronts of runs on one scale: what ``qanas compare`` writes as numbers.

    Args:
        runs: two or more results or folders.
        score: the score's column; the runs' own if None.
        cost: the cost's column; likewise.
        out: a page's name, or a folder, to write page and numbers to; None: nothing is written.

    Raises:
        InputError: they can't be put on the same axes.
    """
    from qanas.reporting.comparison import compare_runs
    from qanas.reporting.comparison_page import comparison_json, write_comparison

    comparison = compare_runs([_folder_of(run) for run in runs], score, cost)
    if out is not None:
        write_comparison(comparison, Path(out))
    return comparison_json(comparison)


def export(  # noqa: PLR0913 - its options
    network: nn.Module, calibration: Given, out: FilePath | None = None, *, folder: FilePath | None = None,
    check: Given | None = None, scheme: str | None = None, changes: Sequence[str] = (), avoid: str | None = None,
    file_format: str = "tflite",
) -> Export:  # fmt: skip
    """Quantize a trained torch network and write its file: what ``qanas export`` does, of objects that are there.

    Args:
        network: trained; it stays as it is.
        calibration: samples as the network takes them, shape (n, *input shape), or by the names of its arguments.
        out: the file to write, or
        folder: a folder to write, with the file, its card and firmware.
        check: other samples, on which the file is compared with torch.
        scheme: how to quantize, by name.
        changes: what differs from it, ``field=value`` each.
        avoid: kernels of the device that are wrong.
        file_format: ``tflite``, ``tflite-float32`` or ``onnx``.

    Returns:
        What was written, how far it is from torch, what it costs; ``failure`` says why nothing was written.

    Raises:
        InputError: it can't be exported.
    """
    from qanas.exporting.export import exporter
    from qanas.exporting.folder import Place
    from qanas.exporting.source import Source

    place = Place.chosen(Path(out) if out else None, Path(folder) if folder else None, file_format)
    deploy = exporter(file_format, scheme, changes, avoid)
    source = Source.of(network, calibration, check=check)
    return place.ship(source, deploy(source))


def predict(run: Result | FilePath, inputs: Arrays, model: str | None = None) -> Arrays:
    """Return what a shipped model answers, as the runtime computes it: real values in, real values out.

    Several outputs come by name, and so does what is given by name.

    Args:
        run: a result, or the folder of a run.
        inputs: preprocessed as its card says, shape (n, *input shape) in the torch network's order of axes; of several
            inputs arrays by their names.
        model: its name; None: what `pick` names.

    Raises:
        InputError: there is no such model, or the inputs are no finite numbers of its shape.
    """
    from qanas.deployment.litert import LiteRTModel
    from qanas.quantization.border import alone
    from qanas.shipping.cards import border_of

    folder = _folder_of(run)
    name = pick(run).identity if model is None else model
    cards = folder.cards()
    if name not in cards:
        raise InputError(f"{folder.models}: {unknown('model', name, cards)}")
    found = LiteRTModel((folder.model(name) / "model.tflite").read_bytes(), border=border_of(cards[name]))
    try:
        given = found.accepted(inputs)
    except ValueError as error:
        raise InputError(f"inputs of {name}: {error}") from error
    answers: Mapping[str, Any] = found.predict(given)
    return cast("Arrays", answers if isinstance(inputs, Mapping) else alone(answers))


def _folder_of(run: Result | FilePath) -> RunFolder:
    found = RunFolder(run.folder if isinstance(run, Result) else Path(run))
    found.require()
    return found


def override_texts(overrides: Overrides) -> list[str]:
    """Return overrides as the command takes them: ``a.b=value``, the value in TOML.

    >>> override_texts({"strategy": {"trials": 20}, "space.name": "lstm"})
    ['strategy.trials=20', 'space.name="lstm"']
    >>> override_texts({"quantization": {"layers": {"block.0": {"weight_bits": 4}}}})
    ['quantization.layers."block.0".weight_bits=4']

    Raises:
        InputError: a value that TOML can't hold.
    """
    if isinstance(overrides, str):
        return [overrides]
    if overrides is None:
        return []
    if not isinstance(overrides, Mapping):
        return list(overrides)
    return [f"{key}={_toml(key, value)}" for key, value in flatten(_quoted(overrides)).items()]


_PLAIN = re.compile(r"[\w.-]+", re.ASCII)


def _quoted(table: Mapping[Any, Any], within: str = "") -> dict[str, Any]:
    """Return tables in which inner keys are quoted that dots would take apart: paths of modules, below ``layers``."""
    found = {}
    for key, value in table.items():
        name = str(key)
        whole = not within or (_PLAIN.fullmatch(name) and not (within == LAYERS and "." in name))
        inner = _quoted(value, name.rpartition(".")[2]) if isinstance(value, Mapping) else value
        found[name if whole else json.dumps(name)] = inner
    return found


def _toml(key: str, value: object) -> str:
    plain = os.fspath(value) if isinstance(value, os.PathLike) else value
    try:
        return tomli_w.dumps({"value": plain}).partition("=")[2].strip()
    except TypeError as error:
        raise InputError(
            f"overrides: {key} = {value!r} can't be written as TOML; give a number, a text, a truth value or a list"
        ) from error
