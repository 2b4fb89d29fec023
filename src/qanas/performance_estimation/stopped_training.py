"""Estimators that end trainings early: size-aware successive halving, and extrapolated learning curves."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from qanas.core.errors import InputError, TrainingFailed
from qanas.core.events import Event, Losses, Watch
from qanas.core.measures import Cost, Measure, Metric, Score
from qanas.core.trials import TrialRecord
from qanas.performance_estimation.base import Estimate, Estimator, Stages
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import Procedure
from qanas.performance_estimation.scoring import float_outputs, metrics_of, sample_of
from qanas.performance_estimation.stopping import (
    Course,
    FrontChance,
    LearnedEnd,
    SizeAwareHalving,
    StoppingRule,
    sum_of_losses,
)
from qanas.search_space.encoding import Encoding
from qanas.search_space.settings import Choice
from qanas.search_space.space import SearchSpace
from qanas.search_space.start import Proposal
from qanas.search_space.training_group import REGULARIZERS

LOOKED_AT = "predicted_after_"
"""In front of the columns of losses at rungs, followed by the epoch."""

STOPPED = "predicted_stopped"
"""The column that has 1 where a training was ended early."""

MOST_SAMPLES = 2048
"""Validation samples, spread evenly, that a network in training is looked at on."""


class _Stopping(Estimator):
    """What is common: a procedure that can be looked at, and a rule."""

    @abstractmethod
    def rule(self, space: SearchSpace) -> StoppingRule:
        """Return when trainings of a space's candidates end."""

    def check_bench(self, bench: Bench) -> None:
        """Refuse a procedure that can't be looked at."""
        if not self.procedure.can_be_looked_at:
            raise InputError(
                f"estimation.procedure: {type(self.procedure).__name__} can't be looked at while it trains, which "
                f"{type(self).__name__} needs; leave it out, or take estimation.name = 'training'"
            )
        if not self.rule(bench.space).looks(self.procedure.epochs):
            raise InputError(
                f"estimation.epochs = {self.procedure.epochs}: no training is looked at before its end; raise it"
            )

    def prepare(self, bench: Bench, stages: Stages, measures: Sequence[Measure]) -> Estimator:
        """Note what trainings are compared by."""
        del stages
        metric = next((measure for measure in measures if isinstance(measure, Metric)), None)
        if metric is None:
            name, better = next(iter(bench.task.metrics.items()))
            metric = Metric(name, better=better)
        cost = next((measure for measure in measures if isinstance(measure, Cost) and not measure.of_device), None)
        return StoppedTraining(self.procedure, self.rule(bench.space), metric, cost)

    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        """Refuse: what trainings are compared by is known after `prepare`."""
        del bench, proposal, seed, history, watch
        raise TypeError(f"{type(self).__name__} estimates once it is prepared")


@dataclass(frozen=True)
class EarlyStopping(_Stopping):
    """Trains each candidate, and ends what isn't among the best of its size at a rung.

    Attributes:
        procedure: of a whole training.
        rungs: epochs after which candidates are compared.
        keep: the share that goes on at each rung.
        larger: how many times a candidate's size others may have that it is compared with.
    """

    procedure: Procedure
    rungs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False, min_length=1)] = (3, 10)
    keep: Annotated[float, Field(gt=0, le=1)] = 0.3
    larger: Annotated[float, Field(ge=1)] = 1.25

    reads_history = True

    def rule(self, space: SearchSpace) -> SizeAwareHalving:
        """Return size-aware successive halving."""
        del space
        return SizeAwareHalving(tuple(sorted(self.rungs)), self.keep, self.larger)


@dataclass(frozen=True)
class LearningCurves(_Stopping):
    """Trains each candidate, predicts how its curve ends, and ends what will hardly reach the front.

    Attributes:
        procedure: of a whole training.
        first: the epoch from which on curves are extrapolated.
        chance: of reaching the front, below which a training is ended; by default 0.05, with ``learned`` 0.1.
        method: ``extrapolation`` of each curve by itself; ``learned``: a model of settings and curve, fitted to
            trainings that were finished; or ``sotl``: a whole, short training whose loss on training data over its
            last `first` epochs stands for the metric.
    """

    procedure: Procedure
    first: Annotated[int, Field(ge=1)] = 5
    chance: Annotated[float, Field(ge=0, lt=1)] | None = None
    method: Literal["extrapolation", "learned", "sotl"] = "extrapolation"

    reads_history = True

    def rule(self, space: SearchSpace) -> StoppingRule:
        """Return the chance of the front."""
        learns = self.method == "learned"
        chance = self.chance if self.chance is not None else LearnedEnd.chance if learns else FrontChance.chance
        if not learns:
            return FrontChance(self.first, chance)
        return LearnedEnd(Encoding.of(space).groups, chance)

    def axis(self, measure: Measure) -> Measure:
        """Return the training loss in place of a metric, where it stands for one."""
        return _sotl_axis(measure) if self.method == "sotl" else measure

    def check_bench(self, bench: Bench) -> None:
        """Refuse losses that can't be compared, and networks that are trained without any."""
        if self.method != "sotl":
            super().check_bench(bench)
        elif getattr(self.procedure, "cache", None) is not None:
            raise InputError(
                "estimation.cache: 'sotl' compares training losses, which kept weights come without; leave it out"
            )
        elif bench.reference_start.trained:
            raise InputError(
                "seed.weights: estimation.method = 'sotl' compares training losses, and a network with given weights "
                "isn't trained; leave them out, or take another method"
            )
        elif "training" in bench.search and len(bench.task.losses) > 1:
            raise InputError(
                "estimation.method: 'sotl' compares training losses, of which the group training searches several "
                f"kinds ({', '.join(bench.task.losses)}); leave 'training' out of space.search"
            )
        elif "training" in bench.search and (penalty := _penalty(bench)):
            raise InputError(
                f"estimation.method: 'sotl' compares training losses, to which {penalty} of the group training adds "
                "a penalty; leave 'training' out of space.search"
            )

    def prepare(self, bench: Bench, stages: Stages, measures: Sequence[Measure]) -> Estimator:
        """Note what trainings are compared by."""
        if self.method == "sotl":
            return SummedLosses(self.procedure, self.first)
        return super().prepare(bench, stages, measures)


