"""Whether a folder's run is the same one that a recipe asks for."""

from __future__ import annotations

from collections.abc import Sequence

from qanas.core.errors import InputError
from qanas.core.flatten import flatten
from qanas.core.run_folder import RunFolder
from qanas.hardware.costs import COSTS
from qanas.workflows.plan import SWEEP, BlockwisePlan, Plan

MAY_CHANGE: tuple[str, ...] = (
    "strategy.trials",
    "strategy.hours",
    "strategy.max_rejected",
    "estimation.jobs",
    "estimation.cache",
    "finalists.",  # trainings are kept by what they started from
)
"""Keys that decide how long a run goes on, not what it finds; a trailing dot stands for a whole table."""

BLOCKWISE_MAY_CHANGE: tuple[str, ...] = ("distillation.", "table.", "limits.")
"""What a block-wise run may change as well, and its objectives: supernets and tables are kept by what they were made
from, and those that a change concerns are made anew. A study of trials was led by its objectives and limits.
"""

INFORMATION: tuple[str, ...] = ("versions.", "source.", "task.data", "seed.weights", "teacher.weights")
"""Written down, but no reason to refuse: where the data lies doesn't matter, its fingerprint does."""


def _may_change(plan: Plan) -> tuple[str, ...]:
    """Return the keys that may differ from those of an earlier session."""
    if not isinstance(plan.search, BlockwisePlan):
        return (*MAY_CHANGE, *INFORMATION)
    # A sweep chose the scheme by the metric among the objectives, before anything was trained.
    objectives = [f"objectives.{cost}" for cost in COSTS] if plan.scheme == SWEEP else ["objectives."]
    return (*MAY_CHANGE, *INFORMATION, *BLOCKWISE_MAY_CHANGE, *objectives)


def _is_one_of(key: str, entries: Sequence[str]) -> bool:
    return any(key.startswith(entry) if entry.endswith(".") else key == entry for entry in entries)


def check_resumable(plan: Plan, folder: RunFolder) -> None:
    """Refuse to go on with a run of another recipe or on other data; touches no file.

    Args:
        plan: with the resolved recipe.
        folder: new, or with an earlier session's run.

    Raises:
        InputError: names the differences.
    """
    existing = next(path for path in (folder.path, *folder.path.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{existing}: this is a file; choose a folder with --out")
    if not folder.exists():
        return
    before, now = flatten(folder.read_recipe()), flatten(plan.recipe)
    may_change = _may_change(plan)
    differences = [
        f"{key} was {before.get(key, 'not set')}, now {now.get(key, 'not set')}"
        for key in sorted(before.keys() | now.keys())
        if not _is_one_of(key, may_change) and before.get(key) != now.get(key)
    ]
    if differences:
        raise InputError(
            f"{folder.path}: holds the run of another recipe ({'; '.join(differences)}); "
            f"choose another folder with --out, or change it back"
        )
