"""The objects of a plan, each from its own tables of a recipe."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qanas.core.errors import InputError, told, unknown, users_code
from qanas.core.keys import path_named
from qanas.core.measures import FRONT_END_COSTS, Cost, Goal, Limit, Measure, parse_cost, parse_objective
from qanas.hardware.costs import INPUT_COSTS, CostModel, cost_models
from qanas.hardware.device import Device
from qanas.performance_estimation.base import Estimator
from qanas.performance_estimation.pretraining import PretrainedTraining, Pretraining
from qanas.performance_estimation.procedure import FullTraining, Procedure
from qanas.planning.dependence import made_from as stage_digest
from qanas.planning.plan import SWEEP, FinalistsPlan, SchemeChoice, SearchBudget
from qanas.planning.sharing import SharedStudy, checked_url
from qanas.quantization.scheme import named_schemes
from qanas.recipe.components import arguments_of, component, find, made_from, options_of, require_free, validated
from qanas.recipe.declared import to_toml
from qanas.recipe.tables import (
    EstimationTable,
    FinalistsTable,
    NamedTable,
    PretrainingTable,
    QuantizationTable,
    Recipe,
    SeedTable,
    StoreTable,
    StrategyTable,
)
from qanas.search_space.start import RandomStart, Start
from qanas.search_strategy.base import Strategy
from qanas.tasks.base import Task
from qanas.training.pretrained import FileStart

SYNTHETIC = "synthetic"
"""The value of ``task.data`` that asks a task for generated data."""

DEFAULT_TRIALS = 100
REJECTED_PER_TRIAL = 50


@dataclass(frozen=True)
class Measures:
    """What a recipe asks of networks.

    Attributes:
        objectives: of the search.
        limits: bounds on costs, the device's among them.
        goals: scores to be reached.
        costs: how the costs that all these need are had.
    """

    objectives: tuple[Measure, ...]
    limits: tuple[Limit, ...]
    goals: tuple[Goal, ...]
    costs: tuple[CostModel, ...]

    def as_tables(self) -> dict[str, dict[str, Any]]:
        """Return a resolved recipe's tables of bounds, limits of the device among them, and of devices' figures.

        Of figures there are digests: a table that grew makes others.
        """
        tables: dict[str, dict[str, Any]] = {"limits": {limit.cost.column: limit.bound for limit in self.limits}}
        if self.goals:
            tables["goals"] = {goal.metric.column: goal.bound for goal in self.goals}
        if figures := {model.measure.column: model.digest for model in self.costs if model.digest}:
            tables["figures"] = figures
        return tables


def measures_of(recipe: Recipe, task: Task, device: Device, folder: Path) -> Measures:
    """Return what a recipe asks of networks.

    Args:
        recipe: asks it.
        task: has the metrics.
        device: the recipe's own.
        folder: that paths of further devices' files are relative to.

    Raises:
        InputError: names the key and the mend.
    """
    with users_code(f"{type(task).__name__}.metrics"):
        metrics = task.metrics
        if not isinstance(metrics, Mapping):
            raise TypeError(f"a {type(metrics).__name__}; give each metric's name and which way it is better")
    with users_code(f"{type(task).__name__}.losses"):
        if isinstance(task.losses, str) or not all(isinstance(name, str) for name in task.losses):
            raise TypeError(f"{task.losses!r}; give a tuple of names, the default one first")
    objectives = tuple(parse_objective(name, way, metrics) for name, way in recipe.objectives.items())
    limits = tuple(device.completed(_limit(name, bound)) for name, bound in recipe.limits.items())
    goals = tuple(Goal.parse(name, bound, metrics) for name, bound in recipe.goals.items())
    own = {limit.cost for limit in limits}
    limits = (*limits, *(limit for limit in device.limits() if limit.cost not in own))
    asked = [m for m in (*objectives, *(limit.cost for limit in limits)) if isinstance(m, Cost)]
    has_front_end = type(task).front_end is not Task.front_end
    for cost in asked:
        if cost.name in FRONT_END_COSTS and not has_front_end:
            raise InputError(f"{cost.column}: {type(task).__name__} has no front end: leave it out of the recipe")
    costs = (*cost_models(asked, device, folder), *(INPUT_COSTS if has_front_end else ()))
    return Measures(objectives, limits, goals, costs)


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


def scheme_of(table: QuantizationTable) -> SchemeChoice:
    """Return which scheme networks are quantized by."""
    known = [*named_schemes(), SWEEP]
    if table.scheme not in known:
        raise InputError(f"quantization.scheme: {unknown('scheme', table.scheme, known)}")
    return SchemeChoice(table.scheme, table.fields_by_layer(), table.container)


def estimator_of(
    table: EstimationTable, own_tables: Mapping[str, Any], pretraining: Pretraining | None, limits: Sequence[Limit]
) -> tuple[Estimator, dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the estimator with its procedure, the resolved ``[estimation]``, and its own tables, resolved.

    Each key goes to the one of the two that knows it.
    """
    kind = find(table.name, "estimation", Estimator)
    own_keys = list(type(table).model_fields)
    require_free(kind, "estimation", own_keys)
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
        **to_toml(procedure_options),
        **to_toml(options),
    }
    return estimator, resolved, {name: value.model_dump(exclude_none=True) for name, value in tables.items()}


