"""From a recipe's file to a plan."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qanas.core.assignments import Assignment
from qanas.core.errors import InputError
from qanas.recipe.blockwise import blockwise_plan
from qanas.recipe.sampled import sampled_plan
from qanas.recipe.tables import BLOCKWISE_TABLES
from qanas.workflows.plan import Plan

WRITTEN_BY_RUNS = ("versions", "source", "data_fingerprint")
"""Keys that a run adds to its recipe.toml; a recipe that has them is one that was resolved before."""


def load_plan(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """Read a recipe, check every key, and return what it describes.

    Args:
        path: the TOML file, or a run's resolved one.
        overrides: ``a.b=value`` each, the value in TOML, a bare word a string.

    Raises:
        InputError: one line that names the file, the key and the mend.
    """
    content = _read(path)
    folder = path.parent.resolve()
    if "data_fingerprint" in content:
        folder = Path(content.get("source", {}).get("folder", folder))
        for key in WRITTEN_BY_RUNS:
            content.pop(key, None)
    for override in overrides:
        _override(content, override)
    try:
        build = blockwise_plan if any(table in content for table in BLOCKWISE_TABLES) else sampled_plan
        return build(content, folder)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; give the path of a recipe (recipes/*.toml are examples)")
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of a recipe (recipes/*.toml are examples)")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML: {error}") from error


def _override(content: dict[str, Any], override: str) -> None:
    """Set one key from the command line."""
    given = Assignment.parse(override)
    *tables, key = given.parts
    if not tables or not given.complete:
        raise InputError(f"--set {override}: give a table, a key and a value, such as --set strategy.trials=20")
    table = content
    for part in tables:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {override}: {part} is a value, not a table")
    table[key] = given.value
