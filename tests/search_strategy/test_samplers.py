"""What the samplers that ship do beyond their contract: they meet a real space, draw by their seed, and learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import tests.cli.unsynced  # noqa: F401 - for its effect

from qanas.core.measures import Score
from qanas.core.seeds import derive_seed
from qanas.core.trials import TrialRecord
from qanas.networks.lstm import LSTMSpace
from qanas.search_space.network_space import TaskShape
from qanas.search_space.settings import Float, Integer
from qanas.search_space.space import space_of
from qanas.search_strategy.base import SamplingStrategy
from qanas.search_strategy.samplers import GP, NSGA2, TPE, RandomSearch
from qanas.testing import check_sampler
from qanas.testing.properties import outside
from qanas.testing.strategies import LIMIT, SMALL_SPACES, PlainSearch
from qanas.workflows.trial_store import TrialStore

STRATEGIES = [
    RandomSearch(),
    TPE(startup_trials=3),
    NSGA2(population_size=4),
    # Fitting its processes anew for every proposal takes minutes over all spaces.
    pytest.param(GP(startup_trials=3), marks=pytest.mark.slow),
]
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=["random", "tpe", "nsga2", "gp"])


@pytest.mark.parametrize(
    "strategy",
    [TPE(startup_trials=3), *(pytest.param(other, marks=pytest.mark.slow) for other in (RandomSearch(), NSGA2(4)))],
    ids=["tpe", "random", "nsga2"],
)
def test_the_contract_holds_on_a_space_that_ships(strategy: SamplingStrategy) -> None:
    space = LSTMSpace(max_units=9, seed_units=100)
    check_sampler(strategy, {"lstm": space.settings(TaskShape((5, 3), 1, 1.0, ("mae", "mse")))})


@every_strategy
def test_another_seed_gives_another_proposal(strategy: SamplingStrategy) -> None:
    space = space_of(SMALL_SPACES["every kind"], ["architecture", "training"])
    search = PlainSearch(space, strategy)
    search.propose(5)
    asked = {search.sampler.ask(space, search.store, derive_seed(seed, "sampler", 5)).candidate for seed in range(4)}
    assert len(asked) > 1


@every_strategy
def test_proposals_of_one_study_differ(strategy: SamplingStrategy) -> None:
    space = space_of(SMALL_SPACES["every kind"], ["architecture", "training"])
    assert len(set(PlainSearch(space, strategy).propose(14))) >= 12


def test_a_strategy_that_learns_turns_away_from_what_the_limits_reject() -> None:
    space = space_of([Integer("width", "architecture", 3, low=1, high=60)], ["architecture"])

    def rejected(strategy: SamplingStrategy) -> int:
        widths = [int(candidate.architecture["width"]) for candidate in PlainSearch(space, strategy).propose(40)]
        return sum(width > LIMIT.bound for width in widths)

    assert rejected(TPE()) < 0.75 * rejected(RandomSearch())


def test_a_strategy_that_learns_beats_chance() -> None:
    space = space_of([Float("rate", "training", 0.5, low=0.0, high=1.0), *SMALL_SPACES["one setting"]], ["training"])

    def late_error(strategy: SamplingStrategy) -> float:
        store = TrialStore(None, (Score("error"),), ())
        errors = []
        for index in range(40):
            proposal = strategy.ask(space, store, derive_seed(0, index))
            errors.append((float(proposal.candidate.training["rate"]) - 0.37) ** 2)
            record = TrialRecord(index, "measured", proposal.candidate.config, {}, {"error": errors[-1]})
            store.tell(space, proposal.number, record)
        return sum(errors[20:])

    assert late_error(TPE()) < late_error(RandomSearch())


def test_a_resumed_study_on_disk_knows_its_past(tmp_path: Path) -> None:
    """What the contract tries in one space, in one where every setting has a condition or is a number of some kind."""
    for name in ("every kind", "conditional"):
        sampler = TPE(startup_trials=3)
        space = space_of(SMALL_SPACES[name], ["architecture", "training", "quantization"], sampler.encoding)
        whole = PlainSearch(space, sampler).propose(7)
        PlainSearch(space, sampler, tmp_path / f"{name}.db").propose(4)
        assert PlainSearch(space, sampler, tmp_path / f"{name}.db").propose(7) == whole


def test_a_gaussian_process_proposes_what_the_conditions_allow() -> None:
    strategy = GP(startup_trials=2)
    space = space_of(SMALL_SPACES["conditional"], ["architecture", "training"], strategy.encoding)
    assert not any(outside(space, candidate) for candidate in PlainSearch(space, strategy).propose(4))
