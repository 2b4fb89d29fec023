"""Recipes: TOML to objects. The only registry of names."""

from __future__ import annotations

import hashlib
import inspect
import os
import platform
import re
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from qanas.core.candidate import GROUPS, Group
from qanas.core.errors import InputError
from qanas.core.measurement import Direction, Limit, Objective
from qanas.core.suggestions import nearest, unknown
from qanas.core.user_code import described, find_first_in, import_object
from qanas.hardware.costs import COSTS, LATENCY
from qanas.hardware.device import Device
from qanas.performance_estimation.base import Estimator
from qanas.quantization.named_schemes import DEFAULT_SCHEME, named_schemes
from qanas.search_space.network_space import NetworkSpace
from qanas.search_strategy.base import SamplingStrategy
from qanas.tasks.base import Task
from qanas.workflows.plan import SWEEP, FinalistsPlan, Plan, SearchBudget, metric_of

TASKS: Mapping[str, str] = {
    "segmentation": "qanas.tasks.segmentation:Segmentation",
    "turbofan": "qanas.tasks.turbofan:Turbofan",
}
SPACES: Mapping[str, str] = {"lstm": "qanas.networks.lstm:LSTMSpace", "tcn": "qanas.networks.tcn:TCNSpace"}
STRATEGIES: Mapping[str, str] = {
    "gp": "qanas.search_strategy.gp:GP",
    "nsga2": "qanas.search_strategy.nsga2:NSGA2",
    "random": "qanas.search_strategy.random_search:RandomSearch",
    "tpe": "qanas.search_strategy.tpe:TPE",
}
ESTIMATORS: Mapping[str, str] = {"training": "qanas.performance_estimation.full_training:FullTraining"}
REGISTRIES: Mapping[str, Mapping[str, str]] = {
    "task": TASKS,
    "space": SPACES,
    "strategy": STRATEGIES,
    "estimation": ESTIMATORS,
}
"""The registry of each table that names a component."""

SYNTHETIC = "synthetic"
"""The value of ``task.data`` that asks a task for generated data."""

REJECTED_PER_TRIAL = 50
RECORDED_PACKAGES = ("qanas", "torch", "numpy", "optuna", "ai-edge-litert")

T = TypeVar("T")

_STRICT = ConfigDict(extra="forbid", strict=True)

_Bound = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Named(BaseModel):
    """A table that names a component; the component's own keys are checked against its constructor."""

    model_config = ConfigDict(extra="allow", strict=True)
    name: str


class _SpaceTable(_Named):
    search: list[Group] = Field(default=list(GROUPS), min_length=1)


class _StrategyTable(_Named):
    trials: int = Field(default=100, ge=1)
    hours: float | None = Field(default=None, gt=0)
    max_rejected: int | None = Field(default=None, ge=1)


class _EstimationTable(_Named):
    name: str = "training"
    jobs: int = Field(default=1, ge=1, le=256)


class _QuantizationTable(BaseModel):
    model_config = _STRICT
    scheme: str = DEFAULT_SCHEME


class _DeviceTable(BaseModel):
    model_config = _STRICT
    name: str = "host"


class _FinalistsTable(BaseModel):
    model_config = _STRICT
    count: int = Field(default=8, ge=1)
    seeds: int = Field(default=3, ge=1)


class _RunTable(BaseModel):
    model_config = _STRICT
    seed: int = Field(default=0, ge=0)


class _SeedTable(BaseModel):
    model_config = _STRICT
    weights: str | None = None
    sha256: str | None = None  # of a resolved recipe


class _Recipe(BaseModel):
    """The whole file."""

    model_config = _STRICT
    task: _Named
    space: _SpaceTable
    seed: _SeedTable = _SeedTable()
    strategy: _StrategyTable
    estimation: _EstimationTable = _EstimationTable()
    quantization: _QuantizationTable = _QuantizationTable()
    objectives: dict[str, Direction] = Field(min_length=1)
    limits: dict[str, _Bound] = Field(default_factory=dict)
    device: _DeviceTable = _DeviceTable()
    finalists: _FinalistsTable = _FinalistsTable()
    run: _RunTable = _RunTable()


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
        return _build(content, folder)
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
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):  # noqa: PLR2004 - a table and a key
        raise InputError(f"--set {override}: give a table, a key and a value, such as --set strategy.trials=20")
    table = content
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {override}: {part} is a value, not a table")
    try:
        table[parts[-1]] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[parts[-1]] = text.strip()


