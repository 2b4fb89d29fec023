"""Whether a folder's run is the same one that a recipe asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qanas.core.errors import InputError
from qanas.core.flatten import flatten
from qanas.core.run_folder import RunFolder

MAY_CHANGE: tuple[str, ...] = (
    "strategy.trials",
    "strategy.hours",
    "strategy.max_rejected",
    "estimation.batch",
    "estimation.jobs",
    "estimation.cache",
    "distillation.",
    "table.",
    "finalists.",  # trainings are kept by what they started from
)
"""Keys that decide how long a run goes on, not what it finds; a trailing dot stands for a whole table.

Supernets and tables are kept by what they were made from: those that a change concerns are made anew.
"""

INFORMATION: tuple[str, ...] = ("versions.", "source.", "task.data", "seed.weights", "teacher.weights")
"""Written down, but no reason to refuse: where the data lies doesn't matter, its fingerprint does."""


def _matters(key: str) -> bool:
    return not any(
        key.startswith(entry) if entry.endswith(".") else key == entry for entry in (*MAY_CHANGE, *INFORMATION)
    )


def check_resumable(recipe: Mapping[str, Any], folder: RunFolder) -> None:
    """Refuse to go on with a run of another recipe or on other data; touches no file.

    Args:
        recipe: resolved.
        folder: new, or with an earlier session's run.

    Raises:
        InputError: names the differences.
    """
    existing = next(path for path in (folder.path, *folder.path.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{existing}: this is a file; choose a folder with --out")
    if not folder.exists():
        return
    before, now = flatten(folder.read_recipe()), flatten(recipe)
    differences = [
        f"{key} was {before.get(key, 'not set')}, now {now.get(key, 'not set')}"
        for key in sorted(before.keys() | now.keys())
        if _matters(key) and before.get(key) != now.get(key)
    ]
    if differences:
        raise InputError(
            f"{folder.path}: holds the run of another recipe ({'; '.join(differences)}); "
            f"choose another folder with --out, or change it back"
        )
