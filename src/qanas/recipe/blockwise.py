"""Recipes of searches over tables of distilled blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qanas.core.errors import InputError
from qanas.hardware.costs import ADDITIVE_COSTS
from qanas.performance_estimation.block_table.build import TableSettings
from qanas.recipe.components import component, find, made_from, options_of
from qanas.recipe.messages import validated
from qanas.recipe.paths import resolve_weights
from qanas.recipe.shared import Shared
from qanas.recipe.tables import BlockwiseRecipe
from qanas.search_space.blockwise_space import BlockwiseSpace
from qanas.search_strategy.base import FrontSolver
from qanas.supernet.distillation import DistillationSettings
from qanas.tasks.base import Task
from qanas.workflows.plan import BlockwisePlan, Plan, metric_of

MOST_COSTS = 2
"""Costs that a front can be over, limits included: with more it has too many points to be found exactly."""


def blockwise_plan(content: dict[str, Any], folder: Path) -> Plan:
    """Turn a recipe's tables into objects.

    Args:
        content: of the recipe.
        folder: that paths are relative to.

    Raises:
        InputError: names the key and the mend.
    """
    _epochs_of_teacher(content)
    recipe = validated(BlockwiseRecipe, content, "")
    if recipe.quantization.layers:
        raise InputError("quantization.layers: a block-wise search has bits by block, table.bits; leave it out")
    seed_weights, seed_table = resolve_weights("teacher.weights", recipe.teacher.weights, folder)
    shared = Shared.of(recipe, folder)
    networks, family = _networks(recipe)
    solver, solver_table = component(recipe.strategy, "strategy", FrontSolver)
    _check_objectives(recipe, shared.task)
    own_tables = {
        "teacher": {"network": recipe.teacher.network, "epochs": recipe.teacher.epochs, **seed_table, **family[0]},
        "blocks": family[1],
        "distillation": recipe.distillation.model_dump(),
        "table": recipe.table.model_dump(exclude_none=True),
        "score": recipe.score.model_dump(),
        "strategy": solver_table,
    }
    shared.estimation_table.pop("epochs", None)  # the teacher's
    return shared.plan(networks, _search(recipe, solver), seed_weights, own_tables)


def _epochs_of_teacher(content: dict[str, Any]) -> None:
    """Give the estimator the teacher's epochs: teacher and students are trained alike."""
    estimation = content.setdefault("estimation", {})
    if not isinstance(estimation, dict):
        return
    if "epochs" in estimation:
        raise InputError("estimation.epochs: teacher and students are trained alike; give teacher.epochs instead")
    teacher = content.get("teacher", {})
    if isinstance(teacher, dict) and "epochs" in teacher:
        estimation["epochs"] = teacher["epochs"]


def _search(recipe: BlockwiseRecipe, solver: FrontSolver) -> BlockwisePlan:
    distillation, table = recipe.distillation, recipe.table
    return BlockwisePlan(
        DistillationSettings(
            distillation.steps, distillation.sampling, distillation.batch_size, distillation.learning_rate
        ),
        distillation.seeds,
        distillation.views,
        TableSettings(tuple(table.bits), table.full, table.calibration_samples, table.samples),
        solver,
        recipe.finalists.start == "distilled",
        recipe.score.name,
    )


def _networks(recipe: BlockwiseRecipe) -> tuple[BlockwiseSpace, tuple[dict[str, Any], dict[str, Any]]]:
    """Return the family of networks, and the resolved keys of ``[teacher]`` and ``[blocks]`` that made it."""
    teacher, blocks = recipe.teacher.model_extra or {}, recipe.blocks.model_extra or {}
    family = find(recipe.teacher.network, "teacher", BlockwiseSpace, "network")
    if blocks.get("width", teacher.get("width")) != teacher.get("width"):
        raise InputError("blocks.width: the blocks' borders have the teacher's channels; give teacher.width alone")
    own = {key: value for key, value in blocks.items() if key != "width"}
    twice = sorted(own.keys() & teacher.keys())
    if twice:
        raise InputError(f"blocks.{twice[0]}: given in [teacher], too; give it once")
    tables = dict.fromkeys(own, "blocks")
    options = options_of(
        family,
        {**teacher, **own, "weight_bits": recipe.table.bits},
        "teacher",
        tables,
        type(recipe.teacher).model_fields,
    )
    networks = made_from(family, options, "teacher", recipe.teacher.network)
    resolved = options.model_dump(mode="json", exclude_none=True)
    del resolved["weight_bits"]
    return networks, (
        {key: value for key, value in resolved.items() if key not in own},
        {key: value for key, value in resolved.items() if key in own},
    )


def _check_objectives(recipe: BlockwiseRecipe, task: Task) -> None:
    """Refuse objectives and limits that are no sums over blocks."""
    metrics = [name for name in recipe.objectives if metric_of(name, task) is not None]
    costs = [name for name in recipe.objectives if name not in metrics]
    if len(metrics) != 1 or not costs:
        raise InputError("objectives: a block-wise search has one metric, such as miou_quantized, and a cost")
    columns = list(dict.fromkeys([*costs, *recipe.limits]))
    for name in columns:
        if name not in ADDITIVE_COSTS:
            table = "objectives" if name in costs else "limits"
            raise InputError(
                f"{table}.{name}: not a sum over the blocks; a block-wise search knows {', '.join(ADDITIVE_COSTS)}"
            )
    if len(columns) > MOST_COSTS:
        raise InputError(f"objectives, limits: {', '.join(columns)} are more than {MOST_COSTS} costs; leave one out")