def pretraining_of(table: PretrainingTable, of_task: NamedTable, folder: Path) -> Pretraining:
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


def reference_start(key: str, table: SeedTable, folder: Path) -> tuple[Start, dict[str, str]]:
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


def budget_of(table: StrategyTable, strategy: Strategy) -> tuple[SearchBudget, dict[str, Any]]:
    """Return when the search ends, and the keys of ``[strategy]`` that say so; a solver has none."""
    keys = ("trials", "hours", "max_rejected")
    given = [key for key in keys if getattr(table, key) is not None]
    if strategy.needs is not None:
        if given:
            raise InputError(f"strategy.{given[0]}: '{table.name}' solves at once, without trials; leave it out")
        return SearchBudget(0, None, 1), {}
    trials = table.trials or DEFAULT_TRIALS
    budget = SearchBudget(trials, table.hours, table.max_rejected or REJECTED_PER_TRIAL * trials)
    written = {key: getattr(budget, key) for key in keys}
    return budget, {key: value for key, value in written.items() if value is not None}


def finalists_of(table: FinalistsTable, procedure: Procedure, tune: int) -> FinalistsPlan:
    """Return how finalists are chosen and trained: as the search trains, but for what the table says.

    Args:
        table: says it.
        procedure: of the search.
        tune: how often each length of the reference's training is tried.
    """
    changes = {key: getattr(table, key) for key in ("epochs", "qat_epochs") if getattr(table, key) is not None}
    own = procedure.with_settings(**changes) if changes else procedure
    return FinalistsPlan(table.count, table.seeds, own, table.start, table.confirm, tune)


def store_of(table: StoreTable, resolved: Mapping[str, Any], folder: Path) -> SharedStudy:
    """Return the study that a run takes part in; without a name it is that of everybody with this recipe and data."""
    name = table.name or f"qanas-{stage_digest('front', resolved)}"
    shared = None if table.folder is None else _absolute("store.folder", table.folder, folder)
    return SharedStudy(checked_url(table.url), name, table.lease, shared)


def fingerprint_of(task: Task) -> str:
    """Return what tells the task's data from others."""
    with users_code(f"{type(task).__name__}.fingerprint"):
        fingerprint = task.fingerprint()
        if not isinstance(fingerprint, str):
            raise TypeError(f"it returns a {type(fingerprint).__name__}; return a text that changes with the data")
    return fingerprint


def make_absolute(table: NamedTable, section: str, key: str, folder: Path) -> None:
    """Make a path among a component's keys an absolute one."""
    extra = table.model_extra or {}
    if isinstance(extra.get(key), str) and extra[key] != SYNTHETIC:
        extra[key] = str(_absolute(f"{section}.{key}", extra[key], folder))


def _absolute(key: str, path: str, folder: Path) -> Path:
    """Return a path of a recipe as an absolute one, relative to the recipe."""
    if "\0" in path:
        raise InputError(f"{key}: {path!r}: no path has the character 0; leave it out")
    try:
        found = path_named(path, folder).resolve()
        os.fspath(found).encode()
    except LookupError as error:
        raise InputError(
            f"{key}: the environment variable {error.args[0]} of '{path}' is not set; set it or give the path"
        ) from error
    except RuntimeError as error:  # of ~somebody
        raise InputError(f"{key}: {path!r}: {told(error).rstrip('.')}; give the whole path") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{key}: {found}: its name is no UTF-8, which cards have to be: rename it") from error
    return found
