"""From a recipe's file to a plan."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from qanas.core.errors import InputError, find_first_in, unknown, users_code
from qanas.core.keys import read_tables, set_key
from qanas.core.measures import FRONT_END_COSTS, Cost, Goal, Limit, Measure, parse_cost, parse_objective
from qanas.execution.executors import LOCAL
from qanas.hardware.costs import INPUT_COSTS, CostModel, cost_models
from qanas.hardware.device import Device
from qanas.performance_estimation.base import Estimator
from qanas.performance_estimation.bench import Bench, PreparedData
from qanas.performance_estimation.pretraining import PretrainedTraining, Pretraining
from qanas.performance_estimation.procedure import FullTraining, Procedure
from qanas.performance_estimation.scored_blocks import FITTED_SCORES
from qanas.planning.dependence import made_from as stage_digest
from qanas.planning.dependence import upgraded
from qanas.planning.plan import SWEEP, FinalistsPlan, Plan, SchemeChoice, SearchBudget, check_meeting
from qanas.planning.sharing import SharedStudy, checked_url
from qanas.quantization.scheme import named_schemes
from qanas.recipe.components import arguments_of, component, find, made_from, options_of, validated
from qanas.recipe.forms import SpaceForm, as_space
from qanas.recipe.registry import OWN_TABLES
from qanas.recipe.tables import (
    EstimationTable,
    FinalistsTable,
    NamedTable,
    PretrainingTable,
    QuantizationTable,
    Recipe,
    SeedTable,
    StoreTable,
)
from qanas.search_space.start import RandomStart, Start
from qanas.search_strategy.base import Strategy
from qanas.tasks.base import Task
from qanas.training.pretrained import FileStart

WRITTEN_BY_RUNS = ("versions", "source", "data_fingerprint")
"""Keys that a run adds to its recipe.toml; a recipe that has them is one that was resolved before."""

RECORDED_PACKAGES = ("qanas", "torch", "numpy", "optuna", "ai-edge-litert")
SYNTHETIC = "synthetic"
"""The value of ``task.data`` that asks a task for generated data."""

DEFAULT_TRIALS = 100
REJECTED_PER_TRIAL = 50
TUNED = 2
"""How often each length of the reference's training is tried where a recipe doesn't say."""
HELD_OUT = 0.2
"""Share of the training samples that gates learn on, where a recipe doesn't say (FBNet's)."""
_BUDGET = ("trials", "hours", "max_rejected")

logger = logging.getLogger("qanas")


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
    content = _with_defaults(content, own_tables)
    recipe = validated(Recipe, content, "")

    # 2. What candidates are measured on. A user's classes are looked for in the recipe's folder first.
    _resolve(recipe.task, "task", "data", folder)
    _resolve(recipe.estimation, "estimation", "cache", folder)
    find_first_in(folder)
    task, task_table = component(recipe.task, "task", Task)
    networks, space_tables = form.networks(recipe.space.name, recipe.space.model_extra or {})
    start, seed_table = _reference_start(f"{'seed' if form.section == 'space' else form.section}.weights",
                                         recipe.seed, folder)  # fmt: skip
    strategy, strategy_table = component(recipe.strategy, "strategy", Strategy)
    device = Device.named(recipe.device.name, folder)
    objectives, limits, goals, costs = _measures(recipe, task, device)
    scheme = _scheme(recipe.quantization)
    bench = Bench(
        data=PreparedData(task),
        networks=networks,
        search=tuple(recipe.space.search),
        encoding=strategy.encoding,
        scheme=scheme.scheme,
        device=device,
        costs=costs,
        reference_start=start,
        seed=recipe.run.seed,
    )

    # 3. How they are found, trained and estimated.
    pretraining = None if recipe.pretraining is None else _pretraining(recipe.pretraining, recipe.task, folder)
    estimator, estimation_table, estimator_tables = _estimator(recipe.estimation, own_tables, pretraining, limits)
    check_meeting(strategy, estimator, (recipe.strategy.name, recipe.estimation.name))
    budget, budget_table = _budget(recipe, strategy)
    finalists = replace(_finalists(recipe.finalists, estimator.procedure), tune=_tuned(recipe))

    # 4. What is written down: every default, in the form that the recipe has.
    resolved = {
        "task": task_table,
        **_network_tables(recipe, form, space_tables, seed_table, estimation_table),
        **_resolved_pretraining(pretraining),
        **estimator_tables,
        "strategy": {key: value for key, value in strategy_table.items() if key not in _BUDGET} | budget_table,
        "estimation": estimation_table,
        "quantization": recipe.quantization.resolved(),
        "objectives": dict(recipe.objectives),
        "limits": {limit.cost.column: limit.bound for limit in limits},
        **({"goals": {goal.metric.column: goal.bound for goal in goals}} if goals else {}),
        "device": recipe.device.model_dump(mode="json", exclude_defaults=True) | {"name": recipe.device.name},
        "finalists": recipe.finalists.model_dump(exclude_none=True),
        "reference": {"tune": finalists.tune},
        "baselines": recipe.baselines.model_dump(),
        "run": recipe.run.model_dump(),
        "source": {"folder": str(folder)},
        "versions": _versions(),
        "data_fingerprint": _fingerprint(task),
    }
    store = None if recipe.store is None else _store(recipe.store, resolved, folder)
    if store is not None:
        resolved["store"] = store.as_table()
    if recipe.execution is not None:
        resolved["execution"] = recipe.execution.model_dump()
    plan = Plan(
        bench, strategy, estimator, budget, objectives, limits, finalists, scheme, recipe.estimation.jobs, resolved,
        recipe.baselines.wanted, goals, store, LOCAL if recipe.execution is None else recipe.execution.chosen(),
        tuple(Device.named(name, folder) for name in recipe.device.also),
    )  # fmt: skip
    plan.check_combination()
    return plan


def _tuned(recipe: Recipe) -> int:
    """Return how often each length of the reference's training is tried."""
    if recipe.reference.tune is not None:
        return recipe.reference.tune
    return 0 if recipe.estimation.name == "block_tables" else TUNED  # a teacher's training is most of such a run


