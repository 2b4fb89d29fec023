"""What a recipe would do, without doing it: the reference's costs, and how long the run may take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import optuna
import torch

from qanas.core.candidate import Candidate
from qanas.core.errors import NotBuilt, building
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.bench import Bench
from qanas.planning.plan import Plan
from qanas.shipping.baselines import baselines_of
from qanas.shipping.reference import epochs_tried
from qanas.workflows.rehearsal import rehearse

PROBED_CANDIDATES = 6


@dataclass(frozen=True)
class Forecast:
    """What is known before a run.

    Attributes:
        reference_costs: of the reference, by column.
        over_limit: the costs of it that are over their limit.
        candidates_within: share of randomly drawn candidates within the limits.
        not_built: why randomly drawn candidates give no network, one line each; a run rejects such ones.
        hours: wall-clock time of search and finalists, from a few timed steps of the reference and of random
            candidates; a strategy that turns to small networks is faster.
        remarks: on the data, a line each.
    """

    reference_costs: dict[str, float]
    over_limit: list[str]
    candidates_within: float
    not_built: list[str]
    hours: float
    remarks: tuple[str, ...] = ()


def checked(plan: Plan) -> Forecast:
    """Hold a plan against everything that a run does, on a few samples, and return what it would be.

    Raises:
        InputError: it can't be run: one line with the key, or the place in a user's code, and the mend.
    """
    plan.check()
    remarks = rehearse(plan)
    return replace(forecast(plan), remarks=tuple(remarks))


def forecast(plan: Plan) -> Forecast:
    """Build and cost the reference and some random candidates; time a few steps of each.

    Raises:
        InputError: from the space or the task.
    """
    threads, verbosity = torch.get_num_threads(), optuna.logging.get_verbosity()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells of every study
    try:
        return _forecast(plan)
    finally:
        torch.set_num_threads(threads)
        optuna.logging.set_verbosity(verbosity)


def _forecast(plan: Plan) -> Forecast:
    bench = plan.bench
    costs = bench.costs_of(bench.reference)
    candidates = list(_random_candidates(bench))
    built: list[Candidate] = []
    within: list[Candidate] = []
    not_built: list[str] = []
    for candidate in candidates:
        try:
            with building():
                found = bench.costs_of(candidate)
        except NotBuilt as error:
            not_built.append(str(error))
        else:
            built.append(candidate)
            if all(limit.excess(found) <= 0 for limit in plan.limits):
                within.append(candidate)
    finalists, search = plan.finalists.procedure, plan.estimator.procedure
    probed = within or built or [bench.reference]

    # 1. Finalists: the reference and the front points, each repetition; its tuning; baselines.
    reference_seconds = finalists.forecast(bench, bench.reference)
    typical = float(np.mean([finalists.forecast(bench, candidate) for candidate in probed]))
    seconds = plan.finalists.repetitions * (plan.finalists.count * typical + reference_seconds) / plan.jobs

    seconds += _compared_seconds(plan, reference_seconds) / plan.jobs

    # 2. The search: what the estimator prepares and a solver asks of it, or the estimates that a sampler asks for.
    prepared = plan.estimator.forecast(bench) + plan.estimator.forecast_asked(bench, plan.strategy.asks_for())
    seconds += prepared / plan.jobs
    estimates = 0 if plan.estimator.cheap else plan.strategy.estimates(plan.budget.trials)
    if estimates:
        score = plan.estimator.forecast_estimate(bench)
        if score is not None:
            reference_seconds = typical = score
        elif search != finalists:
            reference_seconds = search.forecast(bench, bench.reference)
            typical = float(np.mean([search.forecast(bench, candidate) for candidate in probed]))
        estimates += plan.finalists.confirmations(estimates)
        trials = ((estimates - 1) * typical + reference_seconds) / plan.jobs
        seconds += trials if plan.budget.hours is None else min(trials, plan.budget.hours * 3600)

    over = [limit.cost.column for limit in plan.limits if limit.excess(costs) > 0]
    return Forecast(costs, over, len(within) / len(candidates), not_built, seconds / 3600)


def _compared_seconds(plan: Plan, reference_seconds: float) -> float:
    """Return the CPU seconds of what the search is held against: the reference's tuning, and baselines.

    Args:
        plan: of the run.
        reference_seconds: of one of its trainings.
    """
    seconds = 0.0
    lengths = epochs_tried(plan.finalists.procedure.epochs)
    if len(lengths) > 1 and not plan.bench.reference_start.trained:
        seconds += plan.finalists.tune * reference_seconds * sum(lengths) / lengths[0]
    for baseline in baselines_of(plan):
        if not baseline.of_reference:
            finalist = baseline.finalist
            forecast = finalist.procedure.forecast(baseline.bench, finalist.candidate)
            seconds += plan.finalists.repetitions * forecast
    return seconds


def _random_candidates(bench: Bench) -> Iterator[Candidate]:
    """Yield a few candidates, each setting drawn independently from its range."""
    generator = np.random.default_rng(derive_seed(bench.seed, "check"))
    for _ in range(PROBED_CANDIDATES):
        yield bench.space.random(generator)
