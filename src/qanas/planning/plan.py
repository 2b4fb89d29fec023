"""A recipe as objects: what one run does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal, get_args

from qanas.core.errors import InputError
from qanas.core.measures import Cost, Goal, Limit, Measure, Metric, Score
from qanas.execution.executors import LOCAL, Engine
from qanas.hardware.costs import DeviceCost, FootprintCost
from qanas.hardware.device import Device
from qanas.performance_estimation.base import Estimator
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import Procedure
from qanas.planning.sharing import SharedStudy
from qanas.quantization.numbers.affine import Container
from qanas.quantization.scheme import DEFAULT_SCHEME, Scheme, named_schemes
from qanas.search_space.additive import AdditiveScores
from qanas.search_strategy.base import Strategy

BaselineName = Literal["constant", "linear", "dense", "narrowed", "fewer_bits"]
BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)
"""What a run compares itself with, see `qanas.shipping.baselines`."""

SWEEP = "auto"
"""In place of a scheme's name: all of them are tried on the reference, and the best is fixed before the search."""


@dataclass(frozen=True)
class SearchBudget:
    """When a search ends.

    Attributes:
        trials: candidates that are measured or fail, the reference included.
        hours: of wall-clock time over all sessions of the run; None for no bound.
        max_rejected: candidates over a limit.
    """

    trials: int
    hours: float | None
    max_rejected: int


@dataclass(frozen=True)
class FinalistsPlan:
    """How finalists are chosen and trained.

    Attributes:
        count: front points that are retrained.
        repetitions: trainings of each.
        procedure: how they are trained.
        start: from which weights, one of the estimator's `starts`.
        confirm: how many further trainings candidates near the front get before finalists are chosen, as a share of
            the measured trials.
        tune: how often each length of the reference's training is tried before; 0: it is trained as finalists are.
        tuned: how the reference is trained, once that is chosen; None: as finalists are.
    """

    count: int
    repetitions: int
    procedure: Procedure
    start: str = "scratch"
    confirm: float = 0.0
    tune: int = 0
    tuned: Procedure | None = None

    @property
    def of_reference(self) -> Procedure:
        """How the reference is trained, and what is made of it."""
        return self.tuned or self.procedure

    def confirmations(self, measured: int) -> int:
        """Return how many further trainings candidates near the front get after so many measured trials."""
        return int(Fraction(str(self.confirm)) * measured)  # 0.29 of 100 are 28 in floating point


@dataclass(frozen=True)
class SchemeChoice:
    """Which scheme networks are quantized by.

    Attributes:
        name: of a named scheme, or `SWEEP`.
        layers: fields that differ, by the path of a module, see `Scheme`.
        container: what weights of few bits are stored in; None: the scheme's.
    """

    name: str = DEFAULT_SCHEME
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    container: Container | None = None

    @property
    def scheme(self) -> Scheme:
        """The scheme of that name, with what differs; the default one until a sweep has chosen."""
        named = named_schemes()[DEFAULT_SCHEME if self.name == SWEEP else self.name]
        return replace(named, layers={**named.layers, **self.layers}, container=self.container or named.container)


def check_meeting(strategy: Strategy, estimator: Estimator, names: tuple[str, str]) -> None:
    """Refuse a strategy and an estimator that don't meet, saying what would.

    Args:
        strategy: explores the space.
        estimator: says how good a candidate is.
        names: of the two, in the recipe.

    Raises:
        InputError: names the key and the mend.
    """
    needed = strategy.needs
    if needed is not None and needed not in estimator.offers:
        known = getattr(needed, "offered_by", "another one")
        raise InputError(
            f"strategy.name: '{names[0]}' solves over {needed.__name__}, which estimation.name = '{names[1]}' does "
            f"not offer; {known} does, or take a strategy that samples, such as tpe"
        )