def _build(content: dict[str, Any], folder: Path) -> Plan:
    """Turn a recipe's tables into objects."""
    if "space" in content and isinstance(content["space"], dict):
        content["space"].setdefault("search", list(GROUPS))
    recipe = _validated(_Recipe, content, "")
    _resolve_data(recipe.task, folder)
    _resolve_cache(recipe.estimation, folder)
    seed_weights = None if recipe.seed.weights is None else _resolved("seed.weights", recipe.seed.weights, folder)
    find_first_in(folder)
    task, task_table = _component(recipe.task, "task", Task)
    networks, space_table = _component(recipe.space, "space", NetworkSpace)
    strategy, strategy_table = _component(recipe.strategy, "strategy", SamplingStrategy)
    estimator, estimation_table = _component(recipe.estimation, "estimation", Estimator)
    strategy_table["max_rejected"] = recipe.strategy.max_rejected or REJECTED_PER_TRIAL * recipe.strategy.trials
    resolved = {
        "task": task_table,
        "space": space_table,
        **_seed_table(seed_weights),
        "strategy": {key: value for key, value in strategy_table.items() if value is not None},
        "estimation": estimation_table,
        "quantization": recipe.quantization.model_dump(),
        "objectives": dict(recipe.objectives),
        "limits": dict(recipe.limits),
        "device": recipe.device.model_dump(),
        "finalists": recipe.finalists.model_dump(),
        "run": recipe.run.model_dump(),
        "source": {"folder": str(folder)},
        "versions": _versions(),
        "data_fingerprint": task.fingerprint(),
    }
    return Plan(
        task=task,
        networks=networks,
        search=tuple(recipe.space.search),
        strategy=strategy,
        budget=SearchBudget(recipe.strategy.trials, recipe.strategy.hours, strategy_table["max_rejected"]),
        estimator=estimator,
        jobs=recipe.estimation.jobs,
        objectives=_objectives(recipe.objectives, task),
        limits=_limits(recipe.limits),
        device=Device.named(recipe.device.name),
        finalists=FinalistsPlan(recipe.finalists.count, recipe.finalists.seeds),
        scheme=_scheme(recipe.quantization.scheme),
        seed=recipe.run.seed,
        seed_weights=seed_weights,
        recipe=resolved,
    )


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in RECORDED_PACKAGES}


# Names


def _objectives(table: Mapping[str, Direction], task: Task) -> tuple[Objective, ...]:
    """Check the objectives' names and directions against the task's metrics and the costs."""
    metrics = [f"{metric}_{precision}" for metric in task.metrics for precision in ("float", "quantized")]
    for name, direction in table.items():
        metric = metric_of(name, task)
        if metric is None and name not in (*COSTS, LATENCY):
            raise InputError(f"objectives.{name}: {unknown('objective', name, [*metrics, *COSTS, LATENCY])}")
        better = "minimize" if metric is None else task.metrics[metric]
        if direction != better:
            raise InputError(f"objectives.{name}: '{direction}' would look for the worst; write '{better}'")
    return tuple(Objective(name, direction) for name, direction in table.items())


def _limits(table: Mapping[str, float]) -> tuple[Limit, ...]:
    for name in table:
        if name not in (*COSTS, LATENCY):
            raise InputError(f"limits.{name}: {unknown('limit', name, [*COSTS, LATENCY])}")
    return tuple(Limit(name, bound) for name, bound in table.items())


def _scheme(name: str) -> str:
    known = [*named_schemes(), SWEEP]
    if name not in known:
        raise InputError(f"quantization.scheme: {unknown('scheme', name, known)}")
    return name


def _resolve_data(task: _Named, folder: Path) -> None:
    """Make ``task.data`` an absolute path."""
    extra = task.model_extra or {}
    data = extra.get("data")
    if not isinstance(data, str) or data == SYNTHETIC:
        return
    extra["data"] = str(_resolved("task.data", data, folder))


def _resolve_cache(estimation: _EstimationTable, folder: Path) -> None:
    """Make ``estimation.cache`` an absolute path."""
    extra = estimation.model_extra or {}
    if isinstance(extra.get("cache"), str):
        extra["cache"] = str(_resolved("estimation.cache", extra["cache"], folder))


def _resolved(key: str, path: str, folder: Path) -> Path:
    """Return a path of a recipe as an absolute one: environment variables first, then relative to the recipe."""
    expanded = os.path.expandvars(path)
    missing = re.search(r"\$\{?(\w+)", expanded)
    if missing:
        raise InputError(
            f"{key}: the environment variable {missing[1]} of '{path}' is not set; set it or give the path"
        )
    return (folder / Path(expanded).expanduser()).resolve()


