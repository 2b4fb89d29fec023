"""The contracts of procedures and estimators."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
from qanas.core.events import Event, Watch, go_on
from qanas.core.measures import Cost, Measure, Metric, Score
from qanas.core.trials import TrialRecord
from qanas.performance_estimation.base import Estimate, Estimator
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import Procedure, TrainedNetwork
from qanas.search_space.start import RANDOM, Proposal, Start
from qanas.testing.properties import (
    difference,
    expect,
    hold,
    random_candidate,
    refusal,
    states,
    through_pickle,
    with_global_seed,
)
from qanas.testing.small import PlainStages, small_bench
from qanas.testing.starts import FinalWeights

SEED = 5


# Procedures


@dataclass
class Told:
    """A watch that remembers, and says stop at some number of events."""

    stop_after: float = math.inf
    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> bool:
        """Remember."""
        self.events.append(event)
        return len(self.events) < self.stop_after


class ProcedureCase:
    """A procedure on a bench.

    Args:
        procedure: that is checked.
        bench: what candidates are measured on.
    """

    def __init__(self, procedure: Procedure, bench: Bench) -> None:
        """Make nothing yet."""
        self.procedure = procedure
        self.bench = bench

    def make(self, seed: int = SEED, start: Start = RANDOM, watch: Watch = go_on, state: int = 0) -> TrainedNetwork:
        """Return the reference as the procedure makes it, with the global generators in some state."""
        made: TrainedNetwork = with_global_seed(
            state, lambda: self.procedure.make(self.bench, self.bench.reference, start, seed, watch)
        )
        return made

    @cached_property
    def made(self) -> TrainedNetwork:
        """The reference."""
        return self.make()

    def facts(self, made: TrainedNetwork) -> Mapping[str, Any]:
        """Return weights and the codes of all outputs, shape (n, output_size, ...)."""
        return {
            "weights": states(made.network),
            "codes": made.codes(self.bench.data_of(self.bench.reference).val),
        }


def check_procedure(procedure: Procedure, bench: Bench | None = None) -> None:
    """Hold a procedure against its contract, see `qanas.performance_estimation.procedure`.

    Args:
        procedure: that is checked; give it few epochs.
        bench: what candidates are measured on; the small networks by default.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    hold(type(procedure).__name__, ProcedureCase(procedure, bench or small_bench()), PROCEDURE_PROPERTIES)


def the_bench_is_accepted(case: ProcedureCase) -> None:
    """A bench that can be trained on is accepted."""
    case.procedure.check(case.bench)


def the_same_again_is_the_same(case: ProcedureCase) -> None:
    """The same arguments give the same network bit for bit, whatever the global generators' state; so do copies."""
    again = ProcedureCase(through_pickle(case.procedure), case.bench).make(state=1)
    seen = difference(case.facts(case.made), case.facts(again), "the network")
    expect(not seen, seen)


def another_seed_is_another_network(case: ProcedureCase) -> None:
    """Another seed gives other weights."""
    other = case.make(seed=SEED + 1)
    expect(difference(states(case.made.network), states(other.network)), "two seeds give the same weights")


def the_network_is_ready(case: ProcedureCase) -> None:
    """The network is in evaluation mode, its weights finite; it took no negative time."""
    expect(not any(module.training for module in case.made.network.modules()), "a module is in training mode")
    bad = [name for name, values in states(case.made.network).items() if not np.isfinite(values).all()]
    expect(not bad, f"{', '.join(bad)} is not finite")
    expect(case.made.train_seconds >= 0, f"train_seconds is {case.made.train_seconds}")


def metrics_come_out(case: ProcedureCase) -> None:
    """Both networks can be scored: every metric, float and quantized."""
    bench = case.bench
    found = case.made.evaluate(bench.task, bench.data_of(bench.reference).val)
    asked = {Metric(name, how).column for name in bench.task.metrics for how in ("float", "quantized")}
    expect(set(found) == asked, f"{sorted(found)} instead of {sorted(asked)}")


def quantizing_anew_is_the_same(case: ProcedureCase) -> None:
    """`quantize` gives what `make` did, and leaves the network as it is."""
    before = states(case.made.network)
    again = case.procedure.quantize(case.bench, case.bench.reference, case.made.network, SEED)
    seen = difference(before, states(case.made.network), "weights")
    expect(not seen, seen)
    made = TrainedNetwork(case.made.network, again, 0.0)
    seen = difference(case.facts(case.made)["codes"], case.facts(made)["codes"], "codes")
    expect(not seen, seen)


