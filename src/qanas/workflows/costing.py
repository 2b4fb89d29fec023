"""What candidates cost, and whether that is within the limits, before anything is trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError, NotBuilt, building, users_code
from qanas.hardware.costs import costs_of
from qanas.planning.plan import Plan
from qanas.search_strategy.base import Solution

logger = logging.getLogger("qanas")


class Costed(NamedTuple):
    """What a candidate costs.

    Attributes:
        costs: by column, as far as they were looked at.
        reason: why it is rejected; empty if it isn't.
        blamed: the cost that is to blame; empty where none is.
    """

    costs: dict[str, float]
    reason: str = ""
    blamed: str = ""


class Costing:
    """The costs of a search's candidates, before anything is trained.

    Args:
        plan: with the bench, the costs and the limits.
        refusal: of the estimator: why it can't estimate a candidate; empty where it can.
    """

    def __init__(self, plan: Plan, refusal: Callable[[Candidate], str]) -> None:
        """Cost nothing yet."""
        self._bench, self._limits, self._measures, self._refusal = plan.bench, plan.limits, plan.measures, refusal
        self._shapes: dict[str, dict[str, float]] = {}

    def of_reference(self) -> Costed:
        """Return the costs of the reference, which no limit rejects."""
        with users_code("space: the reference network can't be built"):
            return Costed(self._bench.costs_of(self._bench.reference))

    def of(self, candidate: Candidate) -> Costed:
        """Return what a candidate costs; where it is over a limit, no costs that take long to find."""
        try:
            with building():
                blueprint = self._bench.blueprint(candidate)
                limited = {limit.cost.column for limit in self._limits}
                first = [model for model in self._bench.costs if model.at_once or model.measure.column in limited]
                costs = costs_of(blueprint, first)
                over = {limit: limit.excess(costs) for limit in self._limits}
                worst = max(over, key=lambda limit: over[limit], default=None)
                if worst is not None and over[worst] > 0:
                    return Costed(costs, worst.told(costs), worst.cost.column)
                rest = [model for model in self._bench.costs if model.measure.column not in costs]
                costs |= costs_of(blueprint, rest)
        except NotBuilt as error:
            return Costed({}, f"it can't be built: {error}")
        costs = {model.measure.column: costs[model.measure.column] for model in self._bench.costs}
        return Costed(costs, self._refusal(candidate))

    def exact(self, candidate: Candidate) -> dict[str, float]:
        """Return the costs of a candidate that wasn't proposed yet, as samplers are told them."""
        by_shape = json.dumps({group: values for group, values in candidate.config.items() if group != "training"})
        if by_shape not in self._shapes:
            models = [model for model in self._bench.costs if model.repeatable and model.measure in self._measures]
            try:
                with building():
                    self._shapes[by_shape] = costs_of(self._bench.blueprint(candidate), models)
            except NotBuilt as error:
                logger.info("not proposed, it can't be built: %s", error)
                self._shapes[by_shape] = {}
        return self._shapes[by_shape]


def within_other_limits(plan: Plan, solved: Sequence[Solution], tell: Callable[[str], None]) -> list[Solution]:
    """Hold a solver's front against limits on what is no sum over its places, such as RAM.

    Each network is built and costed. That is exact for each of them; but the solver didn't look for others: one
    behind the front that is within the limits isn't found.

    Args:
        plan: of the run.
        solved: the front.
        tell: called with what was held against it, in words.

    Raises:
        InputError: none is within them.
    """
    additive = {model.measure.column for model in plan.bench.additive_costs}
    kept_by_solver = additive | ({*solved[0].costs} if solved else set())
    known = {model.measure for model in plan.bench.costs}
    others = [limit for limit in plan.limits
              if limit.cost.column not in kept_by_solver or limit.beside in known]  # fmt: skip
    if not others:
        return list(solved)
    besides = {limit.beside.column for limit in others if limit.beside is not None}
    wanted = {limit.cost.column for limit in others} | besides
    models = [model for model in plan.bench.costs if model.measure.column in wanted]
    costed = [
        replace(found, costs={**found.costs, **costs_of(plan.bench.blueprint(found.candidate), models)})
        for found in solved
    ]
    kept = [found for found in costed if all(limit.excess(found.costs) <= 0 for limit in others)]
    told = " and ".join(f"{limit.cost.column} <= {limit.bound:g}" for limit in others)
    if not kept:
        least = ", ".join(f"{name} {min(found.costs[name] for found in costed):g}" for name in sorted(wanted))
        raise InputError(
            f"limits: none of the front's {len(solved)} networks has {told}, which is no sum over the blocks "
            f"and was held against the front; the least there: {least}"
        )
    tell(
        f"{told}: {len(kept)} of the front's {len(solved)} networks, each costed exactly; it is no sum over the "
        "blocks, so that networks behind the front were not looked at"
    )
    return kept
