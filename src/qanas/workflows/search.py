"""The one search: prepare the estimator, then ask / cost / reject or estimate / tell, or solve; a front."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

import numpy as np

from qanas.core.candidate import Candidate, Value
from qanas.core.errors import InputError, users_code
from qanas.core.events import Event
from qanas.core.measures import columns_of, setting_columns
from qanas.core.run_folder import RunFolder, write_parquet
from qanas.core.seeds import derive_seed
from qanas.core.trials import TrialRecord, front_of
from qanas.execution.executors import LOCAL, Executor, Failure, Unit
from qanas.execution.sharing import ALONE
from qanas.performance_estimation.base import Estimate
from qanas.performance_estimation.bench import Bench
from qanas.planning.dependence import made_from
from qanas.planning.plan import Plan
from qanas.planning.progress import Progress
from qanas.search_space.encoding import values_of
from qanas.search_space.growth import growth_of, weights_of_trial
from qanas.search_space.space import SearchSpace, require_plain
from qanas.search_space.start import Proposal
from qanas.search_strategy.base import History, Sampler, Solver, Strategy
from qanas.workflows.coordinators import Session
from qanas.workflows.costing import Costed, Costing, within_other_limits
from qanas.workflows.importance import write_importance
from qanas.workflows.known_trials import KnownTrials, identity
from qanas.workflows.shared_store import SharedTrialStore
from qanas.workflows.stages import RunStages
from qanas.workflows.trial_store import TrialStore, most_blamed, require_reference
from qanas.workflows.trial_table import trial_table
from qanas.workflows.trial_unit import TrialUnit

logger = logging.getLogger("qanas")

ASKED_AGAIN = 5
"""Proposals of a sampler for one trial, where each is a candidate that was measured before."""

DRAWN = 300
"""Candidates drawn at random then; where all of them are known, less than one in a hundred isn't, most likely."""

KEPT = "search"
"""The kind of weights that finalists start from where they go on from those of their trial."""


def _is_ours(strategy: Strategy) -> bool:
    """Tell whether what it raises is a defect of qanas, to be told in full, or of a user's class: in a line."""
    return type(strategy).__module__.startswith("qanas.")


def _asked(sampler: Sampler, space: SearchSpace, history: History, seed: int) -> Proposal:
    """Return what a sampler proposes; whatever is wrong with one of a user's own is told in a line.

    Args:
        sampler: that is asked.
        space: of the candidates.
        history: of the search.
        seed: of the proposal.

    Raises:
        InputError: names the place in the user's code.
    """
    if _is_ours(sampler):
        return sampler.ask(space, history, seed)
    with users_code(f"strategy: {type(sampler).__name__}.ask"):
        proposal = sampler.ask(space, history, seed)
        if not isinstance(proposal, Proposal):
            raise TypeError(f"it returns a {type(proposal).__name__}; return a Proposal (qanas.search_space.start)")
        for name, value in values_of(proposal.candidate).items():
            require_plain(name, value)
        return proposal


def _at_once(plan: Plan) -> bool:
    """Tell whether there are no trials worth a row on disk: a solver has none, others take milliseconds each."""
    return plan.estimator.cheap or plan.strategy.needs is not None


def _store(plan: Plan, folder: RunFolder, session: Session | None) -> TrialStore:
    """Return where the trials of a run are kept."""
    if _at_once(plan):
        return TrialStore(None, plan.axes, plan.limits)
    if session is None:
        return TrialStore(folder.study, plan.axes, plan.limits)
    if folder.study.exists():
        raise InputError(f"{folder.study}: this run has trials of its own; choose another --out, or leave [store] out")
    facts = {"made_from": made_from("front", plan.recipe), "scheme": plan.scheme.name}
    return SharedTrialStore(session, facts, plan.axes, plan.limits)


