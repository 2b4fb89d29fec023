"""Going on with a run that an earlier version began: what its recipe couldn't name yet is left as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qanas.core.errors import InputError
from qanas.core.keys import flatten
from qanas.core.run_folder import RunFolder
from qanas.planning.dependence import upgraded
from qanas.planning.plan import Plan
from qanas.recipe.load import load_plan


def as_begun(plan: Plan, folder: RunFolder) -> Plan:
    """Return a plan whose resolved recipe names no more than the version did that began the folder's run.

    A later version resolves the same recipe to more keys. Each is what that version takes where a recipe says nothing,
    which is how the run was begun: named, it would be a change that refuses the run, and another name for every file
    that is called by what it is made from. A key that the recipe gives another value stays, and is refused.

    Args:
        plan: of the recipe that is to be gone on with.
        folder: new, or with an earlier session's run.

    Raises:
        InputError: the folder's recipe was damaged.
    """
    if not folder.recipe.is_file():
        return plan
    begun = flatten(upgraded(folder.read_recipe()))
    try:
        today = flatten(load_plan(folder.recipe).recipe)
    except InputError:  # the run named what is no more: told as a difference, key by key
        return plan
    now = flatten(plan.recipe)
    added = {key for key in today.keys() - begun.keys() if now.get(key) == today[key]}
    return replace(plan, recipe=_without(plan.recipe, added)) if added else plan


def _without(table: Mapping[str, Any], keys: set[str], prefix: str = "") -> dict[str, Any]:
    """Return nested tables without the values of some dotted keys, and without tables that are left empty by it."""
    kept: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if not isinstance(value, Mapping):
            if name not in keys:
                kept[key] = value
        elif not value or (inner := _without(value, keys, f"{name}.")):
            kept[key] = inner if value else value
    return kept
