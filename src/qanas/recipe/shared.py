"""What every kind of recipe is made of."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from qanas.core.errors import InputError
from qanas.core.measurement import Direction, Limit, Objective
from qanas.core.suggestions import unknown
from qanas.core.user_code import find_first_in
from qanas.hardware.costs import COSTS, LATENCY
from qanas.hardware.device import Device
from qanas.performance_estimation.base import Estimator
from qanas.quantization.scheme import named_schemes
from qanas.recipe.components import component
from qanas.recipe.paths import resolve_cache, resolve_data
from qanas.recipe.tables import Recipe
from qanas.search_space.network_space import NetworkSpace
from qanas.tasks.base import Task
from qanas.workflows.plan import SWEEP, BlockwisePlan, FinalistsPlan, Plan, SampledPlan, metric_of

RECORDED_PACKAGES = ("qanas", "torch", "numpy", "optuna", "ai-edge-litert")


@dataclass(frozen=True)
class Shared:
    """A recipe's tables that don't depend on how candidates are found, as objects.

    Attributes:
        recipe: validated.
        folder: that paths are relative to.
        task: data, loss and metrics.
        task_table: its resolved table.
        estimator: trains and measures candidates.
        estimation_table: its resolved table.
    """

    recipe: Recipe
    folder: Path
    task: Task
    task_table: dict[str, Any]
    estimator: Estimator
    estimation_table: dict[str, Any]

    @classmethod
    def of(cls, recipe: Recipe, folder: Path) -> Self:
        """Make task and estimator; a user's classes are looked for in the folder first."""
        resolve_data(recipe.task, folder)
        resolve_cache(recipe.estimation, folder)
        find_first_in(folder)
        task, task_table = component(recipe.task, "task", Task)
        estimator, estimation_table = component(recipe.estimation, "estimation", Estimator)
        return cls(recipe, folder, task, task_table, estimator, estimation_table)

    def plan(
        self,
        networks: NetworkSpace,
        search: SampledPlan | BlockwisePlan,
        seed_weights: Path | None,
        own_tables: Mapping[str, Any],
    ) -> Plan:
        """Return the whole plan.

        Args:
            networks: the family of networks.
            search: how candidates are found.
            seed_weights: the seed network's, from a file.
            own_tables: resolved tables that only this kind of recipe has.
        """
        recipe = self.recipe
        resolved = {
            "task": self.task_table,
            **own_tables,
            "estimation": self.estimation_table,
            "quantization": recipe.quantization.resolved(),
            "objectives": dict(recipe.objectives),
            "limits": dict(recipe.limits),
            "device": recipe.device.model_dump(),
            "finalists": recipe.finalists.model_dump(),
            "run": recipe.run.model_dump(),
            "source": {"folder": str(self.folder)},
            "versions": _versions(),
            "data_fingerprint": self.task.fingerprint(),
        }
        return Plan(
            task=self.task,
            networks=networks,
            search=search,
            estimator=self.estimator,
            jobs=recipe.estimation.jobs,
            objectives=_objectives(recipe.objectives, self.task),
            limits=_limits(recipe.limits),
            device=Device.named(recipe.device.name),
            finalists=FinalistsPlan(recipe.finalists.count, recipe.finalists.seeds),
            scheme=_scheme(recipe.quantization.scheme),
            seed=recipe.run.seed,
            seed_weights=seed_weights,
            recipe=resolved,
            layers=recipe.quantization.fields_by_layer(),
            container=recipe.quantization.container,
        )


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in RECORDED_PACKAGES}


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
