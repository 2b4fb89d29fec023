"""From a recipe's file to a plan."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from qanas.core.errors import InputError
from qanas.core.keys import read_tables, set_key
from qanas.core.own_modules import find_first_in, hiding_libraries
from qanas.execution.executors import LOCAL
from qanas.hardware.device import Device
from qanas.performance_estimation.bench import Bench, PreparedData
from qanas.planning.dependence import sources_told, upgraded
from qanas.planning.plan import Plan, check_meeting
from qanas.recipe.components import component, validated
from qanas.recipe.defaults import tuned, with_defaults
from qanas.recipe.forms import SpaceForm, as_space
from qanas.recipe.parts import (
    budget_of,
    estimator_of,
    finalists_of,
    fingerprint_of,
    make_absolute,
    measures_of,
    pretraining_of,
    reference_start,
    scheme_of,
    store_of,
)
from qanas.recipe.registry import OWN_TABLES
from qanas.recipe.tables import Recipe
from qanas.search_strategy.base import Strategy
from qanas.tasks.base import Task

WRITTEN_BY_RUNS = ("versions", "source", "data_fingerprint", "figures")
"""Keys that a run adds to its recipe.toml; a recipe that has them is one that was resolved before."""

RECORDED_PACKAGES = ("qanas", "torch", "numpy", "optuna", "ai-edge-litert")


def load_plan(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """Read a recipe, check every key, and return what it describes.

    Args:
        path: the TOML file, or a run's resolved one.
        overrides: ``a.b=value`` each, the value in TOML, a bare word a string.

    Raises:
        InputError: one line that names the file, the key and the mend.
    """
    content = read_tables(path)
    folder = path.parent.resolve()
    if "data_fingerprint" in content:
        folder = Path(content.get("source", {}).get("folder", folder))
        content = {key: value for key, value in upgraded(content).items() if key not in WRITTEN_BY_RUNS}
    for override in overrides:
        set_key(content, override)
    try:
        return _plan(content, folder)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _plan(content: dict[str, Any], folder: Path) -> Plan:
    """Turn a recipe's tables into objects.

    Args:
        content: of the recipe.
        folder: that paths are relative to.
    """
    # 1. The tables, each where it belongs.
    content, form = as_space(content)
    own_tables = {name: content.pop(name) for name in OWN_TABLES if name in content}
    content = with_defaults(content, own_tables)
    recipe = validated(Recipe, content, "")
    _place(recipe, folder)

    # 2. What candidates are measured on.
    task, task_table = component(recipe.task, "task", Task)
    networks, space_tables = form.networks(recipe.space.name, recipe.space.model_extra or {})
    seed_key = f"{'seed' if form.section == 'space' else form.section}.weights"
    start, seed_table = reference_start(seed_key, recipe.seed, folder)
    strategy, strategy_table = component(recipe.strategy, "strategy", Strategy)
    device = Device.named(recipe.device.name, folder)
    measures = measures_of(recipe, task, device, folder)
    scheme = scheme_of(recipe.quantization)
    bench = Bench(
        data=PreparedData(task),
        networks=networks,
        search=tuple(recipe.space.search),
        encoding=strategy.encoding,
        scheme=scheme.scheme,
        device=device,
        costs=measures.costs,
        reference_start=start,
        seed=recipe.run.seed,
    )

    # 3. How they are found, trained and estimated.
    pretraining = None if recipe.pretraining is None else pretraining_of(recipe.pretraining, recipe.task, folder)
    estimator, estimation_table, estimator_tables = estimator_of(
        recipe.estimation, own_tables, pretraining, measures.limits
    )
    check_meeting(strategy, estimator, (recipe.strategy.name, recipe.estimation.name))
    budget, budget_table = budget_of(recipe.strategy, strategy)
    finalists = finalists_of(recipe.finalists, estimator.procedure, tuned(recipe))

    # 4. What is written down: every default, in the form that the recipe has.
    resolved = {
        "task": task_table,
        **_network_tables(recipe, form, space_tables, seed_table, estimation_table),
        **({} if pretraining is None else {"pretraining": pretraining.as_table()}),
        **estimator_tables,
        "strategy": strategy_table | budget_table,
        "estimation": estimation_table,
        **measures.as_tables(),
        "reference": {"tune": finalists.tune},
        **_plain_tables(recipe),
        "source": {"folder": str(folder)},
        "versions": _versions() | sources_told(task=task, space=networks),
        "data_fingerprint": fingerprint_of(task),
    }
    store = None if recipe.store is None else store_of(recipe.store, resolved, folder)
    if store is not None:
        resolved["store"] = store.as_table()
    if recipe.execution is not None:
        resolved["execution"] = recipe.execution.model_dump()
    plan = Plan(
        bench, strategy, estimator, budget, measures.objectives, measures.limits, finalists, scheme,
        recipe.estimation.jobs, resolved, recipe.baselines.wanted, measures.goals, store,
        LOCAL if recipe.execution is None else recipe.execution.chosen(),
        tuple(Device.named(name, folder, "device.also") for name in recipe.device.also),
    )  # fmt: skip
    plan.check_combination()
    return plan


def _place(recipe: Recipe, folder: Path) -> None:
    """Make paths absolute ones, and let a person's classes be found in the recipe's folder first.

    Raises:
        InputError: a path can't be had, or worker processes would take a file of the folder for a library's.
    """
    make_absolute(recipe.task, "task", "data", folder)
    make_absolute(recipe.estimation, "estimation", "cache", folder)
    find_first_in(folder)
    hiding = hiding_libraries(folder) if recipe.estimation.jobs > 1 else []
    if hiding:
        raise InputError(
            f"estimation.jobs: {hiding[0]} has the name of a module of Python or a library, and worker processes would "
            "take it for that: rename it, or take one job"
        )


def _network_tables(
    recipe: Recipe,
    form: SpaceForm,
    space_tables: Mapping[str, Mapping[str, Any]],
    seed_table: dict[str, Any],
    estimation_table: dict[str, Any],
) -> dict[str, dict[str, Any]]:
    """Return the tables that say what is searched and what it starts from.

    Args:
        recipe: as given.
        form: of it.
        space_tables: of the space, resolved.
        seed_table: of the reference.
        estimation_table: gives its epochs away where they are a teacher's.
    """
    if form.section == "space":
        named = {"space": {"name": recipe.space.name, "search": list(recipe.space.search)}}
        own = {"seed": seed_table} if seed_table else {}
        return {**{name: {**named.get(name, {}), **values} for name, values in space_tables.items()}, **own}
    teacher = {form.key: recipe.space.name, "epochs": estimation_table.pop("epochs"), **seed_table}
    tables = {name: {**(teacher if name == form.section else {}), **values} for name, values in space_tables.items()}
    return {**tables, "blocks": tables.get("blocks", {})}


def _plain_tables(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Return the tables that name no component, with their defaults."""
    return {
        "objectives": dict(recipe.objectives),
        "quantization": recipe.quantization.resolved(),
        "device": recipe.device.model_dump(mode="json", exclude_defaults=True) | {"name": recipe.device.name},
        "finalists": recipe.finalists.model_dump(exclude_none=True),
        "baselines": recipe.baselines.model_dump(),
        "run": recipe.run.model_dump(),
    }


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in RECORDED_PACKAGES}