@dataclass(frozen=True)
class Plan:
    """Everything that a run needs; picklable.

    Attributes:
        bench: what candidates are measured on.
        strategy: explores the space.
        estimator: says how good a candidate is, for the search.
        budget: when the search ends.
        objectives: of the recipe.
        limits: bounds on costs.
        finalists: how they are chosen and trained.
        scheme: which one the bench's networks are quantized by.
        jobs: worker processes.
        recipe: resolved, as written into the run's folder.
        baselines: what is trained and scored beside finalists.
        goals: scores to be reached; of what reaches them the smallest is wanted.
        store: a study that others work on, too; None: the run's own.
        engine: who runs units of work.
        also_on: further devices that the latency of what ships is told of.
    """

    bench: Bench
    strategy: Strategy
    estimator: Estimator
    budget: SearchBudget
    objectives: tuple[Measure, ...]
    limits: tuple[Limit, ...]
    finalists: FinalistsPlan
    scheme: SchemeChoice
    jobs: int
    recipe: Mapping[str, Any]
    baselines: tuple[BaselineName, ...] = ()
    goals: tuple[Goal, ...] = ()
    store: SharedStudy | None = None
    engine: Engine = LOCAL
    also_on: tuple[Device, ...] = ()

    @property
    def devices(self) -> tuple[Device, ...]:
        """Every device that the latency of what ships is told of, the recipe's own first."""
        named = (model.device for model in self.bench.costs if isinstance(model, DeviceCost | FootprintCost))
        every = (self.bench.device, *self.also_on, *named)
        return tuple({device.name: device for device in reversed(every)}.values())[::-1]

    def lacking_latency(self) -> list[str]:
        """Return what lacks for the latency of what ships, a line for each device that it can't be had of."""
        return [f"{device.name}: {device.latency.lacking}" for device in self.devices if device.latency.lacking]

    @cached_property
    def axes(self) -> tuple[Measure, ...]:
        """The axes of the search's front: the objectives, or what the estimator has in their place."""
        return tuple(dict.fromkeys(self.estimator.axis(objective) for objective in self.objectives))

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The objectives, and the costs of further limits."""
        return tuple(dict.fromkeys([*self.objectives, *(limit.cost for limit in self.limits)]))

    @property
    def main_metric(self) -> Metric:
        """The metric that decides between repetitions of a finalist: that of the first objective that is about one."""
        named = (measure for measure in self.objectives if isinstance(measure, Metric))
        name, direction = next(iter(self.bench.task.metrics.items()))
        return replace(next(named, Metric(name, better=direction)), precision="quantized")

    @property
    def costs(self) -> tuple[Cost, ...]:
        """The objectives that are costs."""
        return tuple(objective for objective in self.objectives if isinstance(objective, Cost))

    def check_combination(self) -> None:
        """Refuse, before any data is read, networks, objectives, limits and finalists that don't go with the search.

        Raises:
            InputError: names the key and the mend.
        """
        estimator = self.estimator
        if self.finalists.start not in estimator.starts:
            raise InputError(
                f"finalists.start: '{self.finalists.start}' is nothing that estimation.name = "
                f"'{self.recipe['estimation']['name']}' leaves; known here: {', '.join(estimator.starts)}"
            )
        scores = [axis.column for axis in self.axes if isinstance(axis, Score)]
        if self.finalists.confirm and scores:
            raise InputError(
                f"finalists.confirm: the front is by {scores[0]}, for which no candidate is trained; leave it out"
            )
        self.estimator.check_bench(self.bench)
        self.strategy.check(self.axes, self._solved_limits())
        self.strategy.check_costs(self.axes, self.bench.costs)

    def _solved_limits(self) -> list[Limit]:
        """Return the limits that the strategy itself keeps: a solver of sums those on what adds up over its places.

        The search holds its front against the others.
        """
        if self.strategy.needs is not AdditiveScores:
            return list(self.limits)
        additive = {model.measure.column for model in self.bench.additive_costs}
        return [limit for limit in self.limits if limit.cost.column in additive]

    def check(self) -> None:
        """Read the data and refuse, before anything is trained, what can't be trained, quantized or estimated.

        Raises:
            InputError: the data is missing or damaged, the reference can't be quantized, or its weights don't fit.
        """
        self.estimator.check(self.bench, self.measures)
        self.bench.check()

    def with_scheme(self, name: str) -> Plan:
        """Return the same with another named scheme."""
        choice = replace(self.scheme, name=name)
        return replace(self, scheme=choice, bench=replace(self.bench, scheme=choice.scheme))
