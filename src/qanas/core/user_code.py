"""Objects of a user's own, named ``module:Name``: how they are imported, and how their errors are told."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path


def find_first_in(folder: Path) -> None:
    """Let modules be found in a folder before anywhere else."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def import_object(name: str) -> object:
    """Return what ``module:Name`` names, without writing ``__pycache__``: a user's folder is not ours to write into.

    Raises:
        Exception: no such module, no such name in it, or whatever the module raises while it is imported.
    """
    module, _, attribute = name.partition(":")
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        found: object = getattr(importlib.import_module(module), attribute)
    finally:
        sys.dont_write_bytecode = before
    return found


def described(error: BaseException, *callers: str) -> str:
    """Return an error of a user's code with its place: the screen spares them the traceback.

    Args:
        error: what was raised.
        callers: files that are not the user's, beside this one: they are no place to look at.
    """
    ours = (__file__, importlib.__file__, *callers)
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if frame.filename not in ours and not frame.filename.startswith("<")]
    place = f" ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