def final_weights_are_not_trained(case: ProcedureCase) -> None:
    """A start whose weights are final is not trained."""
    network = case.bench.build(case.bench.reference, 0, FinalWeights())
    expected = {name: tensor.detach().numpy() for name, tensor in network.named_parameters()}
    made = case.make(start=FinalWeights())
    seen = difference(expected, {name: states(made.network)[name] for name in expected}, "weights")
    expect(not seen, seen)


def the_watch_is_told_and_obeyed(case: ProcedureCase) -> None:
    """The watch is told how far it has come, and changes nothing unless it says stop; then it is told no more."""
    told = Told()
    seen = difference(case.facts(case.made), case.facts(case.make(watch=told)), "a watched network")
    expect(not seen, seen)
    done = [event.done for event in told.events]
    expect(done, "no event arrived")
    expect(done == sorted(set(done)), f"events came in the order {done}")
    expect(done[-1] == told.events[-1].total, f"the last event says {done[-1]} of {told.events[-1].total}")
    stopped = Told(stop_after=1)
    network = case.make(watch=stopped).network
    expect(len(stopped.events) == 1, f"{len(stopped.events)} events, though the first one was answered with stop")
    expect(not network.training, "stopped, the network is in training mode")


def epochs_can_be_changed(case: ProcedureCase) -> None:
    """Finalists can have epochs of their own; settings that it has not are refused."""
    expect(case.procedure.with_settings(epochs=7).epochs == 7, "with_settings(epochs=7) has others")  # noqa: PLR2004
    refusal(InputError, lambda: case.procedure.with_settings(no_such_setting=1), "a setting that it has not")


def the_forecast_is_a_time(case: ProcedureCase) -> None:
    """The forecast is a finite number of seconds."""
    seconds = case.procedure.forecast(case.bench, case.bench.reference)
    expect(math.isfinite(seconds) and seconds >= 0, f"it is {seconds}")


PROCEDURE_PROPERTIES = (
    the_bench_is_accepted,
    the_same_again_is_the_same,
    another_seed_is_another_network,
    the_network_is_ready,
    metrics_come_out,
    quantizing_anew_is_the_same,
    final_weights_are_not_trained,
    the_watch_is_told_and_obeyed,
    epochs_can_be_changed,
    the_forecast_is_a_time,
)
"""What a procedure owes."""


# Estimators


class EstimatorCase:
    """An estimator on a bench, prepared in a folder.

    Args:
        estimator: that is checked.
        bench: what candidates are measured on.
        home: of the preparation's files.
    """

    def __init__(self, estimator: Estimator, bench: Bench, home: Path) -> None:
        """Prepare nothing yet."""
        self.estimator = estimator
        self.bench = bench
        self.stages = PlainStages(bench, estimator.procedure, home)
        name, way = next(iter(bench.task.metrics.items()))
        self.metric = Metric(name, better=way)
        self.measures: tuple[Measure, ...] = (self.metric, Cost("weight_bytes"))

    def prepare(self) -> Estimator:
        """Return the estimator, ready."""
        return self.estimator.prepare(self.bench, self.stages, self.measures)

    @cached_property
    def prepared(self) -> Estimator:
        """The estimator, ready."""
        return self.prepare()

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Some that it doesn't refuse."""
        found = [self.bench.reference, *(random_candidate(self.bench.space, seed) for seed in range(2))]
        return [candidate for candidate in found if not self.prepared.refusal(self.bench, candidate)]

    def estimate(
        self, candidate: Candidate, by: Estimator | None = None, history: tuple[TrialRecord, ...] = (), state: int = 0
    ) -> Estimate:
        """Return what is said of a candidate, with the global generators in some state."""
        chosen = by or self.prepared
        said: Estimate = with_global_seed(
            state, lambda: chosen.estimate(self.bench, Proposal(candidate), SEED, history, go_on)
        )
        return said


