"""How much of a score is chance: metrics over resampled units, and intervals over them.

What is independent of what decides: not windows, but the engines that they are cut from. Units are drawn with
replacement (Efron 1979), all samples of a unit at once; the same draws for every network, so that two can be compared
pair by pair.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.seeds import derive_seed
from qanas.tasks.base import Outputs, Task
from qanas.tasks.samples import FloatArray, Split

logger = logging.getLogger("qanas")

DRAWS = 400
"""How often units are drawn anew: the bounds of an interval are then 0.01 to 0.02 of its level off."""

LEVEL = 0.95

FEWEST_FOR_PERCENTILES = 10
"""Units: of five, what should be a 95 % interval of percentiles holds in 91 of 100 cases, of three in 74."""

MOST_SECONDS = 30.0
"""CPU time that the draws of a split may take: a task whose `evaluate` is slower has no intervals, see
`Task.evaluate_draws`."""

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]


@dataclass(frozen=True)
class Interval:
    """Where a score would lie on other units of the same kind.

    Attributes:
        low: lower bound.
        high: upper bound.
    """

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Tell whether a value lies within."""
        return self.low <= value <= self.high

    @property
    def known(self) -> bool:
        """Whether there is one: both bounds are numbers."""
        return math.isfinite(self.low) and math.isfinite(self.high)


class _Drawn(Split):
    """Some samples of a split, as often as they were drawn; inputs are there once somebody asks for them.

    Args:
        whole: that they are of.
        targets: of the whole split, shape (n, ...): decoded once for all draws.
        indices: positions from 0, shape (m,).
    """

    def __init__(self, whole: Split, targets: NDArray[Any], indices: Integers) -> None:
        """Take targets and extras."""
        extras = {name: values[indices] for name, values in whole.extras.items()}
        own = {"_whole": whole, "_indices": indices, "targets": targets[indices], "extras": extras}
        for name, value in own.items():
            object.__setattr__(self, name, value)

    _whole: Split
    _indices: Integers

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._indices)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample's input."""
        return self._whole.input_shape

    @property
    def inputs(self) -> FloatArray:
        """Inputs, shape (m, *input_shape)."""
        inputs, _ = self._whole.batch(self._indices)
        return inputs

    def batch(self, indices: NDArray[np.integer[Any]]) -> tuple[FloatArray, NDArray[Any]]:
        """Return inputs and targets of some of them.

        Args:
            indices: positions from 0, shape (batch,).
        """
        return self._whole.batch(self._indices[indices])

    def chunks(self, size: int) -> Iterator[FloatArray]:
        """Yield all inputs, at most ``size`` samples at a time, each of shape (size, *input_shape)."""
        for first in range(0, len(self), size):
            inputs, _ = self._whole.batch(self._indices[first : first + size])
            yield inputs


def units_of(task: Task, split: Split) -> Integers:
    """Return the number of each sample's unit, from 0 on, shape (n,).

    Raises:
        TypeError: the task names not one unit a sample.
    """
    named = np.asarray(task.units(split))
    if named.shape != (len(split),):
        raise TypeError(
            f"{type(task).__name__}.units has shape {named.shape} for {len(split)} samples; return a row each"
        )
    _, numbers = np.unique(named, return_inverse=True)
    found: Integers = numbers.reshape(-1)
    return found


def drawn_units(units: int, draws: int = DRAWS) -> Integers:
    """Return which units each draw is of, shape (draws, units): the same for the same number of units, whoever asks."""
    generator = np.random.default_rng(derive_seed(0, "resampled units", units))
    return generator.integers(0, units, (draws, units))


def resampled_metrics(task: Task, outputs: Outputs, split: Split, draws: int = DRAWS) -> dict[str, Floats]:
    """Return every metric over each draw of units, each of shape (draws,); none where there is one unit alone.

    Args:
        task: says what its units are, and evaluates.
        outputs: on all samples of the split, shape (n, output_size, ...); several by name.
        split: the samples.
        draws: how many.
    """
    unit_of = units_of(task, split)
    units = int(unit_of.max()) + 1
    if units == 1:
        return {}
    return metrics_of_draws(task, outputs, split, unit_of, drawn_units(units, draws))