def _fingerprint(task: Task) -> str:
    """Return what tells the task's data from others."""
    with users_code(f"{type(task).__name__}.fingerprint"):
        fingerprint = task.fingerprint()
        if not isinstance(fingerprint, str):
            raise TypeError(f"it returns a {type(fingerprint).__name__}; return a text that changes with the data")
    return fingerprint


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


def _measures(
    recipe: Recipe, task: Task, device: Device
) -> tuple[tuple[Measure, ...], tuple[Limit, ...], tuple[Goal, ...], tuple[CostModel, ...]]:
    """Return objectives, limits (the device's among them), goals, and how the costs that all these need are had."""
    with users_code(f"{type(task).__name__}.metrics"):
        metrics = task.metrics
        if not isinstance(metrics, Mapping):
            raise TypeError(f"a {type(metrics).__name__}; give each metric's name and which way it is better")
    objectives = tuple(parse_objective(name, way, metrics) for name, way in recipe.objectives.items())
    limits = tuple(_limit(name, bound) for name, bound in recipe.limits.items())
    goals = tuple(Goal.parse(name, bound, metrics) for name, bound in recipe.goals.items())
    own = {limit.cost for limit in limits}
    limits = (*limits, *(limit for limit in device.limits() if limit.cost not in own))
    asked = [m for m in (*objectives, *(limit.cost for limit in limits)) if isinstance(m, Cost)]
    has_front_end = type(task).front_end is not Task.front_end
    for cost in asked:
        if cost.name in FRONT_END_COSTS and not has_front_end:
            raise InputError(f"{cost.column}: {type(task).__name__} has no front end: leave it out of the recipe")
    costs = (*cost_models(asked, device), *(INPUT_COSTS if has_front_end else ()))
    return objectives, limits, goals, costs


