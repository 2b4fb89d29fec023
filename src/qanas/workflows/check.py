"""What a recipe would do, without doing it: the seed network's costs, and how long the run may take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import optuna
import torch
from optuna.samplers import RandomSampler
from torch import nn

from qanas.core.candidate import Candidate
from qanas.core.even_spread import evenly_spread
from qanas.core.seeds import derive_seed
from qanas.quantization.quantization_aware import FakeQuantizedGraph
from qanas.quantization.tracing import trace
from qanas.search_space.training_group import TrainingSettings
from qanas.training.fit import make_trainer
from qanas.workflows.blockwise.forecast import forecast_distillation
from qanas.workflows.plan import BlockwisePlan, SampledPlan, Setup
from qanas.workflows.sampled_search import candidate_costs
from qanas.workflows.trial_store import suggest

PROBED_CANDIDATES = 6
PROBED_STEPS = 3

CALIBRATED_SAMPLES = 32
"""Samples whose ranges the network is rounded by when quantization-aware training is timed."""


@dataclass(frozen=True)
class Forecast:
    """What is known before a run.

    Attributes:
        seed_costs: of the seed network.
        over_limit: costs of the seed network over their limit.
        candidates_within: share of randomly drawn candidates within the limits.
        hours: wall-clock time of search and finalists, from a few timed steps of the seed network and of random
            candidates; a strategy that turns to small networks is faster.
    """

    seed_costs: dict[str, float]
    over_limit: list[str]
    candidates_within: float
    hours: float


def forecast(setup: Setup) -> Forecast:
    """Build and cost the seed network and some random candidates; time a few steps of each.

    Raises:
        InputError: from the space or the task.
    """
    torch.set_num_threads(1)
    plan = setup.plan
    seed = setup.space.reference
    costs = candidate_costs(setup, seed)
    candidates = list(_random_candidates(setup))
    within = [c for c in candidates if all(limit.excess(candidate_costs(setup, c)) <= 0 for limit in plan.limits)]
    seed_seconds = _training_seconds(setup, seed)
    typical = float(np.mean([_training_seconds(setup, candidate) for candidate in within or candidates]))
    finalists = plan.finalists.seeds * (plan.finalists.count * typical + seed_seconds) / plan.jobs
    seconds = finalists + _search_seconds(setup, plan.search, seed_seconds, typical)
    over = [limit.cost for limit in plan.limits if limit.excess(costs) > 0]
    return Forecast(costs, over, len(within) / len(candidates), seconds / 3600)


def _search_seconds(setup: Setup, search: SampledPlan | BlockwisePlan, seed: float, typical: float) -> float:
    """Return the wall-clock seconds of a search.

    Args:
        setup: plan and data.
        search: how candidates are found.
        seed: seconds of the seed network's training.
        typical: seconds of another candidate's.
    """
    jobs = setup.plan.jobs
    if isinstance(search, BlockwisePlan):
        # The teacher is one of the finalists' trainings; tables take less than what they are tables of.
        return forecast_distillation(setup, search) / jobs
    trainings = ((search.budget.trials - 1) * typical + seed) / jobs
    return trainings if search.budget.hours is None else min(trainings, search.budget.hours * 3600)


def _random_candidates(setup: Setup) -> Iterator[Candidate]:
    sampler = RandomSampler(derive_seed(setup.plan.seed, "check"))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler)
    for _ in range(PROBED_CANDIDATES):
        trial = study.ask()
        yield setup.space.sample(partial(suggest, trial))


def _training_seconds(setup: Setup, candidate: Candidate) -> float:
    """Return the seconds of a whole training, quantization-aware epochs included, from a few steps of either."""
    problem, estimator = setup.problem, setup.plan.estimator
    network = problem.build(candidate, 0)
    seconds = estimator.epochs * _epoch_seconds(setup, candidate, network)
    rounded = estimator.rounded_epochs(problem, candidate)
    if rounded:
        inputs = problem.data.train.inputs
        chosen = evenly_spread(len(inputs), CALIBRATED_SAMPLES)
        graph = trace(network.eval(), problem.data.input_shape)
        scheme = problem.scheme_of(candidate, graph.shapes)
        ranges = graph.calibrate(torch.from_numpy(inputs[chosen]), scheme)
        seconds += rounded * _epoch_seconds(setup, candidate, FakeQuantizedGraph(graph, ranges, scheme))
    return seconds


def _epoch_seconds(setup: Setup, candidate: Candidate, network: nn.Module) -> float:
    """Return the seconds of one pass over the data, from a few steps; they change the network."""
    split = setup.problem.data.train
    settings = TrainingSettings.from_group(candidate.training)
    trainer = make_trainer(network, setup.problem.training_set(0), setup.plan.task.loss, settings)
    indices = torch.arange(min(settings.batch_size, len(split)))
    trainer.step(indices, 0.0)
    start = time.perf_counter()
    for _ in range(PROBED_STEPS):
        trainer.step(indices, 0.0)
    step = (time.perf_counter() - start) / PROBED_STEPS
    return step * len(split) / settings.batch_size
