"""Advice from what a pilot measured."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from qanas.planning.advice import Pilot, advise, candidates_of, noise_of
from qanas.regression.ranking import best_by_chance, bootstrap_interval, kendall_tau
from qanas.search_space.settings import Choice, Float, Integer
from qanas.search_space.space import SearchSpace, space_of

LOSSES = np.linspace(5.0, 15.0, 20)
GOOD = LOSSES + np.tile([0.3, -0.3], 10)
BAD = np.roll(LOSSES, 7)


@pytest.fixture
def space() -> SearchSpace:
    return space_of([Integer("units", "architecture", 4, low=1, high=100), Float("rate", "training", 0.1, low=0.01, high=1.0)], ("architecture", "training"))  # fmt: skip  # noqa: E501


@pytest.fixture
def pilot() -> Pilot:
    return Pilot(
        LOSSES,
        [(5.0, 5.2), (6.0, 5.8)],
        [(8.0, 12.0), (9.0, 7.0), (6.0, 9.0)],
        {"early": GOOD, "proxy": BAD},
        {"early": 0.1, "proxy": 0.001},
        3.0,
    )


def test_noise_is_pooled_over_candidates() -> None:
    assert noise_of([(1.0, 3.0), (5.0, 5.0, 5.0)]) == pytest.approx(math.sqrt(2 / 3))
    assert math.isnan(noise_of([(1.0,)]))


def test_the_cheapest_that_ranks_well_is_recommended(pilot: Pilot, space: SearchSpace) -> None:
    found = advise(pilot, space, 100, has_cost=True)
    assert found.estimator == "early"
    assert found.strategy == "size_aware"
    assert found.search_training is True
    assert found.figures["tau"]["early"]["tau"] > 0.85
    assert advise(replace(pilot, estimates={"proxy": BAD}), space, 100, has_cost=True).estimator == "training"
    assert advise(pilot, space, 100, has_cost=False).strategy == "tpe"


def test_training_settings_that_differ_by_noise_alone_are_left_out(pilot: Pilot, space: SearchSpace) -> None:
    found = advise(replace(pilot, own_and_reference=[(8.0, 8.1), (9.0, 8.9)]), space, 100, has_cost=True)
    assert found.search_training is False
    assert advise(replace(pilot, own_and_reference=[]), space, 100, has_cost=True).search_training is None


def test_repetitions_may_be_equal_or_lack(pilot: Pilot, space: SearchSpace) -> None:
    equal = replace(pilot, repeated=[(5.0, 5.0), (6.0, 6.0)])
    assert advise(equal, space, 100, has_cost=True).search_training is True
    same = advise(replace(equal, own_and_reference=[(8.0, 8.0)]), space, 100, has_cost=True)
    assert same.search_training is False
    assert any("0.0 times what repetitions do" in line for line in same.reasons)
    alone = advise(replace(pilot, repeated=[(5.0,)]), space, 100, has_cost=True)
    assert alone.search_training is None


def test_random_search_is_enough_for_small_spaces_and_where_all_is_noise(pilot: Pilot, space: SearchSpace) -> None:
    small = space_of([Choice("kernel", "architecture", 3, options=(3, 5, 7))], ("architecture",))
    assert candidates_of(small) == 3
    assert candidates_of(space) == math.inf
    assert advise(pilot, small, 100, has_cost=True).strategy == "random"
    assert advise(replace(pilot, repeated=[(5.0, 15.0)]), space, 100, has_cost=True).strategy == "random"


def test_the_interval_of_a_tau_holds_as_often_as_it_says() -> None:
    """Of 20 networks whose scores and losses are correlated by .7: tau is 2 / pi * asin(.7)."""
    generator, true = np.random.default_rng(0), 2 / np.pi * np.arcsin(0.7)
    held = 0
    for _ in range(200):
        one = generator.normal(size=20)
        low, high = bootstrap_interval(one, 0.7 * one + np.sqrt(1 - 0.7**2) * generator.normal(size=20), draws=200)
        held += low <= true <= high
    assert 0.91 <= held / 200 <= 0.99


def test_the_interval_of_a_tau_is_no_narrower_for_what_is_told_twice() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(2, 12))
    alone = bootstrap_interval(one, other)
    twice = bootstrap_interval(np.tile(one, 2), np.tile(other, 2), groups=np.tile(np.arange(12), 2))
    assert twice == pytest.approx(alone)


def test_the_best_of_many_that_know_nothing_is_seldom_better_than_its_bar() -> None:
    generator = np.random.default_rng(0)
    passed = 0
    for number in range(100):
        truth = generator.normal(size=16)
        estimates = [generator.normal(size=16) for _ in range(12)]
        bar = best_by_chance(estimates, truth, draws=100, seed=number)
        passed += max(kendall_tau(own, truth) for own in estimates) > bar
    assert passed <= 10


def test_an_estimator_that_is_good_by_luck_among_many_is_not_recommended(space: SearchSpace) -> None:
    """Of twelve that know nothing of eight candidates one has a tau whose own interval is above 0."""
    generator = np.random.default_rng(16)
    losses = np.arange(8.0)
    estimates = {f"proxy {number}": generator.normal(size=8) for number in range(12)}
    pilot = Pilot(losses, [(0.0, 3.0)], [], estimates, dict.fromkeys(estimates, 0.01), 1.0)
    found = advise(pilot, space, 100, has_cost=False)
    best = max(found.figures["tau"].values(), key=lambda own: own["tau"])
    assert best["interval"][0] > 0
    assert 0.8 * found.figures["ceiling"] < best["tau"] < found.figures["best_by_chance"]
    assert found.estimator == "training"
