"""A recipe as objects: what one run does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from qanas.core.candidate import Group
from qanas.core.errors import InputError
from qanas.core.measurement import Limit, Objective
from qanas.core.run_folder import folder_written_atomically
from qanas.hardware.costs import COSTS, LATENCY
from qanas.hardware.device import Device
from qanas.performance_estimation.base import Estimator
from qanas.performance_estimation.block_table.build import TableSettings
from qanas.performance_estimation.problem import Problem
from qanas.quantization.affine import Container
from qanas.quantization.named_schemes import DEFAULT_SCHEME, named_schemes
from qanas.quantization.scheme import Scheme
from qanas.search_space.network_space import NetworkSpace
from qanas.search_space.space import Encoding, SearchSpace, space_of
from qanas.search_space.training_group import TrainingSettings
from qanas.search_strategy.base import FrontSolver, SamplingStrategy
from qanas.supernet.distillation import DistillationSettings
from qanas.supernet.distilled_start import DistilledStart
from qanas.tasks.base import Task, TaskData
from qanas.tasks.prepared import load_prepared, save_prepared

SWEEP = "auto"
"""In place of a scheme's name: all of them are tried on the seed network, and the best is fixed before the search."""


@dataclass(frozen=True)
class SearchBudget:
    """When a search ends.

    Attributes:
        trials: candidates that are measured or fail, the seed network included.
        hours: of wall-clock time over all sessions of the run; None for no bound.
        max_rejected: candidates over a limit.
    """

    trials: int
    hours: float | None
    max_rejected: int


@dataclass(frozen=True)
class SampledPlan:
    """A search that trains the candidates that a sampler proposes.

    Attributes:
        groups: those that are free.
        strategy: proposes candidates.
        budget: when the search ends.
    """

    groups: tuple[Group, ...]
    strategy: SamplingStrategy
    budget: SearchBudget

    @property
    def encoding(self) -> Encoding:
        """How the sampler sees the space."""
        return self.strategy.encoding


@dataclass(frozen=True)
class BlockwisePlan:
    """A search over tables of distilled blocks (Lu et al. 2023).

    Attributes:
        distillation: how each block's supernet is trained.
        supernets: of each block, from different seeds; their scores are averaged.
        views: of every training sample that the teacher is asked about: as it is, then changed at random.
        table: what each block's table holds.
        solver: finds the front of the tables.
        distilled_finalists: whether finalists start from their distilled blocks, or from scratch.
        score: what stands for the metric among the objectives: the sum of the blocks' noise-to-signal ratios.
    """

    distillation: DistillationSettings
    supernets: int
    views: int
    table: TableSettings
    solver: FrontSolver
    distilled_finalists: bool = False
    score: str = "nsr_sum"

    groups: ClassVar[tuple[Group, ...]] = ("architecture", "quantization")
    encoding: ClassVar[Encoding] = "conditional"


@dataclass(frozen=True)
class FinalistsPlan:
    """How finalists are chosen and trained.

    Attributes:
        count: front points that are retrained.
        seeds: trainings of each.
    """

    count: int
    seeds: int


