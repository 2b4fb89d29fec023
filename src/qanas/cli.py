"""The command line. Imports are inside commands: neither `qanas --help` nor a mistyped path may wait for torch."""

from __future__ import annotations

import io
import os
import shlex
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from qanas import arguments
from qanas.answers import Answer, Answering, json_asked, usage_message, with_json
from qanas.arguments import (
    FolderArgument,
    FoldersArgument,
    RecipeArgument,
    SetOption,
    look_at,
    tell_at_once,
    with_home,
)
from qanas.cli_devices import devices, profile, space, table
from qanas.core.errors import InputError
from qanas.execution.interrupts import interrupts_raised

if TYPE_CHECKING:
    from qanas.core.run_folder import RunFolder

DONE, DIFFERENCE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""What a command line that can't be understood raises; typer has no name of its own for it."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"qanas {version('qanas')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show which version this is.")
    ] = False,
) -> None:
    """Quantization-aware neural architecture search for edge devices."""


def _folder(path: Path) -> RunFolder:
    from qanas.core.run_folder import RunFolder

    folder = RunFolder(path)
    folder.require()
    return folder


@app.command()
@with_json
def run(
    recipe: RecipeArgument,
    settings: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="Where to put everything; runs/<recipe's name> if left out.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Open the report, which follows the run.")] = False,
) -> Answer:
    """Search, train the finalists, export, re-measure, report. The same command again goes on.

    Exit codes: 0 done; 1 nothing shipped, or nothing but degenerate models; 2 bad input; 130 interrupted.
    """
    if recipe.is_dir():  # data in place of a recipe: as `qanas new` does, unless that was done
        begun = _recipe_of(recipe)
        recipe = _of_data(begun, recipe) if begun.exists() else _new(recipe, begun)
    look_at(recipe, settings or [])
    tell_at_once(f"reading {recipe}")
    try:
        return _run(recipe, settings or [], out if out is not None else Path("runs") / recipe.stem, watch=watch)
    except KeyboardInterrupt:
        again = shlex.join(["qanas", *sys.argv[1:]])
        typer.echo(f"stopped; nothing finished is lost. To go on: {again}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _run(recipe: Path, settings: list[str], out: Path, *, watch: bool) -> Answer:
    from rich.console import Console

    from qanas import api
    from qanas.answers import run_told
    from qanas.core.run_folder import RunFolder
    from qanas.reporting.headline import print_models

    result = api.run(recipe, settings, out, watch=watch)
    print_models(Console(), RunFolder(result.folder))
    failures = result.summary["finalists"]["failures"]
    for failure in failures:
        typer.echo(f"not shipped: {failure['candidate']}: {failure['reason']}", err=True)
    baselines = sum(card.kind == "baseline" for card in result.models.values())
    besides = f", {baselines} of them baselines" if baselines else ""
    broken = sum(card.degenerate is not None for card in result.models.values())
    told = f", {broken} degenerate" if broken else ""
    typer.echo(f"{len(result.models)} models shipped{besides}, {len(failures)} failed{told}; report: {result.report}")
    useless = all(card.degenerate is not None for card in result.models.values())
    if useless and result.models:
        typer.echo("nothing shipped that is worth shipping: every model is degenerate", err=True)
    return Answer(run_told(RunFolder(result.folder)), DIFFERENCE if useless else DONE)


@app.command()
@with_json
def new(
    data: Annotated[Path, typer.Argument(metavar="FOLDER", help="Pictures, recordings, tables, masks: docs/tasks.md.")],
    out: Annotated[Path | None, typer.Option(help="The recipe; the folder's name and .toml if left out.")] = None,
    device: Annotated[
        str, typer.Option(help="What the networks are for, see qanas devices.", autocompletion=arguments.devices)
    ] = "host",
    target: Annotated[str | None, typer.Option(metavar="COLUMN", help="Of tables: what is to be predicted.")] = None,
) -> Answer:
    """Look at a folder of data, say what is in it, and write a recipe to begin with; runs nothing."""
    path = _new(data, out or _recipe_of(data), device, target)
    try:
        found = check(path)
    except InputError as error:
        raise InputError(
            f"{error} ({path} is written: mend the data, or change it there, then qanas check {path})"
        ) from error
    typer.echo(f"change it as you like; then: qanas run {path}")
    return found


def _recipe_of(data: Path) -> Path:
    return Path(f"{data.resolve().name}.toml")


def _of_data(recipe: Path, data: Path) -> Path:
    """Return a recipe that was begun with a folder; another folder's may have the same name.

    Raises:
        InputError: it is of other data.
    """
    from qanas.core.keys import path_named, read_tables

    task = read_tables(recipe).get("task")
    named = task.get("data") if isinstance(task, dict) else None
    place = None
    with suppress(LookupError, RuntimeError):  # a variable that isn't set, ~nobody
        place = path_named(named, recipe.parent) if isinstance(named, str) else None
    if place is None or place.resolve() != data.resolve():
        raise InputError(
            f"{recipe}: it is of other data ({named or 'none is named'}), not of {data}; write another one with "
            f"qanas new {data} --out NAME.toml, and run that"
        )
    return recipe


def _new(data: Path, path: Path, device: str = "host", target: str | None = None) -> Path:
    """Write a recipe for a folder."""
    tell_at_once(f"looking at {data}")
    from qanas.recipe.new import write_recipe

    suggestion = write_recipe(data, path, device, target)
    typer.echo(f"{path}: a recipe for the task {suggestion.task}")
    return path


@app.command()
@with_json
def check(recipe: RecipeArgument, settings: SetOption = None) -> Answer:
    """Validate a recipe, cost its reference, estimate the hours. Runs nothing."""
    look_at(recipe, settings or [])
    tell_at_once(f"reading {recipe}")
    from qanas.answers import check_lines, check_told
    from qanas.recipe import load_plan
    from qanas.workflows.check import PROBED_CANDIDATES, checked

    plan = load_plan(recipe, settings or [])
    expected = checked(plan)
    typer.echo("\n".join(check_lines(recipe, plan, expected, PROBED_CANDIDATES)))
    return Answer(check_told(recipe, plan, expected))


@app.command()
@with_json
def advise(
    recipe: RecipeArgument,
    settings: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="Where trainings are kept; runs/<recipe's name>-advice.")] = None,
    candidates: Annotated[int, typer.Option(min=4, help="That are trained in full.")] = 16,
) -> Answer:
    """Train a few candidates and say how to search: strategy, estimator, whether training settings matter."""
    look_at(recipe, settings or [])
    tell_at_once(f"reading {recipe}")
    from qanas.recipe import load_plan
    from qanas.workflows.advise import run_pilot

    plan = load_plan(recipe, settings or [])
    plan.check()
    found = run_pilot(plan, out or Path("runs") / f"{recipe.stem}-advice", candidates, typer.echo)
    for reason in found.reasons:
        typer.echo(f"- {reason}")
    typer.echo(f"advice: strategy {found.strategy}; estimator {found.estimator}")
    return Answer(asdict(found))


