"""Rules that end trainings early."""

from __future__ import annotations

import numpy as np
import pytest

from qanas.performance_estimation.stopping import Course, FrontChance, SizeAwareHalving, extrapolated


def test_halving_compares_with_networks_of_about_the_size_or_smaller() -> None:
    large = [Course(1000.0, {3: 1.0 + number / 10}) for number in range(10)]
    small = Course(100.0, {3: 5.0})
    assert SizeAwareHalving().goes_on(small, large, 30)  # all others are larger
    assert not SizeAwareHalving(larger=20.0).goes_on(small, large, 30)
    alike = [Course(120.0, {3: 1.0 + number / 10}) for number in range(10)]
    assert not SizeAwareHalving().goes_on(small, alike, 30)
    assert SizeAwareHalving().goes_on(Course(100.0, {3: 1.05}), alike, 30)
    # Of 10 others and itself ceil(0.3 * 11) = 4 go on.
    assert [SizeAwareHalving().goes_on(Course(100.0, {3: 1.25 + d}), alike, 30) for d in (0.0, 0.1)] == [True, False]


def test_a_rung_beyond_the_end_is_none() -> None:
    assert SizeAwareHalving((3, 10, 30)).looks(10) == [3]


@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_a_falling_curve_is_extrapolated(rate: float) -> None:
    epochs = np.arange(1.0, 31.0)
    losses = 8.0 + 6.0 * epochs**-rate + np.random.default_rng(0).normal(0, 0.02, 30)
    mean, sd = extrapolated(epochs[:10], losses[:10], 30)
    assert abs(mean - losses[-1]) < 4 * sd
    assert abs(mean - losses[-1]) < abs(losses[9] - losses[-1])


def test_what_is_far_from_the_front_is_stopped() -> None:
    others = [Course(50.0, {}, last) for last in (8.0, 9.0, 10.0)]
    epochs = range(1, 9)
    bad = Course(60.0, {epoch: 20.0 + 4.0 / epoch for epoch in epochs})
    good = Course(60.0, {epoch: 7.5 + 4.0 / epoch for epoch in epochs})
    rule = FrontChance()
    assert not rule.goes_on(bad, others, 30)
    assert rule.goes_on(good, others, 30)
    assert rule.goes_on(Course(40.0, bad.losses), others, 30)  # none of its size has ended