def check_estimator(estimator: Estimator, bench: Bench | None = None) -> None:
    """Hold an estimator against its contract, see `qanas.performance_estimation.base`.

    Args:
        estimator: that is checked; let it be quick.
        bench: what candidates are measured on; the small networks, which consist of blocks, by default.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    with tempfile.TemporaryDirectory() as home:
        case = EstimatorCase(estimator, bench or small_bench(), Path(home))
        hold(type(estimator).__name__, case, ESTIMATOR_PROPERTIES)


def the_measures_are_accepted(case: EstimatorCase) -> None:
    """A metric and a cost are accepted before anything is trained; the forecast is a finite time."""
    case.estimator.check(case.bench, case.measures)
    seconds = case.estimator.forecast(case.bench)
    expect(math.isfinite(seconds) and seconds >= 0, f"the forecast is {seconds}")


def preparing_twice_runs_nothing(case: EstimatorCase) -> None:
    """What was prepared is not done again."""
    first = case.prepared
    ran = list(case.stages.ran)
    second = case.prepare()
    expect(case.stages.ran == ran, f"run again: {', '.join(case.stages.ran[len(ran) :])}")
    for candidate in case.candidates[:1]:
        seen = difference(case.estimate(candidate, first).scores, case.estimate(candidate, second).scores, "scores")
        expect(not seen, seen)


def the_axis_is_estimated(case: EstimatorCase) -> None:
    """What stands for the metric is among the scores, costs stand for themselves; scores are finite."""
    axis = case.prepared.axis(case.metric)
    expect(isinstance(axis, Metric | Score), f"{case.metric.column} becomes {axis!r}")
    expect(axis == case.estimator.axis(case.metric), "the axis is another one once it is prepared")
    cost = Cost("weight_bytes")
    expect(case.prepared.axis(cost) == cost, f"the cost becomes {case.prepared.axis(cost)!r}")
    expect(case.candidates, "it refuses every candidate")
    for candidate in case.candidates:
        scores = case.estimate(candidate).scores
        expect(axis.column in scores, f"{axis.column} is not among {', '.join(scores)}")
        bad = [name for name, value in scores.items() if not math.isfinite(value)]
        expect(not bad, f"{', '.join(bad)} is not finite")


def estimates_are_deterministic(case: EstimatorCase) -> None:
    """The same arguments give the same scores, whatever the global generators' state, and in workers."""
    copy = through_pickle(case.prepared)
    for candidate in case.candidates:
        said = case.estimate(candidate)
        seen = difference(said.scores, case.estimate(candidate, copy, state=1).scores, "scores")
        expect(not seen, seen)
        expect(said.train_seconds >= 0, f"train_seconds is {said.train_seconds}")


def history_matters_where_it_is_said(case: EstimatorCase) -> None:
    """An estimate depends on earlier ones only where `reads_history` says so."""
    if case.prepared.reads_history:
        return
    first, last = case.candidates[0], case.candidates[-1]
    history = (TrialRecord(0, "measured", first.config, {}, case.estimate(first).scores),)
    seen = difference(case.estimate(last).scores, case.estimate(last, history=history).scores, "scores")
    expect(not seen, seen)


def refusals_are_consistent(case: EstimatorCase) -> None:
    """A candidate is refused in one line or not at all, the same each time."""
    for seed in range(5):
        candidate = random_candidate(case.bench.space, seed)
        first, second = (case.prepared.refusal(case.bench, candidate) for _ in range(2))
        expect(isinstance(first, str) and "\n" not in first, f"it is {first!r}")
        expect(first == second, f"it is {first!r}, then {second!r}")


def finalists_have_a_start(case: EstimatorCase) -> None:
    """Finalists can start from every kind of weights that it names."""
    expect(case.prepared.starts == case.estimator.starts, "the kinds are others once it is prepared")
    for kind in case.prepared.starts:
        for candidate in case.candidates[-1:]:
            start = case.prepared.finalist_start(case.bench, candidate, kind)
            expect(isinstance(start, Start), f"{kind} is {start!r}")
            case.bench.build(candidate, 0, start)


def offers_are_kept(case: EstimatorCase) -> None:
    """It offers to solvers what it says, and nothing else."""
    expect(case.prepared.offers == case.estimator.offers, "the offers are others once it is prepared")
    for kind in case.prepared.offers:
        expect(isinstance(case.prepared.offer(kind), kind), f"{kind.__name__} is offered, something else is given")
    refusal(TypeError, lambda: case.prepared.offer(EstimatorCase), "what it doesn't offer")


def the_summary_can_be_written(case: EstimatorCase) -> None:
    """The summary can be written as JSON."""
    json.dumps(case.prepared.summary())


ESTIMATOR_PROPERTIES = (
    the_measures_are_accepted,
    the_axis_is_estimated,
    estimates_are_deterministic,
    preparing_twice_runs_nothing,
    history_matters_where_it_is_said,
    refusals_are_consistent,
    finalists_have_a_start,
    offers_are_kept,
    the_summary_can_be_written,
)
"""What an estimator owes."""
