"""The nearest known name, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