def _seed_table(weights: Path | None) -> dict[str, Any]:
    """Return the resolved table ``[seed]``; other weights in the same file make it another run."""
    if weights is None:
        return {}
    if not weights.is_file():
        raise InputError(f"seed.weights: {weights}: no such file; give a state dict as .safetensors, .pt or .pth")
    return {"seed": {"weights": str(weights), "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}}


# Components


def _component(table: _Named, section: str, contract: type[T]) -> tuple[T, dict[str, Any]]:
    """Return the object that a table names, and the table with every default filled in."""
    component = _find(table.name, section, contract)
    own_keys = type(table).model_fields
    options = _validated(_options_model(component, section), table.model_extra or {}, section, own_keys)
    values = {name: getattr(options, name) for name in type(options).model_fields}
    try:
        made = component(**values)
    except Exception as error:
        raise InputError(f"{section}: {table.name} refuses its settings: {described(error, __file__)}") from error
    own = {name: value for name in own_keys if (value := getattr(table, name)) is not None}
    # As TOML gives it back: a list is a list, or a resumed run would seem another one.
    return made, own | options.model_dump(mode="json", exclude_none=True)


def _find(name: str, section: str, contract: type[T]) -> type[T]:
    """Return the class of a registered name or of ``module:Class``."""
    registry = REGISTRIES[section]
    if name not in registry and not re.fullmatch(r"[\w.]+:\w+", name):
        raise InputError(f"{section}.name: {unknown(section, name, registry)}, or module:Class of your own")
    try:
        found = import_object(registry.get(name, name))
    except (Exception, SystemExit) as error:
        raise InputError(f"{section}.name: '{name}' can't be imported: {described(error, __file__)}") from error
    if not inspect.isclass(found):
        raise InputError(f"{section}.name: '{name}' is no class; give module:Class")
    abstract: frozenset[str] = getattr(contract, "__abstractmethods__", frozenset())
    lacking = sorted(name for name in abstract if getattr(found, name, None) in (None, getattr(contract, name)))
    lacking += sorted(
        attribute
        for attribute in typing.get_type_hints(contract)
        if not hasattr(contract, attribute) and not _has(found, attribute)
    )
    if lacking:
        raise InputError(f"{section}.name: '{name}' lacks {', '.join(lacking)}; see {contract.__module__}")
    return typing.cast("type[T]", found)


def _has(found: type[Any], attribute: str) -> bool:
    """Tell whether instances of a class will have an attribute."""
    return hasattr(found, attribute) or attribute in getattr(found, "__dataclass_fields__", {})


def _options_model(component: type[Any], section: str) -> type[BaseModel]:
    """Return a model of the constructor's arguments: their annotations are the types and bounds that are checked."""
    source = component if hasattr(component, "__dataclass_fields__") else component.__init__
    try:
        hints = typing.get_type_hints(source, include_extras=True)
    except (NameError, TypeError) as error:
        raise InputError(
            f"{section}.name: the types of {component.__module__}:{component.__name__}'s arguments are unknown "
            f"({error}); import what their annotations name"
        ) from error
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(component).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InputError(
                f"{section}.name: the constructor of {component.__name__} takes *{name}; name its arguments"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    return create_model(f"{component.__name__}Options", __config__=_STRICT, **fields)


# Messages

M = TypeVar("M", bound=BaseModel)


def _validated(model: type[M], content: Mapping[str, Any], prefix: str, also_known: Iterable[str] = ()) -> M:
    """Validate a table; one error becomes one line.

    Args:
        model: of the table.
        content: the table.
        prefix: its name; empty for the whole file.
        also_known: keys of the same table that were taken out before.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # A misspelt key is told before the missing one that it was meant to be.
        first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
        location = [str(part) for part in first["loc"] if part != "[key]"]
        key = ".".join([prefix, *location] if prefix else location)
        known = [*_known_keys(model, location), *also_known]
        raise InputError(f"{key}: {_message(key, known, first)}") from error


def _message(key: str, known: Iterable[str], error: Mapping[str, Any]) -> str:
    """Say what is wrong with one key, and the mend.

    Args:
        key: dotted.
        known: keys of the table that it is in.
        error: as pydantic reports it.
    """
    given = error.get("input")
    match str(error["type"]):
        case "extra_forbidden":
            close = nearest(key.rpartition(".")[2], known)
            hint = f"did you mean '{close}'?" if close else f"known here: {', '.join(sorted(known))}"
            return f"unknown key; {hint}"
        case "missing":
            registry = REGISTRIES.get(key.removesuffix(".name"), {}) if key.endswith(".name") else {}
            return f"missing; give {', '.join([*registry, 'or module:Class'])}" if registry else "missing; add it"
        case "literal_error":
            expected = error["ctx"]["expected"]
            close = nearest(str(given), re.findall(r"'([^']*)'", expected))
            hint = f"; did you mean '{close}'?" if close else ""
            return f"{given!r} is not {expected}{hint}"
        case "model_type" | "dict_type":
            return f"{given!r} is not a table; write [{key}] and its keys below"
        case "too_short":
            return "empty; give at least one"
    text = str(error["msg"])
    return f"{given!r}: {text[0].lower()}{text[1:]}"


def _known_keys(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Return the keys of the table in which a key was found wrong."""
    for table in location[:-1]:
        field = model.model_fields.get(table)
        if field is not None and inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            model = field.annotation
    return list(model.model_fields)
