"""Paths in a recipe."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from qanas.core.errors import InputError
from qanas.recipe.tables import EstimationTable, NamedTable

SYNTHETIC = "synthetic"
"""The value of ``task.data`` that asks a task for generated data."""


def resolve_data(task: NamedTable, folder: Path) -> None:
    """Make ``task.data`` an absolute path."""
    extra = task.model_extra or {}
    data = extra.get("data")
    if not isinstance(data, str) or data == SYNTHETIC:
        return
    extra["data"] = str(resolved("task.data", data, folder))


def resolve_cache(estimation: EstimationTable, folder: Path) -> None:
    """Make ``estimation.cache`` an absolute path."""
    extra = estimation.model_extra or {}
    if isinstance(extra.get("cache"), str):
        extra["cache"] = str(resolved("estimation.cache", extra["cache"], folder))


def resolved(key: str, path: str, folder: Path) -> Path:
    """Return a path of a recipe as an absolute one: environment variables first, then relative to the recipe."""
    expanded = os.path.expandvars(path)
    missing = re.search(r"\$\{?(\w+)", expanded)
    if missing:
        raise InputError(
            f"{key}: the environment variable {missing[1]} of '{path}' is not set; set it or give the path"
        )
    return (folder / Path(expanded).expanduser()).resolve()


def resolve_weights(key: str, path: str | None, folder: Path) -> tuple[Path | None, dict[str, str]]:
    """Return the file of a seed network's weights, and its keys in the resolved recipe.

    Other weights in the same file make it another run.

    Raises:
        InputError: there is no such file.
    """
    if path is None:
        return None, {}
    weights = resolved(key, path, folder)
    if not weights.is_file():
        raise InputError(f"{key}: {weights}: no such file; give a state dict as .safetensors, .pt or .pth")
    return weights, {"weights": str(weights), "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