def _with_defaults(content: dict[str, Any], own_tables: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe that names its estimator, and a strategy where the estimator has one of its own.

    A strategy that learns gates needs samples for them, which `own_tables` are given.

    Raises:
        InputError: a table that the named estimator doesn't read.
    """
    estimation = content.get("estimation", {})
    if not isinstance(estimation, dict):
        return content
    if "batch" in estimation:  # of version 0.1; results don't hang on it
        logger.warning("estimation.batch is no longer read: `jobs` processes train one candidate each; leave it out")
        estimation = {key: value for key, value in estimation.items() if key != "batch"}
    named = estimation.get("name")
    of_tables = next((OWN_TABLES[table] for table in own_tables), None)
    if of_tables is not None and named not in (None, of_tables):
        table = next(iter(own_tables))
        raise InputError(f"{table}: read by estimation.name = '{of_tables}' alone, not by '{named}'; leave it out")
    strategy = content.get("strategy", {})
    by_gates = isinstance(strategy, dict) and strategy.get("name") == "gradient"
    name = named or of_tables or ("weight_sharing" if by_gates else "training")
    if by_gates and name == "weight_sharing" and isinstance(own_tables.get("supernet", {}), dict):
        own_tables["supernet"] = {"held_out": HELD_OUT, **own_tables.get("supernet", {})}
    content = {**content, "estimation": {**estimation, "name": name}}
    if name == "block_tables" and isinstance(strategy, dict):
        content["strategy"] = {"name": "exact", **strategy}
        score, finalists = own_tables.get("score"), content.get("finalists")
        if isinstance(score, dict) and str(score.get("name")) in FITTED_SCORES and isinstance(finalists, dict):
            # What a score is fitted to shall start as what ships.
            own_tables["score"] = {**({"start": "distilled"} if finalists.get("start") == "distilled" else {}), **score}
    # Where weights are a block's or a supernet's, training settings are no candidate's own.
    if name in OWN_TABLES.values() and isinstance(content.get("space"), dict):
        content["space"] = {"search": ["architecture", "quantization"], **content["space"]}
    return content


def _pretraining(table: PretrainingTable, of_task: NamedTable, folder: Path) -> Pretraining:
    """Return what networks learn before the task.

    Args:
        table: its own keys.
        of_task: the task's table, whose keys hold where it has none.
        folder: that paths are relative to.

    Raises:
        InputError: the task refuses them.
    """
    own, task_keys = table.model_extra or {}, of_task.model_extra or {}
    if "name" in own:
        raise InputError("pretraining.name: it is the task of [task], with other keys: leave the name out")
    if isinstance(own.get("data"), str) and own["data"] != SYNTHETIC:
        own["data"] = str(_absolute("pretraining.data", own["data"], folder))
    merged = {**task_keys, **own}
    try:
        task, _ = component(NamedTable(name=of_task.name, **merged), "task", Task)
    except InputError as error:
        raise InputError(f"pretraining, its keys in place of the task's: {error}") from error
    same_files = merged.get("data") == task_keys.get("data")
    with users_code(f"{type(task).__name__}.fingerprint"):
        return Pretraining(task, dict(own), table.epochs, same_files, str(task.fingerprint()))


def _resolved_pretraining(made: Pretraining | None) -> dict[str, Any]:
    if made is None:
        return {}
    return {"pretraining": {"epochs": made.epochs, **made.changes, "fingerprint": made.fingerprint}}


def _estimator(
    table: EstimationTable, own_tables: Mapping[str, Any], pretraining: Pretraining | None, limits: Sequence[Limit]
) -> tuple[Estimator, dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the estimator with its procedure, the resolved ``[estimation]``, and its own tables, resolved.

    Each key goes to the one of the two that knows it.
    """
    kind = find(table.name, "estimation", Estimator)
    own_keys = list(type(table).model_fields)
    arguments = [name for name in arguments_of(kind) if name != "procedure" and name not in kind.tables]
    extra = table.model_extra or {}
    others = {key: value for key, value in extra.items() if key not in arguments}
    procedure_options = options_of(FullTraining, others, "estimation", also_known=[*own_keys, *arguments])
    procedure = made_from(FullTraining, procedure_options, "estimation", "training")
    if pretraining is not None:
        procedure = PretrainedTraining(**vars(procedure), pretraining=pretraining)
    own = {key: value for key, value in extra.items() if key in arguments}
    options = options_of(kind, own, "estimation", also_known=own_keys, given=["procedure", *kind.tables])
    tables = kind.bounded(
        {name: validated(model, own_tables.get(name, {}), name) for name, model in kind.tables.items()}, limits
    )
    estimator = made_from(kind, options, "estimation", table.name, procedure=procedure, **tables)
    resolved = {
        "name": table.name,
        "jobs": table.jobs,
        **procedure_options.model_dump(mode="json", exclude_none=True),
        **options.model_dump(mode="json", exclude_none=True),
    }
    return estimator, resolved, {name: value.model_dump(exclude_none=True) for name, value in tables.items()}


def _budget(recipe: Recipe, strategy: Strategy) -> tuple[SearchBudget, dict[str, Any]]:
    """Return when the search ends, and the keys of ``[strategy]`` that say so; a solver has none."""
    table = recipe.strategy
    given = [key for key in _BUDGET if getattr(table, key) is not None]
    if strategy.needs is not None:
        if given:
            raise InputError(f"strategy.{given[0]}: '{table.name}' solves at once, without trials; leave it out")
        return SearchBudget(0, None, 1), {}
    trials = table.trials or DEFAULT_TRIALS
    budget = SearchBudget(trials, table.hours, table.max_rejected or REJECTED_PER_TRIAL * trials)
    written = {key: getattr(budget, key) for key in _BUDGET}
    return budget, {key: value for key, value in written.items() if value is not None}


def _limit(name: str, bound: float | str) -> Limit:
    """Return a limit; a bound may have a unit, such as "64 kB"."""
    cost = parse_cost(name)
    try:
        limit = Limit.parse(cost, bound) if isinstance(bound, str) else Limit(cost, bound)
    except ValueError as error:
        raise InputError(f"limits.{name}: {error}") from error
    if not 0 < limit.bound < math.inf:
        raise InputError(f"limits.{name}: {bound!r} is no finite number greater than 0")
    return limit


def _finalists(table: FinalistsTable, procedure: Procedure) -> FinalistsPlan:
    """Return how finalists are chosen and trained: as the search trains, but for what the table says."""
    changes = {key: getattr(table, key) for key in ("epochs", "qat_epochs") if getattr(table, key) is not None}
    own = procedure.with_settings(**changes) if changes else procedure
    return FinalistsPlan(table.count, table.seeds, own, table.start, table.confirm)


def _store(table: StoreTable, resolved: Mapping[str, Any], folder: Path) -> SharedStudy:
    """Return the study that a run takes part in; without a name it is that of everybody with this recipe and data."""
    name = table.name or f"qanas-{stage_digest('front', resolved)}"
    shared = None if table.folder is None else _absolute("store.folder", table.folder, folder)
    return SharedStudy(checked_url(table.url), name, table.lease, shared)


def _scheme(table: QuantizationTable) -> SchemeChoice:
    known = [*named_schemes(), SWEEP]
    if table.scheme not in known:
        raise InputError(f"quantization.scheme: {unknown('scheme', table.scheme, known)}")
    return SchemeChoice(table.scheme, table.fields_by_layer(), table.container)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in RECORDED_PACKAGES}


