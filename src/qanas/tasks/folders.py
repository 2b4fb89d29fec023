"""Folders of people's data: which files count, and what is in them."""

from __future__ import annotations

from pathlib import Path

from qanas.core.errors import InputError


def require_folder(folder: Path, expected: str) -> None:
    """Refuse what is no folder.

    Args:
        folder: a recipe's ``task.data``.
        expected: what it is to hold.

    Raises:
        InputError: there is none.
    """
    if not folder.is_dir():
        reason = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"task.data: {folder} {reason}: give the folder that holds {expected}, or 'synthetic'")


_LEFT_BY_SYSTEMS = ("Thumbs.db", "desktop.ini", "__MACOSX")


def is_hidden(path: Path) -> bool:
    """Tell whether systems, not people, put a file or a folder there, or hide it."""
    return path.name.startswith(".") or path.name in _LEFT_BY_SYSTEMS


def visible_files(folder: Path) -> list[Path]:
    """Return a folder's files by name, hidden ones left out; a link to nothing is one, to be told when it is read."""
    found = [path for path in _entries(folder) if path.is_file() or (path.is_symlink() and not path.exists())]
    return sorted(path for path in found if not is_hidden(path))


def visible_folders(folder: Path) -> list[Path]:
    """Return a folder's folders by name, hidden ones left out, and those of odds and ends, whose name begins with _.

    A link to a folder that it is in itself, which would go on without end, is left out as well.
    """
    found = [path for path in _entries(folder) if path.is_dir() and not is_hidden(path) and path.name[0] != "_"]
    return sorted(path for path in found if not _goes_round(path))


def _goes_round(path: Path) -> bool:
    """Tell whether a folder is a link to one that it is in, by whatever way one came."""
    if not path.is_symlink():
        return False
    target = path.resolve()
    return any(above.resolve().is_relative_to(target) for above in path.absolute().parents)


def all_files(folder: Path) -> list[Path]:
    """Return the files in a folder and in those within it, by their paths, hidden ones left out."""
    return visible_files(folder) + [file for inner in visible_folders(folder) for file in all_files(inner)]


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        InputError: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}: make it readable") from error


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: can't be read: {error.strerror}: make it readable") from error
