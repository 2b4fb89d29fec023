"""What command lines name, and how shells complete it: recipes, folders of runs, models, devices.

Nothing heavy is imported: each Tab asks anew.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from qanas.core.errors import InputError

RUN_FILE = "recipe.toml"
"""What the folder of every run has."""

_HINTS = ("recipes", "runs")
"""Folders that are looked into where nothing was typed yet."""


def recipes(incomplete: str) -> list[str]:
    """Return recipes, and folders on the way to them or of data."""
    return _paths(incomplete, lambda path: path.suffix == ".toml")


def recipes_and_models(incomplete: str) -> list[str]:
    """Return recipes and .tflite files, and folders on the way to them."""
    return _paths(incomplete, lambda path: path.suffix in {".toml", ".tflite"})


def run_folders(incomplete: str) -> list[str]:
    """Return folders of runs, and such that may hold some."""
    return _paths(incomplete, lambda path: (path / RUN_FILE).is_file())


def devices(incomplete: str) -> list[str]:
    """Return the names of devices, and files of devices of one's own."""
    from importlib import resources

    names = (entry.name for entry in resources.files("qanas.hardware.devices").iterdir())
    known = sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))
    return [name for name in known if name.startswith(incomplete)] + _paths(
        incomplete, lambda path: path.suffix == ".toml"
    )


def _paths(incomplete: str, fits: Callable[[Path], bool]) -> list[str]:
    return list(dict.fromkeys(_found(incomplete, fits)))


def _found(incomplete: str, fits: Callable[[Path], bool]) -> Iterator[str]:
    typed = Path(incomplete or ".")
    inside = not incomplete or incomplete.endswith("/")
    folder, start = (typed, "") if inside else (typed.parent, typed.name)
    for path in _entries(folder):
        if path.name.startswith(start) and (start or not path.name.startswith(".")):
            if fits(path):
                yield str(path)
            elif path.is_dir():
                yield f"{path}/"
    if not incomplete:
        yield from (str(path) for hint in _HINTS for path in _entries(Path(hint)) if fits(path))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


RecipeArgument = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A TOML file; recipes/ has examples.", autocompletion=recipes)
]
RecipesArgument = Annotated[
    list[Path],
    typer.Argument(metavar="RECIPE...", help="Recipes whose spaces are compared.", autocompletion=recipes),
]
SubjectArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE|MODEL",
        help="A recipe, whose reference it is of, or a .tflite file.",
        autocompletion=recipes_and_models,
    ),
]
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.", autocompletion=run_folders)]
FoldersArgument = Annotated[
    list[Path],
    typer.Argument(metavar="DIR...", help="The folders of two or more runs.", autocompletion=run_folders),
]
DeviceArgument = Annotated[
    str | None,
    typer.Argument(help='One of them, or a .toml file: all that is known of it. Or "fit".', autocompletion=devices),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=value", help="Set one key of the recipe; may be repeated."),
]


def require_page(out: Path | None) -> None:
    """Refuse a page that isn't called so, before anything is computed: it would replace a model, or a recipe.

    Raises:
        InputError: its name ends otherwise.
    """
    if out is not None and out.suffix != ".html":
        raise InputError(f"--out {out}: a page is written there; name it *.html, such as {out.with_suffix('.html')}")


def with_home(words: Sequence[str]) -> list[str]:
    """Return a command line with the home folder in ``--out=~/runs``: shells expand what a word begins with alone.

    >>> with_home(["run", "--out=~/runs"])[1] == f"--out={Path.home()}/runs"
    True
    """
    found = []
    for word in words:
        name, _, value = word.partition("=")
        at_home = name.startswith("--") and value.startswith("~")
        # A name that nobody has stays as it is, as in a shell.
        found.append(f"{name}={os.path.expanduser(value)}" if at_home else word)  # noqa: PTH111 - see above
    return found


def tell_at_once(text: str) -> None:
    """Say what is done before torch is imported, which takes seconds; a pipe has it at once, too."""
    typer.echo(text)
    sys.stdout.flush()


def look_at(recipe: Path, settings: list[str]) -> None:
    """Refuse a recipe that can't be read before anything is imported that takes seconds."""
    from qanas.core.keys import read_tables, set_key

    content = read_tables(recipe)
    for setting in settings:
        set_key(content, setting)