def metrics_of_draws(
    task: Task, outputs: Outputs, split: Split, unit_of: Integers, draws: Integers
) -> dict[str, Floats]:
    """Return every metric over draws of units, each of shape (draws,); none where that is slow.

    Args:
        task: evaluates.
        outputs: on all samples of the split, shape (n, output_size, ...); several by name.
        split: the samples.
        unit_of: the unit of each sample, numbered from 0, shape (n,).
        draws: which units each draw has, shape (draws, units).
    """
    found = task.evaluate_draws(outputs, split, unit_of, draws)
    if found is None:
        found = _evaluated(task, outputs, split, unit_of, draws)
    return {name: np.asarray(values, np.float64) for name, values in found.items() if name in task.metrics}


def _evaluated(task: Task, outputs: Outputs, split: Split, unit_of: Integers, draws: Integers) -> Mapping[str, Floats]:
    """Return every metric over each draw by the task's `evaluate`, each of shape (draws,); none where that is slow."""
    order = np.argsort(unit_of, kind="stable")
    starts = np.searchsorted(unit_of[order], np.arange(draws.shape[1] + 1))
    members = [order[first:last] for first, last in itertools.pairwise(starts)]
    targets = split.targets
    found = []
    started = time.process_time()
    for number, draw in enumerate(draws):
        indices = np.concatenate([members[unit] for unit in draw])
        drawn = (
            {name: values[indices] for name, values in outputs.items()}
            if isinstance(outputs, Mapping)
            else outputs[indices]
        )
        found.append(task.evaluate(drawn, _Drawn(split, targets, indices)))
        if time.process_time() - started > MOST_SECONDS:
            logger.warning(
                "%s.evaluate takes too long for intervals: %d of %d draws in %g s; write evaluate_draws for it",
                type(task).__name__, number + 1, len(draws), MOST_SECONDS,
            )  # fmt: skip
            return {}
    return {name: np.array([_number(metrics.get(name)) for metrics in found]) for name in task.metrics}


def _number(value: Any) -> float:  # noqa: ANN401 - what a task returns
    return math.nan if value is None else float(value)


def interval_of(values: Floats, units: int, level: float = LEVEL) -> Interval:
    """Return the expanded percentile interval of a resampled score (Hesterberg 2015, section 5.3).

    Percentiles of few units are too narrow, by the factor sqrt((n - 1) / n) of the deviation and by normal instead of
    t quantiles; the level is raised so that a mean's interval has the right width, see below. Of fewer than
    `FEWEST_FOR_PERCENTILES` units there are too few different draws for that: Student's interval is returned then,
    around their mean.

    alpha' / 2 = Phi(-sqrt(n / (n - 1)) t_{1 - alpha / 2, n - 1}).

    Args:
        values: of every draw, shape (draws,); what is not finite is left out.
        units: that each draw has.
        level: how often such an interval shall hold the true score.
    """
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return Interval(math.nan, math.nan)
    if units > 1:
        quantile = student_quantile(0.5 + level / 2, units - 1)
        if units < FEWEST_FOR_PERCENTILES:
            middle, half = float(finite.mean()), quantile * math.sqrt(units / (units - 1)) * float(finite.std())
            return Interval(middle - half, middle + half)
        tail = NormalDist().cdf(-math.sqrt(units / (units - 1)) * quantile)
    else:
        tail = (1 - level) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return Interval(float(low), float(high))


def difference(one: Floats, other: Floats, units: int, level: float = LEVEL) -> Interval:
    """Return the interval of a difference of scores over the same draws: without 0 in it, the two can be told apart.

    Args:
        one: a network's score over every draw, shape (draws,).
        other: another's.
        units: that each draw has.
        level: of the interval.
    """
    return interval_of(one - other, units, level)


def student_quantile(probability: float, degrees: int) -> float:
    """Return a quantile of Student's t distribution, within 1 %.

    In closed form up to 2 degrees, by Newton's method from the integral for 3, and by Cornish and Fisher's expansion
    from 4 on.

    >>> [round(student_quantile(0.975, degrees), 3) for degrees in (1, 2, 3, 19)]
    [12.706, 4.303, 3.182, 2.093]
    """
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:  # noqa: PLR2004 - see above
        return (2 * probability - 1) * math.sqrt(1 / (2 * probability * (1 - probability)))
    if degrees == 3:  # noqa: PLR2004 - see above
        x = NormalDist().inv_cdf(probability)
        for _ in range(30):
            y = x / math.sqrt(3)
            below = 0.5 + (y / (1 + y * y) + math.atan(y)) / math.pi
            density = 2 / (math.pi * math.sqrt(3) * (1 + y * y) ** 2)
            x -= (below - probability) / density
        return x
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, 1))
