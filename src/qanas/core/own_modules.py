"""Modules of a person's own folder: found there first, each folder's apart from another's of the same name.

Python keeps a module by its name alone, and so does a pickle's reader: of two recipes with a ``mine.py`` beside each,
the second would be answered with the first one's.
"""

from __future__ import annotations

import importlib
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

OURS = str(Path(__file__).parents[1])
"""The package's folder."""

_LIBRARIES = tuple({OURS} | {sysconfig.get_path(name) for name in ("stdlib", "platlib", "purelib")})

_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Names of folders that hold nothing but libraries, of a person's account or the system's, too."""


def is_library(file: str) -> bool:
    """Tell whether a file is of a library, not a person's own."""
    return file.startswith(_LIBRARIES) or not _INSTALLED.isdisjoint(Path(file).parts)


@dataclass
class _First:
    """The folder in which modules are found first.

    Attributes:
        folder: it; None where there is none.
        added: whether it was put on the path for that.
        known: names of the modules that were there before it was.
        aside: modules of the folders that were first before, by folder.
        displaced: modules from elsewhere whose names its files have.
    """

    folder: Path | None = None
    added: bool = False
    known: frozenset[str] = frozenset()
    aside: dict[Path, dict[str, ModuleType]] = field(default_factory=dict)
    displaced: dict[str, ModuleType] = field(default_factory=dict)


_first = _First()


def find_first_in(folder: Path) -> None:
    """Let modules be found in a folder before anywhere else, in place of the one that was named so before.

    What was imported from that one is set aside, and is there again, as it was, when that folder comes first again.
    What was imported from elsewhere and has a name that a file of this folder has goes as well, but for libraries.
    """
    if _first.folder != folder:
        _leave()
        _first.folder, _first.known = folder, frozenset(sys.modules)
        _first.added = str(folder) not in sys.path
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(folder))]
    importlib.invalidate_caches()  # a file may have been written a moment ago
    for name in _hiding(folder):
        _first.displaced[name] = sys.modules.pop(name)
    sys.modules.update(_first.aside.pop(folder, {}))


def _leave() -> None:
    """Set the modules of the first folder aside."""
    folder = _first.folder
    if folder is None:
        return
    own = {name: module for name, module in list(sys.modules.items()) if name not in _first.known}
    own = {name: module for name, module in own.items() if _is_of(name, module, folder)}
    for name in own:
        del sys.modules[name]
    if _first.added:
        sys.path[:] = [entry for entry in sys.path if entry != str(folder)]
    _first.aside[folder] = own
    _first.folder = None


def _is_of(name: str, module: ModuleType, folder: Path) -> bool:
    """Tell whether a module is what is found by its name from a folder on."""
    place = folder.joinpath(*name.split("."))
    file = getattr(module, "__file__", None)
    if file is None:  # a folder without __init__.py
        return str(place) in list(getattr(module, "__path__", ()))
    return Path(file).with_name(Path(file).name.partition(".")[0]) in (place, place / "__init__")


def _hiding(folder: Path) -> list[str]:
    """Return the names of loaded modules that hide a file of a folder, libraries left out."""
    tops = {name for name in list(sys.modules) if "." not in name and name != "__main__"}
    hiding = {top for top in tops if _hidden_by(sys.modules[top], top, folder)}
    return [name for name in list(sys.modules) if name.partition(".")[0] in hiding]


def _hidden_by(module: ModuleType | None, name: str, folder: Path) -> bool:
    own = _file_of(name, folder)
    file = getattr(module, "__file__", None)
    return own is not None and file is not None and not is_library(file) and Path(file).resolve() != own.resolve()


def _file_of(name: str, folder: Path) -> Path | None:
    """Return the file that a folder has of a module's name; None where it has none."""
    found = PathFinder.find_spec(name, [str(folder)])
    return Path(found.origin) if found is not None and found.origin else None


def hiding_libraries(folder: Path) -> list[Path]:
    """Return what of a folder has the name of a library's module that is loaded.

    A process that starts with this folder first on its path, as worker processes do, would take it for the library's.
    """
    found = []
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        # What is compiled into Python is found before any file is.
        if "." in name or name == "__main__" or getattr(spec, "origin", None) in (None, "built-in", "frozen"):
            continue
        own = _file_of(name, folder)
        if own is not None and not is_library(str(own)) and is_library(str(spec and spec.origin)):
            found.append(own.parent if own.name == "__init__.py" else own)
    return sorted(found)


def library_instead_of(name: str) -> str:
    """Say that a module's name is a library's that is loaded, where a file of a person's own has it; empty otherwise.

    Args:
        name: of the module, with dots.
    """
    top = name.partition(".")[0]
    own = None if _first.folder is None else _file_of(top, _first.folder)
    loaded = sys.modules.get(top)
    if own is None or loaded is None or is_library(str(own)):
        return ""
    file = getattr(loaded, "__file__", None)
    if file is not None and not is_library(file):
        return ""
    return f"{own} has the name of a module of Python or a library, which is taken in its place; rename it"


@contextmanager
def callers_modules_kept() -> Iterator[None]:
    """Give the caller back, at the end, the path, and the modules of its own whose names a folder's files took."""
    path = list(sys.path)
    try:
        yield
    finally:
        if _first.displaced:
            _leave()
            sys.modules.update(_first.displaced)
            _first.displaced.clear()
        sys.path[:] = path
