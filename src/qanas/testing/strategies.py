"""The contracts of samplers and solvers."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import optuna
import torch

from qanas.core.candidate import SEARCHED_BY_DEFAULT, Candidate, Group, Value
from qanas.core.errors import InputError
from qanas.core.measures import Cost, Limit, Measure, Score
from qanas.core.pareto import Points
from qanas.core.seeds import derive_seed
from qanas.core.trials import Outcome, TrialRecord
from qanas.search_space.additive import AdditiveScores, AdditiveTable
from qanas.search_space.gates import Choice as Chosen
from qanas.search_space.gates import GatedNetworks, GateLoss, GateSettings, LearntGates, OptionCosts, Places
from qanas.search_space.settings import AtLeast, Choice, Float, Integer, OneOf, Setting
from qanas.search_space.space import Encoding, SearchSpace, space_of
from qanas.search_strategy.base import FrontSolver, Sampler, Solution, Solver
from qanas.testing.properties import difference, expect, hold, outside, refusal, through_pickle
from qanas.workflows.trial_store import TrialStore

SCORE, COST = Score("nsr_sum"), Cost("weight_bytes")
AXES: tuple[Measure, ...] = (SCORE, COST)
LIMIT = Limit(COST, 12.0)

SMALL_SPACES: dict[str, Sequence[Setting]] = {
    "one setting": [Integer("width", "architecture", 3, low=1, high=9)],
    "one option": [
        Choice("bits", "quantization", 8, options=(8,)),
        Integer("width", "architecture", 3, low=1, high=1),
        Float("rate", "training", 0.1, low=0.1, high=0.1),
    ],
    "every kind": [
        Integer("width", "architecture", 3, low=1, high=9, log=True),
        Float("rate", "training", 0.01, low=1e-4, high=1.0, log=True),
        Float("share", "training", 0.5, low=0.0, high=1.0),
        Choice("kind", "architecture", "b", options=("a", "b", 3, True)),
    ],
    "a reference of another type": [
        Choice("ratio", "architecture", 6, options=(3.0, 6.0)),
        Integer("width", "architecture", 3, low=1, high=9),
    ],
    "conditional": [
        Integer("layers", "architecture", 2, low=1, high=3),
        Integer("units_2", "architecture", 3, low=1, high=9, condition=AtLeast("layers", 2)),
        Integer("units_3", "architecture", 3, low=1, high=9, condition=AtLeast("layers", 3)),
        Choice("kind", "architecture", "a", options=("a", "b")),
        Float("slope", "training", 0.5, low=0.0, high=1.0, condition=OneOf("kind", ("b",))),
    ],
}
"""Spaces that samplers have to cope with, by what they are called in messages."""


def judged(index: int, candidate: Candidate, weight: float = 1.0) -> TrialRecord:
    """Return a trial whose score and cost follow from the candidate's settings alone.

    Args:
        index: of the trial.
        candidate: that is judged.
        weight: of its size in the score; another one makes another past.
    """
    values = [value for group in candidate.config.values() for value in group.values()]
    size = sum(float(value) for value in values if isinstance(value, int | float))
    over = LIMIT.excess({COST.column: size}) > 0
    outcome: Outcome = "rejected" if over else "measured"
    scores = {} if over else {SCORE.column: 1.0 / (1.0 + weight * size)}
    return TrialRecord(
        index, outcome, candidate.config, {COST.column: size}, scores, blamed=COST.column if over else ""
    )


class PlainSearch:
    """A search as a run does it, without a training.

    Args:
        space: that is searched.
        sampler: proposes.
        path: of the study; None for one in memory.
        weight: see `judged`.
    """

    def __init__(self, space: SearchSpace, sampler: Sampler, path: Path | None = None, weight: float = 1.0) -> None:
        """Open the study."""
        self.space = space
        self.sampler = sampler.costed(lambda candidate: judged(0, candidate).costs)
        self.store = TrialStore(path, AXES, (LIMIT,))
        self.weight = weight

    def propose(self, trials: int) -> list[Candidate]:
        """Go on until there are that many trials, the reference included; return the candidates of all."""
        if not self.store.records:
            self.store.tell(self.space, None, judged(0, self.space.reference, self.weight))
        for index in range(len(self.store.records), trials):
            proposal = self.sampler.ask(self.space, self.store, derive_seed(0, "sampler", index))
            self.store.tell(self.space, proposal.number, judged(index, proposal.candidate, self.weight))
        return [record.candidate for record in self.store.records]


@dataclass(frozen=True)
class SamplerCase:
    """A sampler, and the spaces that it is tried on."""

    sampler: Sampler
    spaces: dict[str, Sequence[Setting]]
    trials: int

    def searches(self) -> list[tuple[str, SearchSpace]]:
        """Return every space as the sampler sees it, by name."""
        return [
            (name, space_of(settings, SEARCHED_BY_DEFAULT, self.sampler.encoding))
            for name, settings in self.spaces.items()
        ]


def check_sampler(sampler: Sampler, spaces: dict[str, Sequence[Setting]] | None = None, trials: int = 7) -> None:
    """Hold a sampler against its contract, see `qanas.search_strategy.base`.

    Args:
        sampler: that is checked; with few trials before its model is used.
        spaces: settings by a name for messages; by default some of every kind.
        trials: of each search that is tried.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells of every study
    try:
        hold(type(sampler).__name__, SamplerCase(sampler, spaces or SMALL_SPACES, trials), SAMPLER_PROPERTIES)
    finally:
        optuna.logging.set_verbosity(verbosity)


