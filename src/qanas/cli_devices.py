"""Commands on what networks take on devices: profiles, spaces, tables of latency, and the devices themselves."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from qanas import arguments
from qanas.answers import Answer, json_asked, with_json
from qanas.arguments import (
    DeviceArgument,
    RecipeArgument,
    RecipesArgument,
    SetOption,
    SubjectArgument,
    look_at,
    require_page,
    tell_at_once,
)
from qanas.core.errors import InputError


def _advance(progress: Any, bar: Any, done: int) -> None:  # noqa: ANN401 - rich is imported inside commands
    progress.update(bar, completed=done)


@with_json
def profile(
    subject: SubjectArgument,
    settings: SetOption = None,
    device: Annotated[
        str | None,
        typer.Option(help="Whose latency is told; the recipe's if left out.", autocompletion=arguments.devices),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also draw it: a page's name (*.html).")] = None,
) -> Answer:
    """Layer by layer: parameters, bytes, multiply-accumulates, memory, latency on a device, and the bottleneck."""
    require_page(out)
    from rich.console import Console

    from qanas import api
    from qanas.reporting.profile_page import print_profile, profile_json, write_profile

    if subject.suffix.lower() != ".tflite":
        look_at(subject, settings or [])
    found = api.profile(subject, settings or [], device)
    if not json_asked():
        print_profile(Console(), found)
    if out is not None:
        write_profile(found, str(subject), out)
        typer.echo(f"page: {out}")
    return Answer(profile_json(found))


@with_json
def space(
    recipes: RecipesArgument,
    settings: SetOption = None,
    samples: Annotated[int, typer.Option(min=1, help="Candidates that are drawn of each.")] = 1000,
    out: Annotated[Path | None, typer.Option(help="Also draw it: a page's name (*.html).")] = None,
) -> Answer:
    """Which search space to take, by costs alone: how much of it fits the device, and how much that computes."""
    require_page(out)
    for recipe in recipes:
        look_at(recipe, settings or [])
    tell_at_once(f"reading {', '.join(map(str, recipes))}")
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    from qanas.planning.space_quality import space_quality
    from qanas.recipe import load_plan
    from qanas.reporting.space_page import print_spaces, spaces_json, write_spaces

    found = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for recipe in recipes:
            plan = load_plan(recipe, settings or [])
            bar = progress.add_task(escape(recipe.stem), total=samples)
            told = partial(_advance, progress, bar)
            found.append(space_quality(recipe.stem, plan, samples, told))
    if not json_asked():
        print_spaces(Console(), found)
    if out is not None:
        write_spaces(found, out)
        typer.echo(f"page: {out}")
    return Answer(spaces_json(found))


@with_json
def table(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option(help="The table's file (*.json); one that is there is added to.")],
    settings: SetOption = None,
    samples: Annotated[int, typer.Option(min=1, help="Candidates whose operators are taken, drawn at random.")] = 24,
    whole: Annotated[
        bool, typer.Option("--whole", help='Take whole networks, for a device of method "transfer".')
    ] = False,
) -> Answer:
    """Take the recipe's device's time of the operators of its space, each by itself, for a device of method "table"."""
    look_at(recipe, settings or [])
    tell_at_once(f"reading {recipe}")
    from qanas.hardware.latency.table import make_table
    from qanas.hardware.latency.transferred import measure_networks
    from qanas.planning.space_quality import drawn
    from qanas.recipe import load_plan

    plan = load_plan(recipe, settings or [])
    bench, device = plan.bench, plan.bench.device
    blueprints = [bench.blueprint(bench.reference), *drawn(bench, samples)]
    files = [blueprint.file for blueprint in blueprints if blueprint is not None]
    if whole:
        networks = measure_networks(device.name, device.latency, files, out)
        typer.echo(f"{out}: {len(networks.networks)} networks; {networks.protocol}")
        return Answer({"file": out, "networks": len(networks.networks), "protocol": networks.protocol})
    made = make_table(device.name, device.latency, files, out)
    typer.echo(f"{out}: {len(made.values)} operators of {len(files)} networks; {made.protocol}")
    return Answer({"file": out, "operators": len(made.values), "networks": len(files), "protocol": made.protocol})


@with_json
def devices(
    name: DeviceArgument = None,
    pairs: Annotated[
        Path | None, typer.Argument(help='Of "fit": a table of networks (.tflite files) and the ms they take.')
    ] = None,
    out: Annotated[Path, typer.Option(help='Of "fit": the device\'s file.')] = Path("device.toml"),
    clock_mhz: Annotated[float, typer.Option(min=0.001, help='Of "fit": the board\'s clock.')] = 100.0,
) -> Answer:
    """List the devices that latency can be had for, or say all of one; "fit PAIRS.csv" makes one of measured pairs."""
    from qanas.hardware.device import Device, device_names

    if pairs is not None and name != "fit":
        raise InputError(f"devices: got unexpected extra argument ({pairs}); of two, the first one is fit")
    if pairs is not None:
        from qanas.hardware.fitting import fit, read_pairs, require_own, write_device

        require_own(out)
        write_device(out, fit(read_pairs(pairs), clock_mhz), clock_mhz)
        name = str(out)
    if name is not None:
        found = Device.named(name)
        typer.echo("\n".join(found.lines()))
        return Answer({"devices": [found.model_dump(mode="json")]})
    known = [Device.named(each) for each in device_names()]
    typer.echo("\n".join(f"{device.name}: {device.description}" for device in known))
    return Answer({"devices": [{"name": device.name, "description": device.description} for device in known]})
