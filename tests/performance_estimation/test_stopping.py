"""Rules that end trainings early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tomli_w

from qanas.core.errors import InputError
from qanas.performance_estimation.stopping import Course, FrontChance, LearnedEnd, SizeAwareHalving, extrapolated
from qanas.recipe import load_plan
from qanas.regression.gaussian_process import ColumnGroup

if TYPE_CHECKING:
    from pathlib import Path


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


def crossing(setting: float, ended: bool = True) -> Course:
    """A training whose loss begins low where it ends high."""
    return Course(100.0, {1: 10.0 - setting}, 5.0 + 5.0 * setting if ended else None, settings=(setting,))


def test_where_curves_cross_the_end_is_learnt_from_settings() -> None:
    rule = LearnedEnd([ColumnGroup([0], 1)])
    others = [crossing(setting) for setting in np.random.default_rng(0).uniform(0.1, 1.0, 12).tolist()]
    best, worst = crossing(0.02, ended=False), crossing(0.9, ended=False)
    assert [rule.goes_on(course, others, 30) for course in (best, worst)] == [True, False]
    assert rule.goes_on(worst, others[:9], 30)  # too few have ended
    larger = [Course(200.0, each.losses, each.last, settings=each.settings) for each in others]
    assert rule.goes_on(worst, larger, 30)  # none of its size has ended
    assert rule.goes_on(worst, [Course(100.0, each.losses, each.last, True, each.settings) for each in others], 30)
    # Halving, which compares what is there now, has them the wrong way round.
    assert [SizeAwareHalving((1,)).goes_on(course, others, 30) for course in (best, worst)] == [False, True]


def test_ends_are_predicted_at_shares_of_the_epochs() -> None:
    rule = LearnedEnd([])
    assert rule.looks(30) == [1, 3, 6, 10, 15, 20]
    assert rule.looks(3) == [1, 2]
    assert rule.looks(1) == []


def test_one_training_that_failed_hides_no_difference() -> None:
    rule = LearnedEnd([ColumnGroup([0], 1)])
    others = [crossing(setting) for setting in np.random.default_rng(0).uniform(0.1, 1.0, 12).tolist()]
    burst = Course(100.0, {1: 1e9}, 1e9, settings=(0.5,))
    assert not rule.goes_on(crossing(0.9, ended=False), [*others, burst], 30)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"space": {"name": "lstm", "search": ["architecture", "training"]}},
            r"estimation\.method: 'sotl' compares training losses, to which \w+_1 of",
        ),
        ({"estimation": {"cache": "kept"}}, r"estimation\.cache: 'sotl' compares training losses, which kept weights"),
        ({"seed": {"weights": "seed.safetensors"}}, r"seed\.weights: estimation\.method = 'sotl' compares"),
    ],
)
def test_training_losses_that_cannot_be_compared_are_refused(
    tmp_path: Path, changes: dict[str, dict[str, Any]], told: str
) -> None:
    (tmp_path / "seed.safetensors").write_bytes(b"weights")
    tables: dict[str, dict[str, Any]] = {
        "task": {"name": "timeseries", "data": "synthetic"},
        "space": {"name": "lstm", "search": ["architecture"]},
        "strategy": {"name": "random", "trials": 2},
        "estimation": {"name": "learning_curve", "method": "sotl", "epochs": 3},
        "objectives": {"accuracy_quantized": "maximize", "weight_bytes": "minimize"},
    }
    for name, table in changes.items():
        tables[name] = {**tables.get(name, {}), **table}
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(tomli_w.dumps(tables), "utf-8")
    with pytest.raises(InputError, match=told):
        load_plan(recipe)
