import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanas.core.errors import InputError, nearest, unknown
from qanas.core.measures import Cost, Limit, Measurement, Metric
from qanas.core.seeds import derive_seed

purposes = st.lists(st.one_of(st.integers(0, 10**6), st.sampled_from(["sampler", "training", "finalist"])), max_size=3)


@given(st.integers(-(2**40), 2**40), purposes)
def test_seed_is_one_that_every_generator_takes(run_seed: int, purpose: list[int | str]) -> None:
    seed = derive_seed(run_seed, *purpose)
    assert 0 <= seed < 2**31
    assert seed == derive_seed(run_seed, *purpose)


def test_seed_stays_what_it_was_when_studies_were_recorded() -> None:
    # A resumed study must go on as it began, on any machine and in any later version.
    digest = hashlib.sha256(b"7/sampler/3").hexdigest()
    assert derive_seed(7, "sampler", 3) == int(digest[:8], 16) // 2


def test_seeds_of_different_runs_and_purposes_differ() -> None:
    seeds = [derive_seed(run, kind, index) for run in range(10) for kind in ("a", "b") for index in range(100)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("turbofann", ["turbofan", "lanes"], "turbofan"),
        ("epochs", ["epochs", "epoch"], "epochs"),
        ("xyz", ["turbofan"], None),
        ("a", [], None),
    ],
)
def test_nearest_is_the_name_that_was_meant(name: str, known: list[str], expected: str | None) -> None:
    assert nearest(name, known) == expected


def test_an_unknown_name_is_answered_with_all_known_ones() -> None:
    assert unknown("task", "zzz", iter(["b", "a"])) == "unknown task 'zzz': Known: a, b"


def test_input_errors_are_on_one_line() -> None:
    assert str(InputError("first\n  second\tthird ")) == "first second third"


def test_objectives_make_smaller_better() -> None:
    assert Metric("mae").loss(3.0) == 3.0
    assert Metric("accuracy", "float", "maximize").loss(3.0) == -3.0


@pytest.mark.parametrize(("cost", "expected"), [(150.0, 0.5), (100.0, 0.0), (50.0, -0.5)])
def test_excess_over_a_limit_is_relative_to_it(cost: float, expected: float) -> None:
    assert Limit(Cost("weight_bytes"), 100.0).excess({"weight_bytes": cost}) == expected


def test_a_limit_of_zero_has_an_excess() -> None:
    assert Limit(Cost("weight_bytes"), 0.0).excess({"weight_bytes": 3.0}) == 3.0


def test_an_objective_is_a_metric_or_a_cost_and_never_silently_absent() -> None:
    measurement = Measurement({"mae_quantized": 8.5}, {"weight_bytes": 880.0})
    assert measurement.value(Metric("mae")) == 8.5
    assert measurement.value(Cost("weight_bytes")) == 880.0
    with pytest.raises(KeyError, match="file_bytes"):
        measurement.value(Cost("file_bytes"))
