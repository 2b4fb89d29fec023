"""Which points of a front are trained to ship: those that reach the goals, or whose scores are of any use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qanas.core.measures import Cost, Metric
from qanas.core.pareto import spread
from qanas.core.trials import TrialRecord
from qanas.performance_estimation.base import Estimator
from qanas.planning.plan import Plan
from qanas.shipping import goals
from qanas.shipping.finalists import reference_finalist, variant_of
from qanas.shipping.soundness import Scores
from qanas.shipping.trainings import Finalist

USEFUL = 0.5
"""Of the best front point's gain over a constant answer: points that gain less are no finalists, however small.

A tenth of a good answer is no answer, and finalists spread over a whole front would be spent on such. Half is a
convention, as that of a full width at half maximum; `[goals]` say it exactly.
"""


@dataclass(frozen=True)
class Choice:
    """What of a front is trained to ship.

    Attributes:
        front: the points that are worth it: of them as many as there is room for, spread over all.
        first: of these what is trained in any case.
        reason: why not all points of the front are among these; empty where they are.
    """

    front: Sequence[TrialRecord]
    first: Sequence[TrialRecord] = ()
    reason: str = ""


def choose_finalists(
    plan: Plan, estimator: Estimator, front: Sequence[TrialRecord], first: Sequence[TrialRecord] = ()
) -> list[Finalist]:
    """Return the reference and points spread over a front.

    Args:
        plan: says how many.
        estimator: prepared: knows the weights that finalists may start from.
        front: of the search, or what of it is worth training.
        first: points of it that are there in any case.
    """
    bench, wanted = plan.bench, plan.finalists
    chosen = [reference_finalist(plan, wanted.of_reference)]
    variant = variant_of(plan, wanted.procedure)
    certain = _distinct(plan, first)[: wanted.count]
    rest = [record for record in _distinct(plan, front) if record not in certain]
    for record in [*certain, *_spread(plan, rest, wanted.count - len(certain))]:
        candidate = record.candidate
        start = estimator.finalist_start(bench, candidate, wanted.start)
        chosen.append(Finalist(candidate.key, candidate, start, wanted.procedure, variant))
    return chosen


def _distinct(plan: Plan, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    return list({r.candidate.key: r for r in records if r.candidate != plan.bench.reference}.values())


def _spread(plan: Plan, records: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """Return points spread over a front.

    Sizes span decades, so costs are spread on a logarithmic scale where they are positive.
    """
    if not records or count <= 0:
        return []
    # Shape (networks, axes).
    losses = np.array([[axis.loss(r.measurement.value(axis)) for axis in plan.axes] for r in records])
    for position, axis in enumerate(plan.axes):
        if isinstance(axis, Cost) and (losses[:, position] > 0).all():
            losses[:, position] = np.log(losses[:, position])
    return [records[position] for position in spread(losses, count)]


def choose(plan: Plan, front: Sequence[TrialRecord], constant: Scores) -> Choice:
    """Return which points of a front are worth training.

    With goals those that reach them, the smallest in any case, and then those that miss them by least. Without, those
    that gain at least `USEFUL` of what the best one gains over a constant answer. Where a search has no such scores,
    all of them.

    Args:
        plan: of the run.
        front: of the search.
        constant: what a constant answer scores.
    """
    return _by_goals(plan, front) if plan.goals else _useful(plan, front, constant)


def _by_goals(plan: Plan, front: Sequence[TrialRecord]) -> Choice:
    columns = [goal.metric.column for goal in plan.goals]
    told = goals.told(plan.goals)
    if any(column not in record.metrics for record in front for column in columns):
        return Choice(front, (), f"which points reach {told} isn't known before they are trained")

    def lacking(record: TrialRecord) -> float:
        return max(goal.lacking(record.metrics[goal.metric.column]) for goal in plan.goals)

    def size(record: TrialRecord) -> tuple[float, ...]:
        return tuple(record.costs.get(cost.column, math.inf) for cost in plan.costs)

    reaching = sorted((record for record in front if lacking(record) <= 0), key=size)
    missing = sorted((r for r in front if lacking(r) > 0), key=lacking)
    room = max(plan.finalists.count - len(reaching), 0)
    reason = f"{len(reaching)} of {len(front)} front points reach {told} in the search"
    if room and missing:
        more = min(room, len(missing))
        reason += f"; with them {more} that {'misses' if more == 1 else 'miss'} it by least"
    return Choice([*reaching, *missing[:room]], reaching[:1], reason)


def _useful(plan: Plan, front: Sequence[TrialRecord], constant: Scores) -> Choice:
    metric = next((axis for axis in plan.axes if isinstance(axis, Metric)), None)
    bound = math.nan if metric is None else constant.get("val", {}).get(metric.name, math.nan)
    if metric is None or not front or not math.isfinite(bound):
        return Choice(front)
    gains = [metric.loss(bound) - metric.loss(record.metrics[metric.column]) for record in front]
    best = max(gains)
    kept = [record for record, gain in zip(front, gains, strict=True) if gain > 0 and gain >= USEFUL * best]
    if best <= 0 or len(kept) == len(front):
        return Choice(front)
    left = [record.metrics[metric.column] for record in front if record not in kept]
    spans = f"{min(left):.3g} to {max(left):.3g}" if len(left) > 1 else f"{left[0]:.3g}"
    top = min((record.metrics[metric.column] for record in kept), key=metric.loss)
    return Choice(
        kept,
        (),
        f"{len(left)} of {len(front)} front points are no finalists: their {metric.name}, {spans}, is no nearer to "
        f"that of the best one, {top:.3g}, than to that of a constant answer, {bound:.3g}",
    )