def a_budget_is_understood(case: SamplerCase) -> None:
    """The number of estimates it asks for follows from the budget, and how it sees conditions is known."""
    estimates = case.sampler.estimates(10)
    expect(isinstance(estimates, int) and estimates >= 0, f"of 10 trials {estimates!r}")
    expect(case.sampler.encoding in get_args(Encoding), f"encoding is {case.sampler.encoding!r}")
    case.sampler.check(AXES, (LIMIT,))


def proposals_are_in_the_space(case: SamplerCase) -> None:
    """Proposals have the settings that their conditions ask for, within their ranges."""
    for name, space in case.searches():
        for index, candidate in enumerate(PlainSearch(space, case.sampler).propose(case.trials)[1:], 1):
            seen = outside(space, candidate)
            expect(not seen, f"{name}: proposal {index}: {seen}")


def the_same_past_gives_the_same_proposal(case: SamplerCase) -> None:
    """The same space, history and seed give the same proposals, whatever it was asked in between."""
    for name, space in case.searches():
        first = PlainSearch(space, case.sampler).propose(case.trials)
        PlainSearch(space, case.sampler, weight=-0.01).propose(case.trials)  # another past, which it has to forget
        for again in (case.sampler, through_pickle(case.sampler)):
            _expect_same(first, PlainSearch(space, again).propose(case.trials), name)


def resumed_equals_uninterrupted(case: SamplerCase) -> None:
    """A study that is opened again, with a proposal that was under way, goes on as one that wasn't interrupted."""
    name, space = case.searches()[-1]
    whole = PlainSearch(space, case.sampler).propose(case.trials)
    with tempfile.TemporaryDirectory() as folder:
        for trials in (2, case.trials - 1, case.trials):
            session = PlainSearch(space, through_pickle(case.sampler), Path(folder) / "study.db")
            resumed = session.propose(trials)
            session.sampler.ask(space, session.store, derive_seed(9, trials))  # lost with its process
    _expect_same(whole, resumed, name)


def several_can_be_asked_for(case: SamplerCase) -> None:
    """Several candidates may be asked for before any is told, which may be in another order."""
    for name, space in case.searches():
        search = PlainSearch(space, case.sampler)
        count = len(search.propose(3))
        asked = [search.sampler.ask(space, search.store, derive_seed(7, number)) for number in range(3)]
        for index, proposal in reversed(list(enumerate(asked, count))):
            seen = outside(space, proposal.candidate)
            expect(not seen, f"{name}: {seen}")
            search.store.tell(space, proposal.number, judged(index, proposal.candidate))
        search.propose(count + 4)


def what_is_frozen_stays(case: SamplerCase) -> None:
    """Groups that are not searched stay at the reference's values."""
    settings = list(itertools.chain(*case.spaces.values()))
    groups: tuple[Group, ...] = ("training", "architecture")
    for group in groups:
        own = [s for s in {setting.name: setting for setting in settings}.values() if s.condition is None]
        if any(setting.group == group for setting in own):
            space = space_of(own, [group], case.sampler.encoding)
            for candidate in PlainSearch(space, case.sampler).propose(4):
                seen = outside(space, candidate) if candidate != space.reference else ""
                expect(not seen, f"{group} is searched: {seen}")


def _expect_same(first: Sequence[Candidate], second: Sequence[Candidate], name: str) -> None:
    pairs = zip(first, second, strict=True)
    place = next((number for number, (one, other) in enumerate(pairs) if one != other), None)
    if place is not None:
        raise AssertionError(f"{name}: proposal {place} is {first[place].config}, then {second[place].config}")