def _resolve(table: NamedTable, section: str, key: str, folder: Path) -> None:
    """Make a path among a component's keys an absolute one."""
    extra = table.model_extra or {}
    if isinstance(extra.get(key), str) and extra[key] != SYNTHETIC:
        extra[key] = str(_absolute(f"{section}.{key}", extra[key], folder))


def _absolute(key: str, path: str, folder: Path) -> Path:
    """Return a path of a recipe as an absolute one: environment variables first, then relative to the recipe."""
    if "\0" in path:
        raise InputError(f"{key}: {path!r}: no path has the character 0; leave it out")
    expanded = os.path.expandvars(path)
    missing = re.search(r"\$\{?(\w+)", expanded)
    if missing:
        raise InputError(
            f"{key}: the environment variable {missing[1]} of '{path}' is not set; set it or give the path"
        )
    found = (folder / Path(expanded).expanduser()).resolve()
    try:
        os.fspath(found).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{key}: {found}: its name is no UTF-8, which cards have to be: rename it") from error
    return found


def _reference_start(key: str, table: SeedTable, folder: Path) -> tuple[Start, dict[str, str]]:
    """Return the weights that the reference starts from, and their keys in the resolved recipe.

    Other weights in the same file make it another run.

    Raises:
        InputError: there is no such file.
    """
    if table.weights is None:
        return RandomStart(), {}
    weights = _absolute(key, table.weights, folder)
    if not weights.is_file():
        raise InputError(f"{key}: {weights}: no such file; give a state dict as .safetensors, .pt or .pth")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return FileStart(weights), {"weights": str(weights), "sha256": digest}
