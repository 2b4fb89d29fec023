"""Intervals over independent units: they hold the truth as often as they say, and samples of a unit stay together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from tests.workflows.tiny_blocks import Blobs

from qanas.regression.ranking import rank_correlation
from qanas.tasks import resampling
from qanas.tasks.resampling import (
    difference,
    drawn_units,
    interval_of,
    resampled_metrics,
    student_quantile,
    units_of,
)
from qanas.tasks.samples import FloatArray, Split
from qanas.tasks.segmentation.files import VOID
from qanas.tasks.segmentation.metrics import score, score_draws
from qanas.tasks.turbofan import Turbofan

Floats = NDArray[np.float64]


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 19, 99])
@pytest.mark.parametrize("probability", [0.9, 0.975, 0.995])
def test_quantiles_of_student(degrees: int, probability: float) -> None:
    assert student_quantile(probability, degrees) == pytest.approx(scipy.stats.t.ppf(probability, degrees), rel=0.01)


def normal(generator: np.random.Generator, units: int) -> Floats:
    return generator.normal(3.0, 1.0, units)


def skewed(generator: np.random.Generator, units: int) -> Floats:
    return generator.exponential(3.0, units)


def in_clusters(generator: np.random.Generator, units: int) -> Floats:
    """Means of many dependent samples a unit, as an engine's windows are: the unit's own level is what varies."""
    level = generator.normal(3.0, 1.0, units)
    return np.array([generator.normal(value, 0.3, 50).mean() for value in level])


def covered(draw: Callable[[np.random.Generator, int], Floats], units: int, cases: int) -> float:
    """Return the share of cases whose interval holds the mean that they were drawn around."""
    generator = np.random.default_rng(0)
    counts = np.stack([np.bincount(row, minlength=units) for row in drawn_units(units)]) / units
    return sum(interval_of(counts @ draw(generator, units), units).holds(3.0) for _ in range(cases)) / cases


@pytest.mark.parametrize("draw", [normal, skewed, in_clusters])
@pytest.mark.parametrize("units", [20, 100])
def test_an_interval_holds_the_truth_as_often_as_it_says(
    draw: Callable[[np.random.Generator, int], Floats], units: int
) -> None:
    assert 0.90 <= covered(draw, units, 200) <= 0.98


@pytest.mark.parametrize("units", [2, 3, 5, 8])
def test_an_interval_over_a_few_units_is_wide_enough(units: int) -> None:
    assert 0.92 <= covered(normal, units, 1000) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("draw", [normal, skewed, in_clusters])
@pytest.mark.parametrize("units", [10, 20, 50, 100, 500])
def test_an_interval_holds_the_truth_in_90_to_98_of_100_cases(
    draw: Callable[[np.random.Generator, int], Floats], units: int
) -> None:
    found = covered(draw, units, 4000)
    print(f"{draw.__name__}, {units} units: {found:.3f}")  # noqa: T201 - the figures that the documentation has
    assert 0.90 <= found <= 0.98


def test_pairs_tell_apart_what_single_intervals_do_not() -> None:
    generator = np.random.default_rng(1)
    level = generator.normal(10, 3, 30)
    one, other = level + generator.normal(0, 0.2, 30), level + 0.5 + generator.normal(0, 0.2, 30)
    chosen = drawn_units(30)
    first, second = one[chosen].mean(axis=1), other[chosen].mean(axis=1)
    assert interval_of(first, 30).holds(float(other.mean()))
    assert not difference(first, second, 30).holds(0.0)


def test_what_is_not_finite_is_left_out() -> None:
    values = np.array([1.0, 2.0, np.nan, 3.0, np.inf])
    assert interval_of(values, 20).high <= 3.0
    assert np.isnan(interval_of(np.array([np.nan]), 20).low)


class Grouped(Blobs):
    """Images of eight persons."""

    unit = "person"

    def units(self, split: Split) -> NDArray[Any]:
        return np.arange(len(split)) % 8


def _outputs(split: Split) -> FloatArray:
    return np.random.default_rng(2).normal(size=split.inputs.shape).astype(np.float32)


def test_samples_of_a_unit_are_drawn_together() -> None:
    task = Grouped()
    split = task.load().val
    outputs = _outputs(split)
    found = resampled_metrics(task, outputs, split)
    persons = np.arange(len(split)) % 8
    for place, draw in enumerate(drawn_units(8)[:20]):
        chosen = np.concatenate([np.flatnonzero(persons == person) for person in draw])
        expected = task.evaluate(outputs[chosen], Split(split.inputs[chosen], split.targets[chosen]))
        assert {name: values[place] for name, values in found.items()} == pytest.approx(expected)


def test_images_are_added_up_as_all_of_them_are_scored() -> None:
    generator = np.random.default_rng(4)
    outputs = generator.normal(size=(6, 3, 5, 4)).astype(np.float32)
    targets = generator.choice([0, 1, 2, VOID], (6, 5, 4)).astype(np.uint8)
    targets[0] = VOID
    unit_of, draws = np.array([3, 0, 1, 2, 0, 1]), np.array([[0, 1, 2, 3], [3, 3, 3, 3], [1, 1, 0, 3]])
    found = score_draws(outputs, targets, 3, unit_of, draws)
    assert found[1] is None
    for draw, scores in zip(draws[[0, 2]], [found[0], found[2]], strict=True):
        chosen = np.concatenate([np.flatnonzero(unit_of == unit) for unit in draw])
        expected = score(outputs[chosen], targets[chosen], 3)
        assert scores is not None
        assert (scores.confusion == expected.confusion).all()
        assert scores.cross_entropy == pytest.approx(expected.cross_entropy)


def test_units_of_turbofan_are_engines() -> None:
    engines = np.array([4, 4, 7])
    split = Split(np.zeros((3, 2, 1), np.float32), np.zeros((3, 1)), {"engine": engines})
    assert (Turbofan("synthetic").units(split) == engines).all()


class Reconstructed(Blobs):
    """A metric that looks at the inputs, and is not defined everywhere."""

    metrics: ClassVar[Mapping[str, Any]] = {"distance": "minimize", "shape": "minimize"}

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, Any]:
        chunks = np.concatenate(list(split.chunks(5)))
        assert (chunks == split.inputs).all()
        assert split.input_shape == chunks.shape[1:]
        assert len(split) == len(outputs) == len(split.targets)
        return {"distance": np.abs(outputs - split.inputs).max(), "shape": None}


def test_a_draw_has_its_inputs() -> None:
    task = Reconstructed()
    split = task.load().test
    found = resampled_metrics(task, split.inputs + 1, split, 3)
    assert found["distance"] == pytest.approx(np.ones(3))
    assert np.isnan(found["shape"]).all()
    by_name = {"a": split.inputs, "b": split.inputs}
    assert resampled_metrics(Several(), by_name, split, 3)["sum"] == pytest.approx(np.zeros(3))


class Several(Blobs):
    metrics: ClassVar[Mapping[str, Any]] = {"sum": "minimize"}

    def evaluate(self, outputs: Any, split: Split) -> dict[str, float]:  # noqa: ANN401 - arrays by name
        return {"sum": float((outputs["a"] - outputs["b"]).sum() + 0 * len(split))}


def test_a_slow_task_has_no_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "MOST_SECONDS", -1.0)
    task = Blobs()
    split = task.load().val
    assert resampled_metrics(task, _outputs(split), split) == {}


def test_one_unit_has_no_intervals_and_a_unit_a_sample_is_asked_for() -> None:
    task = Alone()
    split = task.load().val
    assert resampled_metrics(task, _outputs(split), split) == {}
    with pytest.raises(TypeError, match=r"^Wrong.units has shape \(2,\) for 24 samples; return a row each$"):
        units_of(Wrong(), split)


class Alone(Blobs):
    def units(self, split: Split) -> NDArray[Any]:
        return np.zeros(len(split), np.int64)


class Wrong(Blobs):
    def units(self, split: Split) -> NDArray[Any]:
        del split
        return np.zeros(2)


def test_rank_correlation_is_kendalls() -> None:
    generator = np.random.default_rng(5)
    one, other = generator.integers(0, 5, 12).astype(float), generator.normal(size=12)
    assert rank_correlation(one, other) == pytest.approx(scipy.stats.kendalltau(one, other).statistic)
    assert rank_correlation(one, np.ones(12)) is None
