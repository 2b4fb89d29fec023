"""Which files the behaviour of a class follows from: what was kept of it holds as long as they are the same."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from pathlib import Path

from qanas.core.own_modules import is_library


@functools.cache
def digests_of_sources(kind: type) -> tuple[str, ...]:
    """Return the SHA-256 of each file that a class follows from, in the order of their paths.

    Those are its own and its bases', and what they import, wherever in a file, and so on: as far as it is a person's
    own, or lies beside or below the class's file. Nothing is imported for that. What this process runs are the files as
    they were imported: they are read once.

    Args:
        kind: of a module that has a file.
    """
    return tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in sources_of(kind))


def own_digest(component: object) -> str:
    """Return twelve hexadecimal digits that change with a person's own class's files; else, or without one, nothing."""
    kind = type(component)
    try:
        file = inspect.getfile(kind)
    except (TypeError, OSError):  # typed into a notebook or a prompt
        return ""
    if is_library(file):
        return ""
    return hashlib.sha256("".join(digests_of_sources(kind)).encode()).hexdigest()[:12]  # type: ignore[arg-type]


def sources_of(kind: type) -> list[Path]:
    """Return the files themselves, the same each time."""
    beside = Path(inspect.getfile(kind)).parent
    found: set[Path] = set()
    waiting = [(Path(inspect.getfile(base)), base.__module__) for base in kind.mro() if base.__module__ != "builtins"]
    while waiting:
        path, name = waiting.pop()
        if path in found or not path.is_file() or (is_library(str(path)) and beside not in path.parents):
            continue
        found.add(path)
        for imported in _imported(path, name):
            waiting += _files_of(imported)
    return sorted(found)


def _imported(path: Path, name: str) -> Iterator[str]:
    """Yield the names of what a module imports, of modules and of what is in them."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # compiled
        return
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _files_of(name: str) -> list[tuple[Path, str]]:
    """Return the files of a module and of the packages it is in, with their names: as far as the name is a module's."""
    files = []
    places = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        outer = ".".join(parts[:end])
        spec: ModuleSpec | None = PathFinder.find_spec(outer, places)
        if spec is None:
            break
        if spec.has_location and spec.origin is not None:
            files.append((Path(spec.origin), outer))
        places = spec.submodule_search_locations
        if places is None:
            break
    return files