@dataclass(frozen=True)
class Plan:
    """Everything that a run needs; picklable.

    Attributes:
        task: data, loss and metrics.
        networks: the family of networks.
        search: how candidates are found.
        estimator: trains and measures candidates.
        jobs: worker processes.
        objectives: axes of the front.
        limits: bounds on costs.
        device: where latency is measured.
        finalists: how they are chosen and trained.
        scheme: the name of the scheme that networks are quantized by, or `SWEEP`.
        seed: the run's seed.
        seed_weights: the seed network's, from a file; None where it is trained like any other.
        recipe: the resolved recipe, as written into the run's folder.
        start: weights that candidates other than the seed network start from; None for random ones.
        layers: fields of the scheme that differ, by the path of a module, see `Scheme`.
        container: what weights of few bits are stored in; None: the scheme's.
    """

    task: Task
    networks: NetworkSpace
    search: SampledPlan | BlockwisePlan
    estimator: Estimator
    jobs: int
    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...]
    device: Device
    finalists: FinalistsPlan
    scheme: str
    seed: int
    seed_weights: Path | None
    recipe: Mapping[str, Any]
    start: DistilledStart | None = None
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    container: Container | None = None

    @property
    def main_metric(self) -> str:
        """The metric that decides between trainings of a finalist: that of the first objective that has one."""
        for objective in self.objectives:
            metric = metric_of(objective.name, self.task)
            if metric is not None:
                return metric
        return next(iter(self.task.metrics))

    @property
    def quantization(self) -> Scheme:
        """The scheme of that name, with what the recipe changes; the default one until the sweep has chosen."""
        named = named_schemes()[DEFAULT_SCHEME if self.scheme == SWEEP else self.scheme]
        return replace(named, layers={**named.layers, **self.layers}, container=self.container or named.container)

    def problem(self, data: TaskData) -> Problem:
        """Return what candidates are measured on."""
        return Problem(self.task, data, self.networks, self.seed_weights, self.quantization, self.start)

    @property
    def decisive_costs(self) -> tuple[str, ...]:
        """The costs that the front is over or bounded by: objectives first, then further limits."""
        named = [objective.name for objective in self.objectives] + [limit.cost for limit in self.limits]
        return tuple(name for name in dict.fromkeys(named) if name in COSTS)

    @property
    def cost_names(self) -> tuple[str, ...]:
        """The costs that every candidate gets; latency only where somebody asks for it."""
        asked = {objective.name for objective in self.objectives} | {limit.cost for limit in self.limits}
        return (*COSTS, LATENCY) if LATENCY in asked else COSTS


def metric_of(objective: str, task: Task) -> str | None:
    """Return the metric that an objective is about, or None for a cost."""
    for precision in ("_float", "_quantized"):
        if objective.endswith(precision) and objective.removesuffix(precision) in task.metrics:
            return objective.removesuffix(precision)
    return None


@dataclass(frozen=True)
class Setup:
    """A plan with its data loaded: what the main process and every worker hold.

    Attributes:
        plan: what a run does.
        problem: task, data and networks.
        prepared: the folder that the data is mapped from; None where it is in this process's memory alone.
    """

    plan: Plan
    problem: Problem
    prepared: Path | None = None

    @classmethod
    def load(cls, plan: Plan) -> Setup:
        """Load the task's data.

        Raises:
            InputError: the data is missing or damaged, the seed network can't be quantized, or its weights don't fit.
        """
        setup = cls(plan, plan.problem(plan.task.load()))
        plan.estimator.check(setup.problem)
        setup.problem.skeleton(setup.space.reference)
        setup.problem.pretrained(setup.space.reference)  # a misfit is told before the search, not after it
        return setup

    @classmethod
    def map(cls, plan: Plan, prepared: Path) -> Setup:
        """Map the data that another process prepared."""
        return cls(plan, plan.problem(load_prepared(prepared)), prepared)

    def with_scheme(self, name: str) -> Setup:
        """Return the same with another named scheme."""
        plan = replace(self.plan, scheme=name)
        return replace(self, plan=plan, problem=replace(self.problem, scheme=plan.quantization))

    def with_start(self, start: DistilledStart) -> Setup:
        """Return the same with weights for candidates to start from."""
        return replace(self, plan=replace(self.plan, start=start), problem=replace(self.problem, start=start))

    @contextmanager
    def shared(self, folder: Path) -> Iterator[Setup]:
        """Give a setup whose data lies in a folder while the context lasts, for worker processes to map.

        With one job there is nobody to share with: the setup stays as it is.
        """
        if self.plan.jobs == 1:
            yield self
            return
        with folder_written_atomically(folder) as partial:
            save_prepared(self.problem.data, partial)
        try:
            yield Setup.map(self.plan, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @cached_property
    def space(self) -> SearchSpace:
        """The space that is searched.

        Raises:
            InputError: the settings of a user's own space don't fit together.
        """
        plan = self.plan
        try:
            settings = plan.networks.settings(self.problem.shape)
            space = space_of(settings, plan.search.groups, plan.search.encoding)
            TrainingSettings.from_group(space.reference.training)
        except (TypeError, ValueError) as error:
            name = type(plan.networks).__name__
            raise InputError(f"space: the settings of {name} can't be searched: {error}") from error
        return space
