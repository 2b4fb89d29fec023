"""The contracts of samplers and solvers, over every one that there is and over broken ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from qanas.core.candidate import Candidate
from qanas.core.seeds import derive_seed
from qanas.search_space.start import Proposal
from qanas.search_strategy.base import History, Sampler, Solution, Solver
from qanas.search_strategy.evolution import Evolution
from qanas.search_strategy.gradient import GradientSearch
from qanas.search_strategy.growing import HillClimbing, Lemonade
from qanas.search_strategy.morphism_bo import MorphismBO
from qanas.search_strategy.reinforce import Reinforce
from qanas.search_strategy.samplers import GP, NSGA2, TPE, RandomSearch
from qanas.search_strategy.size_aware import SizeAware
from qanas.search_strategy.solvers import DNATraversal, ExactSearch
from qanas.testing import check_sampler, check_solver
from qanas.testing.properties import random_candidate
from qanas.testing.strategies import PlainScores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.core.measures import Limit, Measure
    from qanas.search_space.space import SearchSpace


class OwnSampler(Sampler):
    """A sampler that is none of Optuna's, as a user writes one."""

    def ask(self, space: SearchSpace, history: History, seed: int) -> Proposal:
        return Proposal(random_candidate(space, seed + len(history.records)))


SAMPLERS = [
    RandomSearch(),
    TPE(startup_trials=2),
    NSGA2(population_size=3),
    Evolution(population_size=3, tournament_size=2),
    Reinforce(),
    HillClimbing(neighbours=3, morphisms=2),
    Lemonade(drawn=3),
    MorphismBO(startup_trials=3, pool=6),
    SizeAware(startup_trials=3),
    pytest.param(GP(startup_trials=3), marks=pytest.mark.slow),  # fitting its processes anew takes a minute
    OwnSampler(),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_a_sampler_keeps_the_contract(sampler: Sampler) -> None:
    check_sampler(sampler)


class Remembering(OwnSampler):
    """Counts what it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, space: SearchSpace, history: History, seed: int) -> Proposal:
        self.asked += 1
        return Proposal(random_candidate(space, self.asked))


class AnyOrder(OwnSampler):
    """Follows how many trials Optuna knows of, those under way included."""

    def ask(self, space: SearchSpace, history: History, seed: int) -> Proposal:
        known = len(history.study.trials)  # type: ignore[attr-defined]
        history.study.ask()  # type: ignore[attr-defined]
        return Proposal(random_candidate(space, derive_seed(seed, known)))


class Freeing(OwnSampler):
    """Searches what is frozen."""

    def ask(self, space: SearchSpace, history: History, seed: int) -> Proposal:
        return super().ask(replace(space, free=frozenset(("architecture", "training", "quantization"))), history, seed)


class Dropping(OwnSampler):
    """Leaves a setting out."""

    def ask(self, space: SearchSpace, history: History, seed: int) -> Proposal:
        found = super().ask(space, history, seed).candidate
        return Proposal(Candidate(dict(list(found.architecture.items())[1:]), found.training, found.quantization))


class Greedy(OwnSampler):
    """Wants estimates that nobody pays for."""

    def estimates(self, trials: int) -> int:
        return -1


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        (Remembering(), "whatever it was asked in between: one setting: proposal"),
        (AnyOrder(), "goes on as one that wasn't interrupted: conditional: proposal"),
        (Freeing(), "Groups that are not searched stay at the reference's values: training is searched:"),
        (Dropping(), "one setting: proposal 1: width is missing"),
        (Greedy(), "of 10 trials -1"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Sampler) else "",
)
def test_a_broken_sampler_is_caught(sampler: Sampler, told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_sampler(sampler)
    assert told in str(caught.value)


# Solvers


def test_the_exact_search_keeps_the_contract() -> None:
    check_solver(ExactSearch(), exact=True)


def test_the_traversal_keeps_the_contract_and_is_not_exact() -> None:
    traversal = DNATraversal(budgets=(0.0, 3.0, 8.0, 12.0, 100.0))
    check_solver(traversal)
    with pytest.raises(AssertionError, match="An exact front is that of all networks, bit for bit"):
        check_solver(traversal, exact=True)


def test_the_search_by_gradient_keeps_the_contract() -> None:
    check_solver(GradientSearch(alphas=(0.0, 0.1, 1.0)))


@dataclass(frozen=True)
class Faulty(Solver):
    """The exact search, with one fault."""

    fault: str
    needs = ExactSearch.needs

    def front(self, offered: PlainScores, objectives: Sequence[Measure], limits: Sequence[Limit]) -> list[Solution]:
        if self.fault == "limits":
            limits = ()
        found = ExactSearch().front(offered, objectives, limits)
        if self.fault == "sums":
            return [replace(each, scores={name: value / 2 for name, value in each.scores.items()}) for each in found]
        if self.fault == "order":
            return found[::-1]
        if self.fault == "dominated":
            rows = max(range(len(offered.tables[0].numbers)), key=lambda row: offered.tables[0].scores[row])
            worst = [rows, *(int(table.costs["weight_bytes"].argmax()) for table in offered.tables[1:])]
            worse = Solution(offered.candidate(worst), offered.scores(worst), offered.costs(worst), {})
            return sorted([*found, worse], key=lambda each: (each.scores["nsr_sum"], each.costs["weight_bytes"]))
        if self.fault == "short":
            return found[:1]
        return found


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("sums", "Scores and costs are the sums of the rows"),
        ("order", "they are sorted by the objectives: the front is"),
        ("dominated", "No network of a front dominates another"),
        ("limits", "Every network is within the limits"),
        ("short", "An exact front is that of all networks"),
    ],
)
def test_a_broken_solver_is_caught(fault: str, told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_solver(Faulty(fault), exact=True)
    assert told in str(caught.value)
