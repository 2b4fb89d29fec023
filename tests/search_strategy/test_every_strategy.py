"""One contract for all strategies: what the search relies on, whatever the space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import tests.cli.unsynced  # noqa: F401 - for its effect

from qanas.core.candidate import Candidate
from qanas.core.measures import Cost, Limit, Score
from qanas.core.seeds import derive_seed
from qanas.core.trials import Outcome, TrialRecord
from qanas.networks.lstm import LSTMSpace
from qanas.search_space.network_space import TaskShape
from qanas.search_space.settings import Float, Integer, Setting
from qanas.search_space.space import SearchSpace, space_of
from qanas.search_space.start import Proposal
from qanas.search_strategy.base import SamplingStrategy
from qanas.search_strategy.samplers import GP, NSGA2, TPE, RandomSearch
from qanas.testing.strategies import SMALL_SPACES
from qanas.workflows.trial_store import TrialStore

STRATEGIES = [
    RandomSearch(),
    TPE(startup_trials=3),
    NSGA2(population_size=4),
    # Fitting its processes anew for every proposal takes minutes over all spaces.
    pytest.param(GP(startup_trials=3), marks=pytest.mark.slow),
]
OBJECTIVES = (Score("error"), Cost("macs"))
LIMITS = (Limit(Cost("macs"), 12.0),)

SPACES: dict[str, Sequence[Setting]] = {
    **SMALL_SPACES,
    "lstm": LSTMSpace(max_units=9, seed_units=100).settings(TaskShape((5, 3), 1, 1.0, ("mae", "mse"))),
}

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=["random", "tpe", "nsga2", "gp"])
every_space = pytest.mark.parametrize("settings", SPACES.values(), ids=SPACES)


def measured(index: int, candidate: Candidate) -> TrialRecord:
    """Score a candidate by its settings alone."""
    values = [value for group in candidate.config.values() for value in group.values()]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    size = sum(numbers)
    over = size > LIMITS[0].bound
    metrics = {} if over else {"error": 1.0 / (1.0 + size)}
    outcome: Outcome = "rejected" if over else "measured"
    return TrialRecord(index, outcome, candidate.config, {"macs": size}, metrics, blamed="macs" if over else "")


class Search:
    """A search as the workflow does it, without training."""

    def __init__(self, path: Path, space: SearchSpace, strategy: SamplingStrategy, seed: int = 0) -> None:
        self.store = TrialStore(path, OBJECTIVES, LIMITS)
        self.space = space
        self.strategy = strategy
        self.seed = seed

    def propose(self, trials: int) -> list[Candidate]:
        """Go on until there are that many trials, rejected ones included; return all candidates so far."""
        if not self.store.records:
            record = TrialRecord(
                0, "measured", self.space.reference.config, {"macs": 6.0}, {"error": 0.5}, is_seed=True
            )
            self.store.tell(self.space, None, record)
        for index in range(len(self.store.records), trials):
            self.tell(index, self.ask(derive_seed(self.seed, "sampler", index)))
        return [record.candidate for record in self.store.records]

    def ask(self, seed: int) -> Proposal:
        return self.strategy.ask(self.space, self.store, seed)

    def tell(self, index: int, proposal: Proposal) -> None:
        self.store.tell(self.space, proposal.number, measured(index, proposal.candidate))


def within(space: SearchSpace, candidate: Candidate) -> bool:
    """Tell whether a candidate has exactly the settings that its conditions ask for, within their ranges."""
    values = {name: value for group in candidate.config.values() for name, value in group.items()}
    seen: dict[str, bool | int | float | str] = {}
    for setting in space.settings:
        if setting.exists(seen) != (setting.name in values):
            return False
        if setting.exists(seen):
            distribution = setting.distribution
            value = seen[setting.name] = values[setting.name]
            if setting.group in space.free and not distribution._contains(distribution.to_internal_repr(value)):
                return False
    return True


@every_strategy
@every_space
def test_settings_stay_in_range_and_conditions_hold(
    tmp_path: Path, strategy: SamplingStrategy, settings: Sequence[Setting]
) -> None:
    space = space_of(settings, ["architecture", "training", "quantization"], strategy.encoding)
    candidates = Search(tmp_path / "study.db", space, strategy).propose(9)
    assert all(within(space, candidate) for candidate in candidates[1:])


@every_strategy
@every_space
def test_a_resumed_study_gives_the_same_proposals(
    tmp_path: Path, strategy: SamplingStrategy, settings: Sequence[Setting]
) -> None:
    space = space_of(settings, ["architecture", "training", "quantization"], strategy.encoding)
    whole = Search(tmp_path / "whole.db", space, strategy).propose(9)
    for trials in (3, 4, 9):
        session = Search(tmp_path / "resumed.db", space, strategy)
        resumed = session.propose(trials)
        session.ask(99)  # under way when the process died
    assert resumed == whole


@every_strategy
def test_another_seed_gives_other_proposals(tmp_path: Path, strategy: SamplingStrategy) -> None:
    space = space_of(SPACES["every kind"], ["architecture", "training"])
    first, second = (Search(tmp_path / f"{seed}.db", space, strategy, seed).propose(10) for seed in (0, 1))
    assert first[1:] != second[1:]


@every_strategy
def test_proposals_of_one_study_differ(tmp_path: Path, strategy: SamplingStrategy) -> None:
    space = space_of(SPACES["every kind"], ["architecture", "training"])
    candidates = Search(tmp_path / "study.db", space, strategy).propose(14)
    assert len(set(candidates)) >= 12


@every_strategy
@every_space
def test_several_candidates_may_be_asked_for_before_any_is_told(
    tmp_path: Path, strategy: SamplingStrategy, settings: Sequence[Setting]
) -> None:
    space = space_of(settings, ["architecture", "training", "quantization"], strategy.encoding)
    search = Search(tmp_path / "study.db", space, strategy)
    search.propose(5)
    asked = [search.ask(derive_seed(7, index)) for index in range(4)]
    for index, proposal in reversed(list(enumerate(asked, start=5))):
        assert within(space, proposal.candidate)
        search.tell(index, proposal)
    assert len(search.store.records) == 9


@every_strategy
def test_groups_that_are_not_free_stay_at_the_seeds_values(tmp_path: Path, strategy: SamplingStrategy) -> None:
    space = space_of(SPACES["every kind"], ["training"])
    candidates = Search(tmp_path / "study.db", space, strategy).propose(10)
    assert {tuple(candidate.architecture.items()) for candidate in candidates} == {(("kind", "b"), ("width", 3))}
    assert len({candidate.training["rate"] for candidate in candidates}) > 3


def test_a_strategy_that_learns_turns_away_from_what_the_limits_reject(tmp_path: Path) -> None:
    space = space_of([Integer("width", "architecture", 3, low=1, high=60)], ["architecture"])

    def rejected(strategy: SamplingStrategy, name: str) -> int:
        widths = [int(c.architecture["width"]) for c in Search(tmp_path / name, space, strategy).propose(40)]
        return sum(width > LIMITS[0].bound for width in widths)

    assert rejected(TPE(), "tpe.db") < 0.75 * rejected(RandomSearch(), "random.db")


def test_a_strategy_that_learns_beats_chance(tmp_path: Path) -> None:
    space = space_of([Float("rate", "training", 0.5, low=0.0, high=1.0), *SPACES["one setting"]], ["training"])

    def best(strategy: SamplingStrategy) -> float:
        store = TrialStore(tmp_path / f"{type(strategy).__name__}.db", (Score("error"),), ())
        errors = []
        for index in range(40):
            proposal = strategy.ask(space, store, derive_seed(0, index))
            errors.append((float(proposal.candidate.training["rate"]) - 0.37) ** 2)
            record = TrialRecord(index, "measured", proposal.candidate.config, {}, {"error": errors[-1]})
            store.tell(space, proposal.number, record)
        return sum(errors[20:])

    assert best(TPE()) < best(RandomSearch())


def test_a_gaussian_process_proposes_what_the_conditions_allow(tmp_path: Path) -> None:
    strategy = GP(startup_trials=2)
    space = space_of(SPACES["conditional"], ["architecture", "training"], strategy.encoding)
    candidates = Search(tmp_path / "study.db", space, strategy).propose(4)
    assert all(within(space, candidate) for candidate in candidates)
