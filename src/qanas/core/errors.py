"""Errors that a person is meant to read, and what they are made of: nearest names, places in a user's code."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qanas.core.own_modules import OURS, is_library, library_instead_of

logger = logging.getLogger("qanas")


class InputError(Exception):
    """Bad input: one line that names the file, the field and the mend.

    The command line prints it on stderr and exits with 2, without a traceback.
    """

    def __init__(self, message: str) -> None:
        """Store ``message`` on one line, whatever line breaks it came with."""
        super().__init__(one_line(message))


class NotBuilt(InputError):  # noqa: N818 - it names what happened to the candidate, not a defect
    """A candidate whose network can't be built, with the reason: it is rejected, and nothing ends with it."""


class TrainingFailed(Exception):  # noqa: N818 - it names what happened to the training, not a defect
    """One training that cannot be scored, with its reason: it fails the trial, never the run."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like ``name``, or None where none is alike.

    >>> nearest("epoch", ["epochs", "jobs"])
    'epochs'
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that ``name`` is no known ``kind``, which one may be meant, and which there are.

    >>> unknown("strategy", "tpee", ["random", "tpe"])
    "unknown strategy 'tpee': did you mean 'tpe'? Known: random, tpe"
    """
    names = sorted(known)
    close = nearest(name, names)
    hint = f"did you mean '{close}'? " if close else ""
    return f"unknown {kind} '{name}': {hint}Known: {', '.join(names)}"


def import_object(name: str) -> object:
    """Return what ``module:Name`` names, without writing ``__pycache__``: a user's folder is not ours to write into.

    Raises:
        Exception: no such module, no such name in it, or whatever the module raises while it is imported.
        ImportError: a library's module hides that of the person.
    """
    module, _, attribute = name.partition(":")
    hidden = library_instead_of(module)
    if hidden:
        raise ImportError(hidden)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    place = Path.cwd()
    try:
        found: object = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if not module.endswith(".py"):
            raise
        raise ImportError(f"leave out the file's ending: {module.removesuffix('.py')}:{attribute}") from error
    finally:
        sys.dont_write_bytecode = before
        os.chdir(place)  # a module may go elsewhere; paths of ours are relative to where we are
    return found


@contextmanager
def users_code(what: str) -> Iterator[None]:
    """Turn whatever a user's code raises into a line with its place; the log has the rest.

    An exit that it asks for, or what is no `Exception`, is a mistake of it as well; a Ctrl-C is not.

    Args:
        what: was called, and of what.

    Raises:
        InputError: what it raised, on one line.
    """
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:
        logger.debug("%s", what, exc_info=error)
        raise InputError(f"{what}: {described(error, OURS)}") from error


@contextmanager
def building() -> Iterator[None]:
    """Turn whatever a network raises where it is built, costed or traced into the reason; a Ctrl-C is none.

    Raises:
        NotBuilt: what it raised, on one line: what qanas itself says as it is, anything else with its place.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except InputError as error:
        raise NotBuilt(str(error)) from error
    except BaseException as error:  # a user's network may refuse its settings in any way
        raise NotBuilt(described(error)) from error


def described(error: BaseException, *callers: str) -> str:
    """Return an error of a user's code with its place: the screen spares them the traceback.

    Args:
        error: what was raised.
        callers: files and folders that are not the user's, beside this one: they are no place to look at.
    """
    ours = (__file__, importlib.__file__, *callers, "<")
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if not frame.filename.startswith(ours)]
    # Where a library raised it, the place to look at is what called the library.
    places = [frame for frame in places if not is_library(frame.filename)] or places
    place = f" ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {told(error)}{place}"


def told(error: BaseException) -> str:
    """Return what an error says, on one line; nothing where its own code can't tell."""
    try:
        return one_line(str(error))
    except Exception:  # noqa: BLE001 - of a user's class
        return ""


def one_line(text: str) -> str:
    """Return a text on one line, as any file holds it."""
    return escaped(" ".join(text.split()))


def escaped(text: str) -> str:
    """Return a text as any file holds it: what of it is no UTF-8, as in names of files, is escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
