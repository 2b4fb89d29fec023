"""Recipes of searches that train what a sampler proposes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qanas.core.candidate import SEARCHED_BY_DEFAULT
from qanas.recipe.components import component
from qanas.recipe.messages import validated
from qanas.recipe.paths import resolve_weights
from qanas.recipe.shared import Shared
from qanas.recipe.tables import SampledRecipe
from qanas.search_space.network_space import NetworkSpace
from qanas.search_strategy.base import SamplingStrategy
from qanas.workflows.plan import Plan, SampledPlan, SearchBudget

REJECTED_PER_TRIAL = 50


def sampled_plan(content: dict[str, Any], folder: Path) -> Plan:
    """Turn a recipe's tables into objects.

    Args:
        content: of the recipe.
        folder: that paths are relative to.

    Raises:
        InputError: names the key and the mend.
    """
    if "space" in content and isinstance(content["space"], dict):
        content["space"].setdefault("search", list(SEARCHED_BY_DEFAULT))
    recipe = validated(SampledRecipe, content, "")
    seed_weights, seed_table = resolve_weights("seed.weights", recipe.seed.weights, folder)
    shared = Shared.of(recipe, folder)
    networks, space_table = component(recipe.space, "space", NetworkSpace)
    strategy, strategy_table = component(recipe.strategy, "strategy", SamplingStrategy)
    max_rejected = recipe.strategy.max_rejected or REJECTED_PER_TRIAL * recipe.strategy.trials
    strategy_table["max_rejected"] = max_rejected
    own_tables = {
        "space": space_table,
        **({"seed": seed_table} if seed_table else {}),
        "strategy": {key: value for key, value in strategy_table.items() if value is not None},
    }
    budget = SearchBudget(recipe.strategy.trials, recipe.strategy.hours, max_rejected)
    return shared.plan(networks, SampledPlan(tuple(recipe.space.search), strategy, budget), seed_weights, own_tables)