def _penalty(bench: Bench) -> str:
    """Return the first setting that adds a penalty to the training loss; empty where there is none."""
    found = (s.name for s in bench.space.settings if isinstance(s, Choice) and s.options == REGULARIZERS)
    return next(found, "")


def _sotl_axis(measure: Measure) -> Measure:
    return Score("predicted_training_loss") if isinstance(measure, Metric) else measure


@dataclass(frozen=True)
class SummedLosses(Estimator):
    """Trains each candidate in full and says its training loss of the last epochs.

    Attributes:
        procedure: that trains.
        last: epochs.
    """

    procedure: Procedure
    last: int

    reads_history = True

    def axis(self, measure: Measure) -> Measure:
        """Return the training loss in place of a metric."""
        return _sotl_axis(measure)

    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        """Train, and add up."""
        del history
        losses = Losses(watch)
        made = self.procedure.make(bench, proposal.candidate, proposal.start, seed, losses)
        scores = made.evaluate(bench.task_of(proposal.candidate), bench.data_of(proposal.candidate).val)
        if not losses.values:
            raise TrainingFailed("it was trained without telling its losses, which 'sotl' compares")
        found = {**scores, "predicted_training_loss": sum_of_losses(losses.values, self.last)}
        return Estimate(found, made.train_seconds, losses.values, made.curve)


@dataclass(frozen=True)
class StoppedTraining(Estimator):
    """Trains candidates as long as a rule says; estimates are the validation metrics of what comes out, quantized.

    Attributes:
        procedure: of a whole training.
        rule: when it ends.
        metric: that networks in training are compared by, in FP32.
        cost: that tells sizes; None compares all with all.
    """

    procedure: Procedure
    rule: StoppingRule
    metric: Metric
    cost: Cost | None

    reads_history = True

    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        """Train, look, and score on validation data."""
        candidate, epochs = proposal.candidate, self.procedure.epochs
        task, data = bench.task_of(candidate), bench.data_of(candidate)
        samples = sample_of(data.val, MOST_SAMPLES)
        records = [record for record in history if record.outcome == "measured"]
        encoded = Encoding.of(bench.space).rows_of([*(record.candidate for record in records), candidate]).tolist()
        others = [self._course(record, row) for record, row in zip(records, encoded, strict=False)]
        size, settings = bench.size_of(candidate, self.cost), encoded[-1]
        looked: dict[int, float] = {}
        at = set(self.rule.looks(epochs))
        stopped: list[int] = []

        def look(event: Event, snapshot: Callable[[], nn.Module]) -> bool:
            if event.done not in at:
                return True
            scores = metrics_of(task, float_outputs(snapshot(), samples), samples)
            looked[event.done] = self.metric.loss(scores[self.metric.name])
            goes_on = self.rule.goes_on(Course(size, looked, settings=settings), others, epochs)
            if not goes_on:
                stopped.append(event.done)
            return goes_on

        losses = Losses(watch)
        made = self.procedure.make_looking(bench, candidate, proposal.start, seed, look, losses)
        scores = made.evaluate(task, data.val)
        scores |= {f"{LOOKED_AT}{epoch}": loss for epoch, loss in looked.items()}
        scores[STOPPED] = float(bool(stopped))
        return Estimate(scores, made.train_seconds, losses.values, made.curve)

    def _course(self, record: TrialRecord, settings: Sequence[float]) -> Course:
        """Return how an earlier trial went."""
        size = 0.0 if self.cost is None else record.costs[self.cost.column]
        looked = {
            int(name.removeprefix(LOOKED_AT)): value
            for name, value in record.metrics.items()
            if name.startswith(LOOKED_AT)
        }
        # Ends are compared with what extrapolates curves of the FP32 network.
        last = record.metrics.get(Metric(self.metric.name, "float", self.metric.better).column)
        final = None if last is None else self.metric.loss(last)
        stopped = bool(record.metrics.get(STOPPED, 0.0))
        return Course(size, looked, final, stopped, settings)
