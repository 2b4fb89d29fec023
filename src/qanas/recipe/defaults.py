"""What a recipe means where it doesn't say, and another of its keys tells."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from qanas.core.errors import InputError
from qanas.performance_estimation.scored_blocks import FITTED_SCORES
from qanas.recipe.registry import OWN_TABLES
from qanas.recipe.tables import Recipe

TUNED = 2
"""How often each length of the reference's training is tried."""
HELD_OUT = 0.2
"""Share of the training samples that gates learn on (FBNet's)."""

logger = logging.getLogger("qanas")


def with_defaults(content: dict[str, Any], own_tables: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe that names its estimator, with what this and the strategy mean for other tables.

    Tables of a wrong type are left to the check that tells of them.

    Args:
        content: of the recipe, without the tables that one estimator alone reads.
        own_tables: those; what other keys mean for them is added.

    Raises:
        InputError: a table that the named estimator doesn't read.
    """
    estimation, strategy = content.get("estimation", {}), content.get("strategy", {})
    if not isinstance(estimation, dict):
        return content
    if "batch" in estimation:  # of version 0.1; results don't hang on it
        logger.warning("estimation.batch is no longer read: `jobs` processes train one candidate each; leave it out")
        estimation = {key: value for key, value in estimation.items() if key != "batch"}
    by_gates = isinstance(strategy, dict) and strategy.get("name") == "gradient"
    name = _estimator_name(estimation.get("name"), own_tables, by_gates=by_gates)
    content = {**content, "estimation": {**estimation, "name": name}}
    if by_gates and name == "weight_sharing":
        _set_default(own_tables, "supernet", "held_out", HELD_OUT)
    if name == "block_tables":
        _set_default(content, "strategy", "name", "exact")
        _start_scores_as_finalists(own_tables, content.get("finalists"))
    # Where weights are a block's or a supernet's, training settings are no candidate's own.
    if name in OWN_TABLES.values() and "space" in content:
        _set_default(content, "space", "search", ["architecture", "quantization"])
    return content


def tuned(recipe: Recipe) -> int:
    """Return how often each length of the reference's training is tried."""
    if recipe.reference.tune is not None:
        return recipe.reference.tune
    return 0 if recipe.estimation.name == "block_tables" else TUNED  # a teacher's training is most of such a run


def _estimator_name(named: object, own_tables: Mapping[str, Any], *, by_gates: bool) -> object:
    """Return the estimator that is named, or meant by tables or a strategy that go with one alone."""
    if named is None:
        named = next((OWN_TABLES[table] for table in own_tables), "weight_sharing" if by_gates else "training")
    for table in own_tables:
        if OWN_TABLES[table] != named:
            raise InputError(
                f"{table}: read by estimation.name = '{OWN_TABLES[table]}' alone, not by '{named}'; leave it out"
            )
    return named


def _set_default(tables: dict[str, Any], table: str, key: str, value: object) -> None:
    """Set a key of a table where the recipe has none; a table that is no table is left as it is."""
    given = tables.get(table, {})
    if isinstance(given, dict):
        tables[table] = {key: value, **given}


def _start_scores_as_finalists(own_tables: dict[str, Any], finalists: object) -> None:
    """What a score is fitted to shall start as what ships."""
    score = own_tables.get("score")
    fitted = isinstance(score, dict) and str(score.get("name")) in FITTED_SCORES
    if fitted and isinstance(finalists, dict) and finalists.get("start") == "distilled":
        _set_default(own_tables, "score", "start", "distilled")