SAMPLER_PROPERTIES = (
    a_budget_is_understood,
    proposals_are_in_the_space,
    the_same_past_gives_the_same_proposal,
    resumed_equals_uninterrupted,
    several_can_be_asked_for,
    what_is_frozen_stays,
)
"""What a sampler owes."""


# Solvers


class PlainScores(AdditiveScores):
    """Random tables; many sums are equal.

    Args:
        seed: of the tables.
        rows: of each table.
        outside: bytes that are in no table.
    """

    def __init__(self, seed: int, rows: Sequence[int], outside: float = 3.0) -> None:
        """Draw the tables."""
        generator = np.random.default_rng(seed)
        self.axis = SCORE
        self.outside = {COST.column: outside}
        self.tables = [
            AdditiveTable(
                np.arange(count, dtype=np.intp),
                generator.choice([0.1, 0.2, 0.3, 0.7, 1e-9, 1.0], count),
                {COST.column: generator.integers(0, 6, count).astype(np.float64)},
            )
            for count in rows
        ]

    def candidate(self, rows: Sequence[int]) -> Candidate:
        """Return a candidate that names its rows."""
        chosen: dict[str, Value] = {f"row_of_{place}": int(row) for place, row in enumerate(rows, 1)}
        return Candidate(chosen)

    def rows_of(self, candidate: Candidate) -> list[int]:
        """Return the rows that a candidate names."""
        return [int(candidate.architecture[f"row_of_{place}"]) for place in range(1, len(self.tables) + 1)]

    def all(self) -> list[tuple[float, float]]:
        """Return score and cost of every network there is."""
        return [self.point(rows) for rows in itertools.product(*(range(len(table.numbers)) for table in self.tables))]

    def point(self, rows: Sequence[int]) -> tuple[float, float]:
        """Return a network's score and cost."""
        return self.scores(rows)[SCORE.column], self.costs(rows)[COST.column]