class Search:
    """One session of a search; what was finished in earlier ones of the same folder is not done again.

    Args:
        plan: with the bench.
        folder: of the run.
        progress: who watches.
        session: at a study that others work on, too; None: the trials are this run's own.
    """

    def __init__(self, plan: Plan, folder: RunFolder, progress: Progress, session: Session | None = None) -> None:
        """Read what was finished before."""
        self.plan = plan
        self.bench = plan.bench
        self.folder = folder
        self.progress = progress
        self.stages = RunStages(plan, folder, progress, ALONE if session is None else session.files)
        self.estimator = plan.estimator
        self.store = _store(plan, folder, session)
        require_reference(folder.study, self.store.records, plan.bench.reference)
        self.solutions: list[TrialRecord] = []
        self.running: dict[int, TrialUnit] = {}
        self.exhausted = False
        self._trial_0: tuple[str, str] | None = None
        self._keeps = False
        self._known = KnownTrials.of(self.store.records, plan.axes)
        self._costing = Costing(plan, lambda candidate: self.estimator.refusal(self.bench, candidate))
        self.started = time.monotonic()
        self.stopped: float | None = None
        before = folder.seconds_before("seconds").get("search", 0.0) if _at_once(plan) else 0.0
        self.seconds_before = self.store.search_seconds or float(before)

    def run(self) -> None:
        """Search to the end.

        Raises:
            InputError: the recipe asks for what can't be found.
        """
        self.estimator = self.plan.estimator.prepare(self.bench, self.stages, self.plan.measures)
        try:
            self.plan.strategy.conduct(self)
        except BaseException:
            self._count_what_is_cut_off()
            raise
        if self.store.records:
            write_importance(self.folder.importance, self.store.study, self.plan.axes, self.store.records)

    def _count_what_is_cut_off(self) -> None:
        """Keep the time of trials that end early: it is the search's, too. What others share may be away just now."""
        if self.running and self.plan.store is None:
            with suppress(InputError):
                self.store.set_search_seconds(self._seconds())

    def front(self) -> list[TrialRecord]:
        """Return the networks within the limits that no other one dominates, sorted by the axes."""
        return front_of(self.records, self.plan.axes)

    @property
    def records(self) -> list[TrialRecord]:
        """All trials, and what a solver found."""
        return [*self.store.records, *self.solutions]

    def write_tables(self) -> None:
        """Write what was found so far, whether the search ended or not."""
        if self.store.records or not _at_once(self.plan):
            write_parquet(self.folder.trials, trial_table(self.store.records))
            self.folder.trials_csv.unlink(missing_ok=True)

    def summary(self) -> dict[str, Any]:
        """Return counts and times of what was done so far."""
        outcomes = Counter(record.outcome for record in self.store.records)
        # Where trials are kept, a session that had none to do takes no time.
        seconds = self._seconds() if _at_once(self.plan) else self.store.search_seconds
        return {
            "trials": {outcome: outcomes[outcome] for outcome in ("measured", "rejected", "failed")},
            "train_cpu_seconds": sum(record.train_seconds for record in self.store.records),
            "front_axes": {axis.column: axis.direction for axis in self.plan.axes},
            "front": len(self.front()),
            "effort_cpu_seconds": self.stages.effort,
            **self.estimator.summary(),
            "seconds": seconds,
        }

    # Solving

    def solve(self, solver: Solver) -> None:
        """Give a solver what it needs of the estimator, and take its front."""
        assert solver.needs is not None  # noqa: S101 - `Plan.check_combination` has seen to it
        with self.stages.timed("search"):
            offered = self.estimator.offer(solver.needs)
            with nullcontext() if _is_ours(solver) else users_code(f"strategy: {type(solver).__name__}.front"):
                solved = solver.front(offered, self.plan.axes, self.plan.limits)
            solved = within_other_limits(self.plan, solved, self.progress.message)
        for found in solved:
            config = found.candidate.config
            self.solutions.append(TrialRecord(-1, "measured", config, found.costs, found.scores, origin=found.origin))
        self.progress.message(f"front of {len(self.solutions)} networks")

    # Asking and telling

    def ask_and_tell(self, sampler: Sampler) -> None:
        """Estimate what a sampler proposes, until the budget is spent.

        Raises:
            InputError: the limits reject nearly everything.
        """
        sampler = self._with_weights(sampler.costed(self._costing.exact))
        counted = len(self._known.counted)
        hours = self.plan.budget.hours
        seconds = None if hours is None else hours * 3600 - self._seconds()
        self.progress.start(self.plan.budget.trials, counted, resumed=counted > 0, seconds=seconds)
        self.progress.front(self._front_rows())
        refused = self.estimator.refusal(self.bench, self.bench.reference)
        first = 1 if refused else 0  # the reference is always trial 0, where it can be estimated
        self._trial_0 = None if refused else identity(self._reference_proposal())
        jobs, engine = (1, LOCAL) if self.plan.estimator.cheap else (self.plan.jobs, self.plan.engine)
        with engine.executor(self.bench, jobs, self._on_event) as executor:
            while True:
                for unit in self._next_units(sampler, executor, first):
                    executor.submit(unit)
                if not self.running:
                    if self.store.wait() and not self._hours_spent():
                        continue
                    self._learn()
                    self._say_if_exhausted()
                    return
                finished, result = executor.next_finished()
                assert isinstance(finished, TrialUnit)  # noqa: S101 - nothing else was submitted
                self._finish(finished, result)

    def _with_weights(self, sampler: Sampler) -> Sampler:
        """Return a sampler that knows where weights are kept, where its candidates inherit them and they are kept."""
        if not self.estimator.keeps_weights:
            return sampler
        folder = self.folder.trained.absolute()  # workers may be elsewhere
        inheriting = sampler if growth_of(self.bench.space) is None else sampler.inheriting(folder)
        self._keeps = inheriting is not sampler or self.plan.finalists.start == KEPT
        if inheriting is not sampler and self.plan.finalists.confirm:
            raise InputError(
                "finalists.confirm: further trainings begin from random weights, trials from inherited ones; leave it "
                "out, or set strategy.inherit = false"
            )
        if self._keeps:
            if self.plan.store is not None:
                raise InputError(
                    "store: weights that are kept are this run's own; leave it out, or set strategy.inherit = false "
                    'and finalists.start = "scratch"'
                )
            self.estimator = self.estimator.keeping(folder)
        return inheriting

    def _next_units(self, sampler: Sampler, executor: Executor[Bench, Any], first: int) -> list[TrialUnit]:
        """Return as many new trials as there is room for; none while a measured cost has to wait for the others."""
        units: list[TrialUnit] = []
        if self.bench.needs_quiet and self.running:
            return units
        while executor.room > len(units) and not self.exhausted:
            index = self._next_index(first)
            if index is None:
                break
            unit = self._propose(sampler, index)
            if unit is None:
                continue
            self.running[unit.index] = unit
            architecture = setting_columns({"architecture": unit.proposal.candidate.architecture})
            self.progress.trial_started(unit.index, " ".join(f"{name}={value}" for name, value in architecture.items()))
            units.append(unit)
        return units

    def _learn(self) -> None:
        """Take what other coordinators found since."""
        for record in self.store.news():
            self._known.add(record)

    def _next_index(self, first: int) -> int | None:
        """Return the least index that nobody has worked on; None where the budget is spent, or at work elsewhere."""
        while True:
            self._learn()
            if not self._budget_left():
                return None
            index = first
            while index in self._known.counted or index in self.running or index in self.store.held:
                index += 1
            if self.store.claim(index):
                return index

    def _propose(self, sampler: Sampler, index: int) -> TrialUnit | None:
        """Return the candidate of an index, within the limits and costed; others are rejected on the way.

        None where there seems to be no candidate that wasn't proposed before, or somebody else has the index by now.
        """
        attempt = self._known.attempts[index]
        while True:
            proposal = self._new_proposal(sampler, index, attempt) if index else self._reference_proposal()
            if proposal is None:
                self.exhausted = True
                self.store.release(index)
                return None
            costs, reason, blamed = self._costed(proposal.candidate) if index else self._costing.of_reference()
            unit = self._unit(index, proposal, costs)
            if reason:
                self._reject(unit, reason, blamed)
                attempt += 1
            elif self.store.begin(self.bench.space, index, proposal, identity(proposal)):
                return unit
            else:
                self.store.drop(proposal.number)
                self._learn()
                if not self.store.holds(index):
                    return None

    def _reference_proposal(self) -> Proposal:
        return Proposal(self.bench.reference, self.bench.reference_start)

    def _new_proposal(self, sampler: Sampler, index: int, attempt: int) -> Proposal | None:
        """Return a proposal that was neither measured nor rejected, nor is being measured.

        A second training would be another draw of it, and a second rejection says nothing.

        The sampler is asked a few times, each with a seed of its own. What it always comes back to is known then, and
        what it doesn't may still be there: further candidates are drawn at random. None where those are known, too.
        """

        def is_known(proposal: Proposal) -> bool:
            training = identity(proposal)
            known = training in {self._trial_0, *self.store.under_way.values()} or training in self._known.measured
            return known or training in self.store.elsewhere or proposal.candidate.key in self._known.rejected

        for again in range(ASKED_AGAIN):
            seed = derive_seed(self.bench.seed, "sampler", index, attempt, *([again] if again else []))
            proposal = _asked(sampler, self.bench.space, self.store, seed)
            if not is_known(proposal):
                return proposal
            self.store.drop(proposal.number)
        generator = np.random.default_rng(derive_seed(self.bench.seed, "drawn", index, attempt))
        for _ in range(DRAWN):
            candidate = self.bench.space.random(generator)
            proposal = Proposal(candidate)
            if not is_known(proposal):
                return proposal
        return None

    def _say_if_exhausted(self) -> None:
        if self.exhausted:
            tried = len(self._known.counted)
            self.progress.message(
                f"the search ends after {tried} of {self.plan.budget.trials} trials: no other candidate "
                f"was found in {ASKED_AGAIN} proposals and {DRAWN} draws, and none is trained again"
            )
            logger.info("the space is exhausted after %d trials", tried)

    def _unit(self, index: int, proposal: Proposal, costs: dict[str, float]) -> TrialUnit:
        history = tuple(self.store.records) if self.estimator.reads_history else ()
        if self._keeps:
            proposal = replace(proposal, keep=weights_of_trial(self.folder.trained, index, proposal.candidate))
        return TrialUnit(index, proposal, costs, self.estimator, history, time.time())

    def _costed(self, candidate: Candidate) -> Costed:
        known = self._known.rejected.get(candidate.key)
        return self._costing.of(candidate) if known is None else Costed(dict(known.costs), known.reason, known.blamed)

    def _reject(self, unit: TrialUnit, reason: str, blamed: str) -> None:
        record = unit.record("rejected", reason=reason, blamed=blamed, feasible=False)
        self._known.add(record)
        self.store.tell(self.bench.space, unit.proposal.number, record)
        rejected = self._known.attempts.total()
        self.progress.rejected(reason, rejected)
        if rejected >= self.plan.budget.max_rejected:
            self._give_up(rejected, reason)

    def _give_up(self, rejected: int, reason: str) -> None:
        blamed, times = most_blamed(self.store.records)
        budget = f"strategy.max_rejected = {self.plan.budget.max_rejected}"
        if not blamed:
            raise InputError(f"space: {times} of {rejected} candidates were rejected ({budget}), the last: {reason}")
        limit = next(entry for entry in self.plan.limits if entry.cost.column == blamed)
        raise InputError(
            f"limits.{blamed} = {limit.bound:g} rejected {times} of {rejected} candidates "
            f"({budget}): raise it or search smaller networks"
        )

    def _finish(self, unit: TrialUnit, result: Estimate | Failure) -> None:
        self.running.pop(unit.index)
        is_reference = unit.index == 0
        feasible = all(limit.excess(unit.costs) <= 0 for limit in self.plan.limits)
        reason = result.reason if isinstance(result, Failure) else self._undefined(result, unit.costs)
        if isinstance(result, Failure) or reason:
            record = unit.record("failed", reason=reason, is_seed=is_reference, feasible=feasible)
        else:
            record = unit.record(
                "measured",
                metrics=result.scores,
                train_seconds=result.train_seconds,
                train_losses=list(result.train_losses),
                curve=list(result.curve),
                is_seed=is_reference,
                feasible=feasible,
            )
        if not self.store.tell(self.bench.space, unit.proposal.number, record):
            self.progress.trial_finished(unit.index, "failed", None, "others have it: this one was taken for dead")
            logger.info("trial %d was given to others meanwhile", unit.index)
            return
        self._known.add(record)
        self.store.set_search_seconds(self._seconds())
        measured = record.outcome == "measured"
        values = {axis.column: record.measurement.value(axis) for axis in self.plan.axes} if measured else None
        self.progress.trial_finished(unit.index, record.outcome, values, record.reason)
        self.progress.front(self._front_rows())
        logger.info("trial %d %s %s %s", unit.index, record.outcome, values or "", record.reason)

    def _undefined(self, result: Estimate, costs: dict[str, float]) -> str:
        """Return which of the axes has no finite value, empty where all have one; other scores may be NaN."""
        values = {**result.scores, **costs}
        bad = [column for column in columns_of(self.plan.axes) if not np.isfinite(values.get(column, np.nan))]
        return f"the metrics {', '.join(bad)} are not finite" if bad else ""

    def _on_event(self, unit: Unit[Any, Any], event: Event) -> bool:
        assert isinstance(unit, TrialUnit)  # noqa: S101 - nothing else was submitted
        self.progress.epoch(unit.index, event)
        return True

    # State that follows from the records

    def _seconds(self) -> float:
        if self.solutions and self.seconds_before and not self.stages.worked:
            return self.seconds_before  # everything was made before, and looked up
        return self.seconds_before + (self.stopped or time.monotonic()) - self.started

    def stop_clock(self) -> None:
        """End the search's wall-clock time: what follows is not the search."""
        self.stopped = time.monotonic()

    def _hours_spent(self) -> bool:
        hours = self.plan.budget.hours
        return hours is not None and self._seconds() >= hours * 3600

    def _budget_left(self) -> bool:
        at_work = {*self.running, *self.store.held} - self._known.counted
        return not self._hours_spent() and len(self._known.counted) + len(at_work) < self.plan.budget.trials

    def _front_rows(self) -> list[dict[str, Value]]:
        columns = columns_of(self.plan.axes)
        rows: list[dict[str, Value]] = []
        for record in self._known.front:
            found = {**record.metrics, **record.costs}
            values: dict[str, Value] = {name: found[name] for name in columns}
            rows.append(values | setting_columns(record.config))
        return rows
