"""Write the API pages from the docstrings; a warning of the generator is an error.

python tools/api_pages.py build/docs
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import pkgutil
import sys
import typing
import warnings
from pathlib import Path
from types import ModuleType

import pdoc

import qanas


def complete(package: ModuleType) -> None:
    """Let the generator see all of a package: the names that are imported on demand, and its modules.

    The generator takes ``__all__`` for the whole content, modules included.
    """
    names: list[str] = getattr(package, "__all__", [])
    if names:
        for name in names:
            setattr(package, name, getattr(package, name))
        modules = (module.name for module in pkgutil.iter_modules(package.__path__))
        names += [name for name in modules if name not in names]


def resolve_constructors() -> None:
    """Give made constructors their types: the generator can't look up names that are quoted there.

    Those of named tuples, and of dataclasses that inherit fields: these are named in their base's module.
    """
    for module in pkgutil.walk_packages(qanas.__path__, "qanas."):
        for kind in vars(importlib.import_module(module.name)).values():
            if not inspect.isclass(kind):
                continue
            if issubclass(kind, tuple) and hasattr(kind, "_fields"):
                kind.__new__.__annotations__ = typing.get_type_hints(kind)
            elif (
                dataclasses.is_dataclass(kind)
                and "__init__" in vars(kind)
                and any(map(dataclasses.is_dataclass, kind.__mro__[1:]))
            ):
                found = typing.get_type_hints(kind, include_extras=True)
                made = kind.__init__.__annotations__
                kind.__init__.__annotations__ = {name: found.get(name, told) for name, told in made.items()}


def packages() -> list[ModuleType]:
    """Return qanas and the packages in it, imported."""
    found = pkgutil.walk_packages(qanas.__path__, "qanas.")
    return [qanas, *(importlib.import_module(module.name) for module in found if module.ispkg)]


def write(folder: Path) -> int:
    """Write a page a module, an index and the search; return how many pages there are."""
    for package in packages():
        complete(package)
    resolve_constructors()
    # Without sources: they are most of the time and size.
    pdoc.render.configure(docformat="google", show_source=False, footer_text=f"qanas {qanas.__version__}")
    pdoc.pdoc("qanas", output_directory=folder)
    return sum(1 for _ in folder.rglob("*.html"))


def main() -> int:
    """Write the pages into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # What a subclass of torch.Tensor has from torch was made in C: there is no place to be told.
        warnings.filterwarnings("ignore", message="Cannot determine where qanas.* is taken from")
        pages = write(folder)
    print(f"{pages} API pages without a warning: {folder / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