class PlainGates(GatedNetworks):
    """Networks that are a row of each of some tables, with gates that know scores and costs.

    Args:
        plain: the tables.
    """

    def __init__(self, plain: PlainScores) -> None:
        """Take the tables."""
        self.plain = plain
        names = tuple(tuple(f"row {row}" for row in table.numbers) for table in plain.tables)
        self.places = Places(names, tuple(range(len(names))), ((8,),) * len(names), tuple(range(len(names))))

    def option_costs(self, columns: Sequence[str]) -> dict[str, OptionCosts]:
        """Return the tables' costs."""
        found = {}
        for column in columns:
            costs = [table.costs[column] for table in self.plain.tables]
            options = tuple((tuple((own - own[0]).tolist()),) for own in costs)
            whole = self.plain.outside[column] + sum(float(own[0]) for own in costs)
            found[column] = OptionCosts(whole, ((0.0,),) * len(costs), options)
        return found

    def learnt(self, settings: GateSettings, losses: Sequence[GateLoss]) -> list[LearntGates]:
        """Return gates that hold for likely what has a good score and costs little."""
        del settings
        one = torch.zeros(1, dtype=torch.float64)
        return [
            LearntGates(
                loss,
                tuple(
                    -torch.from_numpy(table.scores + loss.alpha * sum(table.costs[name] for name in loss.columns))
                    for table in self.plain.tables
                ),
                (one,) * len(self.plain.tables),
            )
            for loss in losses
        ]

    def candidate(self, choice: Chosen) -> Candidate:
        """Return a candidate that names its rows."""
        return self.plain.candidate(choice.options)

    def costs(self, candidate: Candidate) -> dict[str, float]:
        """Return the sums of its rows' costs."""
        return self.plain.costs(self.plain.rows_of(candidate))

    def scores(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """Return the sums of the rows' scores of each."""
        return [self.plain.scores(self.plain.rows_of(candidate)) for candidate in candidates]

    def record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep nothing, but what can't be written as JSON is refused."""
        json.dumps(list(rows))

    def say(self, text: str) -> None:
        """Say nothing."""
        expect("\n" not in text, f"it is told in several lines: {text!r}")


@dataclass(frozen=True)
class SolverCase:
    """A solver, and what it is tried on."""

    solver: Solver
    exact: bool
    offers: tuple[PlainScores, ...] = tuple(
        PlainScores(seed, rows) for seed, rows in enumerate([(1,), (6,), (4, 5), (5, 3, 4), (3, 4, 3, 4)])
    )

    def solved(self, offered: PlainScores, limits: Sequence[Limit] = ()) -> list[Solution]:
        """Return the solver's front."""
        given = PlainGates(offered) if self.solver.needs is GatedNetworks else offered
        return self.solver.front(given, AXES, limits)


def check_solver(solver: Solver, exact: bool = False) -> None:
    """Hold a solver over additive tables, or gates, against its contract, see `qanas.search_strategy.base`.

    Args:
        solver: that is checked.
        exact: whether it says that its front is that of all networks: then it is held against brute force.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    if solver.needs not in (AdditiveScores, GatedNetworks):
        raise ValueError(f"{type(solver).__name__} needs {solver.needs}, which there is no plain one of to try it on")
    hold(type(solver).__name__, SolverCase(solver, exact), SOLVER_PROPERTIES)


def objectives_are_checked(case: SolverCase) -> None:
    """A score and a cost are accepted as objectives; a solver asks for no estimate."""
    case.solver.check(AXES, (LIMIT,))
    expect(case.solver.estimates(10) == 0, f"of 10 trials it asks for {case.solver.estimates(10)}")


def sums_are_those_of_the_rows(case: SolverCase) -> None:
    """Scores and costs are the sums of the rows that each network is made of."""
    for offered in case.offers:
        for found in case.solved(offered):
            rows = offered.rows_of(found.candidate)
            expect(found.scores == offered.scores(rows), f"rows {rows}: {found.scores}, not {offered.scores(rows)}")
            expect(found.costs == offered.costs(rows), f"rows {rows}: {found.costs}, not {offered.costs(rows)}")


def fronts_are_not_dominated(case: SolverCase) -> None:
    """No network of a front dominates another, and they are sorted by the objectives."""
    for offered in case.offers:
        points = _points(case.solved(offered))
        expect(points, "the front is empty")
        expect(points == sorted(set(points)), f"the front is {points}")
        worse = [one for one in points for other in points if _dominates(other, one)]
        expect(not worse, f"{worse[:1]} is dominated")


def limits_are_kept(case: SolverCase) -> None:
    """Every network is within the limits; where there is none, that is said in one line."""
    for offered in case.offers:
        bound = sorted(cost for _, cost in offered.all())[len(offered.all()) // 2]
        for score, cost in _points(case.solved(offered, [Limit(COST, bound)])):
            expect(cost <= bound, f"({score:g}, {cost:g}) is over the limit {bound:g}")
        refusal(InputError, lambda offered=offered: case.solved(offered, [Limit(COST, 0.5)]), "a limit below all")  # type: ignore[misc]  # mypy has no default for it


def solving_again_is_the_same(case: SolverCase) -> None:
    """The same tables give the same front, in pickled copies too."""
    copy = SolverCase(through_pickle(case.solver), case.exact)
    for offered in case.offers:
        first, second = ([found.candidate.key for found in each.solved(offered)] for each in (case, copy))
        seen = difference(first, second, "the front")
        expect(not seen, seen)


def exact_ones_equal_brute_force(case: SolverCase) -> None:
    """An exact front is that of all networks, bit for bit."""
    for offered in case.offers if case.exact else ():
        networks = offered.all()
        expected = sorted({one for one in networks if not any(_dominates(other, one) for other in networks)})
        found = _points(case.solved(offered))
        expect(
            found == expected, f"{len(found)} networks {found[:3]}..., of all it is {len(expected)} {expected[:3]}..."
        )


def bad_tables_are_refused(case: SolverCase) -> None:
    """Tables that can't be added up are refused in one line."""
    if not isinstance(case.solver, FrontSolver):
        return
    solve: Callable[[Sequence[Points]], Any] = case.solver.solve
    bad: dict[str, list[Points]] = {
        "no table": [],
        "an empty table": [np.zeros((1, 2)), np.zeros((0, 2))],
        "tables of unequal columns": [np.zeros((1, 2)), np.zeros((1, 3))],
        "NaN": [np.array([[np.nan, 1.0]])],
    }
    for name, tables in bad.items():
        refusal(InputError, lambda tables=tables: solve(tables), name)  # type: ignore[misc]  # mypy has no default for it


def _points(front: Sequence[Solution]) -> list[tuple[float, float]]:
    return [(found.scores[SCORE.column], found.costs[COST.column]) for found in front]


def _dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


SOLVER_PROPERTIES = (
    objectives_are_checked,
    sums_are_those_of_the_rows,
    fronts_are_not_dominated,
    limits_are_kept,
    solving_again_is_the_same,
    exact_ones_equal_brute_force,
    bad_tables_are_refused,
)
"""What a solver owes."""