@app.command()
@with_json
def status(
    subject: Annotated[Path, typer.Argument(metavar="RECIPE|DIR", help="A recipe with \\[store], or a run's folder.")],
    settings: SetOption = None,
) -> Answer:
    """Who works on a study that several machines share, how fast it goes, and how long it will take."""
    if subject.is_dir():
        recipe = _folder(subject).read_recipe()
    else:
        look_at(subject, settings or [])
        from qanas.recipe import load_plan

        recipe = dict(load_plan(subject, settings or []).recipe)
    from qanas.workflows.status import status_of, told

    found = status_of(recipe)
    typer.echo("\n".join(told(found)))
    return Answer(found.as_json())


@app.command()
@with_json
def report(folder: FolderArgument) -> Answer:
    """Rebuild report.html from the run's files alone."""
    run_folder = _folder(folder)
    from rich.console import Console

    from qanas.answers import run_told
    from qanas.reporting.headline import print_models
    from qanas.reporting.report import write_report

    path = write_report(run_folder)
    print_models(Console(), run_folder)
    typer.echo(f"report: {path}")
    return Answer(run_told(run_folder))


@app.command()
@with_json
def compare(
    folders: FoldersArgument,
    score: Annotated[
        str | None,
        typer.Option(help="The score's column, such as mae_quantized; the runs' own if left out."),
    ] = None,
    cost: Annotated[
        str | None, typer.Option(help="The cost's column, such as weight_bytes; the runs' own if left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="A page's name (*.html), or a folder for compare.html.")] = Path(),
) -> Answer:
    """Overlay the fronts of runs, with hypervolumes on one scale; writes a page and its numbers as JSON."""
    runs = [_folder(path) for path in folders]
    from rich.console import Console

    from qanas.reporting.comparison import compare_runs
    from qanas.reporting.comparison_page import comparison_json, print_comparison, write_comparison

    comparison = compare_runs(runs, score, cost)
    page, numbers = write_comparison(comparison, out)
    print_comparison(Console(), comparison)
    typer.echo(f"page: {page}; numbers: {numbers}")
    return Answer({"page": page, "numbers": numbers, **comparison_json(comparison)})


@app.command()
@with_json
def verify(folder: FolderArgument) -> Answer:
    """Re-measure every shipped model against its card."""
    run_folder = _folder(folder)
    tell_at_once(f"reading {folder}")
    from qanas.answers import verify_told
    from qanas.recipe import load_plan
    from qanas.shipping.latency import told_latency
    from qanas.shipping.shipped import require_same_data, verify_models

    plan = load_plan(run_folder.recipe)
    plan.check()
    require_same_data(plan, run_folder)
    verdicts = []
    for verdict in verify_models(plan, run_folder):
        verdicts.append(verdict)
        outcome = "; ".join(verdict.differences) or "as its card says"
        typer.echo(f"{verdict.identity}: {outcome}")
    runnable = [verdict.identity for verdict in verdicts if verdict.runs]
    if runnable:
        typer.echo("\n".join(told_latency(plan.bench.device, run_folder, runnable)))
    if not verdicts:
        typer.echo(f"{run_folder.models}: no model was shipped", err=True)
    different = not verdicts or any(verdict.differences for verdict in verdicts)
    return Answer(verify_told(run_folder, verdicts), DIFFERENCE if different else DONE)


@app.command()
@with_json
def pick(
    folder: FolderArgument,
    limit: Annotated[list[str] | None, typer.Option(metavar="cost=bound", help="May be repeated.")] = None,
    goal: Annotated[
        list[str] | None,
        typer.Option(
            metavar="metric=bound", help="To be reached; the recipe's \\[goals] if left out. May be repeated."
        ),
    ] = None,
) -> Answer:
    """Name the best shipped model within some limits, or the smallest that reaches a score, and why."""
    run_folder = _folder(folder)
    from qanas.shipping.shipped import goals_of, parse_goal, parse_limit, pick_model

    goals = [parse_goal(text, run_folder) for text in goal] if goal else goals_of(run_folder)
    answer = pick_model(run_folder, [parse_limit(text) for text in limit or []], goals)
    place = run_folder.model(answer.identity)
    typer.echo(f"{place}: {answer.reason}")
    if answer.warning:
        typer.echo(f"warning: {answer.warning}", err=True)
    return Answer({"folder": place, "name": answer.identity, "reason": answer.reason, "warning": answer.warning})


@app.command()
@with_json
def export(  # noqa: PLR0913, PLR0917 - its options
    network: Annotated[
        str,
        typer.Argument(metavar="MODULE:OBJECT", help="A torch network, or a function without arguments that makes it."),
    ],
    calibration: Annotated[Path, typer.Option(help="Samples as the network takes them: an .npz file.")],
    out: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="A folder to write in its place: model.tflite, card.json, firmware/.")
    ] = None,
    array: Annotated[str | None, typer.Option(help="The samples' name in the file, if it holds several.")] = None,
    check: Annotated[
        Path | None, typer.Option(help="Other samples, to compare the file with torch: an .npz file.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A state dict (.safetensors, .pt, .pth, .ckpt) to load first.")
    ] = None,
    scheme: Annotated[str | None, typer.Option(help="How to quantize, by name; int8 if left out.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="field=value", help="What differs from it. May be repeated.")
    ] = None,
    avoid: Annotated[
        str | None, typer.Option(metavar="KIND", help="Kernels of the device that are wrong: grouped_convolution.")
    ] = None,
    file_format: Annotated[str, typer.Option("--format", help="tflite, tflite-float32 or onnx.")] = "tflite",
    noise: Annotated[
        bool, typer.Option("--noise", help="Tell which layers' integers make the noise; takes seconds.")
    ] = False,
) -> Answer:
    """Quantize a trained torch network of your own and write its .tflite or .onnx file, or a folder; no search."""
    from dataclasses import replace

    from qanas.exporting.export import exporter, noise_by_layer
    from qanas.exporting.folder import Place
    from qanas.exporting.source import NotShippedError, Source

    read = {"--calibration": calibration, "--check": check, "--weights": weights}
    place = Place.chosen(out, folder, file_format, read)
    deploy = exporter(file_format, scheme, changes or (), avoid)
    try:
        source = Source.load(network, calibration, weights=weights, array=array, check=check)
    except NotShippedError as error:
        typer.echo(f"not shipped: {error}", err=True)
        return Answer({"network": network, "failure": str(error)}, DIFFERENCE)
    deployed = deploy(source)
    shipped = place.ship(source, deployed)
    if noise and not shipped.layer_noise:
        shipped = replace(shipped, layer_noise=noise_by_layer(source, deployed))
    if not json_asked():
        typer.echo("\n".join(shipped.lines()))
    if shipped.failure:
        typer.echo(f"not shipped: {network}: {shipped.failure}", err=True)
    return Answer(shipped.as_json(), DIFFERENCE if shipped.failure else DONE)


for command in (profile, space, table, devices):
    app.command()(command)


def main() -> None:
    """Run the command line; bad input ends with one line and exit code 2."""
    try:
        with interrupts_raised():
            _main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a minus sign must not end a run where the terminal has none
            stream.reconfigure(errors="backslashreplace")
    with Answering(as_json=json_asked()) as answering:
        code = _ended(answering)
    sys.exit(code)


def _ended(answering: Answering) -> int:
    """Run the command that the command line names, and return the code that it ends with."""
    try:
        return answering.tell(app(with_home(sys.argv[1:]), standalone_mode=False))
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a command by itself prints its help
            cast("Any", error).show()
            return BAD_INPUT
        return answering.refuse(usage_message(error), BAD_INPUT)
    except (typer.Abort, KeyboardInterrupt):
        return answering.tell(INTERRUPTED)
    except InputError as error:
        return answering.refuse(f"qanas: {error}", BAD_INPUT)
    except OSError as error:
        if error.errno is None:
            raise
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        told = f"qanas: {place}{error.strerror}; check the path, its permissions and the disk"
        return answering.refuse(told, BAD_INPUT)
