"""When a training need not go on: rules that know what others of its size were like at the same epoch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qanas.regression.gaussian_process import ColumnGroup, GaussianProcess

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """How a training went, or goes.

    Attributes:
        size: of the network, in any unit; 0 where no cost is an objective.
        losses: on validation data, to be minimised, by the epoch that it was looked at after.
        last: the loss at its end; None while it goes on.
        stopped: whether a rule ended it.
        settings: of the candidate, encoded, for rules that learn from them.
    """

    size: float
    losses: Mapping[int, float] = field(default_factory=dict)
    last: float | None = None
    stopped: bool = False
    settings: Sequence[float] = ()

    @property
    def end(self) -> float | None:
        """The loss at its end, if nothing stopped it before."""
        return None if self.stopped else self.last


class StoppingRule(ABC):
    """Says whether a training is worth going on with; the same arguments, the same answer."""

    @abstractmethod
    def looks(self, epochs: int) -> list[int]:
        """Return the epochs after which it looks at a training of so many; never the last one."""

    @abstractmethod
    def goes_on(self, course: Course, others: Sequence[Course], epochs: int) -> bool:
        """Tell whether a training goes on.

        Args:
            course: of the training so far.
            others: that ended before it began.
            epochs: of a whole training.
        """


FEWEST = 3
"""Others, at least, that a training is compared with."""


@dataclass(frozen=True)
class SizeAwareHalving(StoppingRule):
    """Successive halving for two objectives: at a rung the best few of about its size or smaller go on.

    A network is compared only with those that are at most a little larger: compared by the metric alone, small networks
    would all be stopped, which the front consists of.

    Attributes:
        rungs: epochs, ascending.
        keep: the share that goes on at each rung.
        larger: how many times its size others may have.
    """

    rungs: tuple[int, ...] = (3, 10)
    keep: float = 0.3
    larger: float = 1.25

    def looks(self, epochs: int) -> list[int]:
        """Return the rungs."""
        return [rung for rung in self.rungs if rung < epochs]

    def goes_on(self, course: Course, others: Sequence[Course], epochs: int) -> bool:
        """Tell whether it is among the best of its rung."""
        del epochs
        rung = max(course.losses)
        seen = [
            other.losses[rung] for other in others if rung in other.losses and other.size <= self.larger * course.size
        ]
        if len(seen) < FEWEST:
            return True
        better = sum(loss < course.losses[rung] for loss in seen)
        return better < math.ceil(self.keep * (len(seen) + 1))


@dataclass(frozen=True)
class FrontChance(StoppingRule):
    """Extrapolates the curve, and stops what will hardly reach the front at its size.

    Attributes:
        first: the epoch from which on it looks, after every one.
        chance: of ending better than every finished network of at most its size, below which a training is stopped.
    """

    first: int = 5
    chance: float = 0.05

    def looks(self, epochs: int) -> list[int]:
        """Return every epoch from the first one on."""
        return list(range(self.first, epochs))

    def goes_on(self, course: Course, others: Sequence[Course], epochs: int) -> bool:
        """Tell whether the front may be reached."""
        rivals = [other.end for other in others if other.end is not None and other.size <= course.size]
        if len(rivals) < FEWEST:
            return True
        at = np.array(sorted(course.losses), np.float64)
        mean, sd = extrapolated(at, np.array([course.losses[int(epoch)] for epoch in at]), epochs)
        return normal_below(min(rivals), mean, sd) >= self.chance


@dataclass(frozen=True)
class LearnedEnd(StoppingRule):
    """Learns from finished trainings how others end, and stops what will hardly reach the front at its size.

    A Gaussian process predicts the loss at the end from the settings, the size and the loss now: where learning rates
    and schedules are searched, curves cross, and neither a comparison at the same epoch nor a curve by itself tells
    which will be low in the end (docs/results/estimators.md). Freeze-thaw's idea (Swersky et al. 2014), with a process
    for each epoch that is looked at in place of one over all curves.

    Attributes:
        groups: of the settings' columns.
        chance: of ending better than every finished network of at most its size, below which a training is stopped.
        fewest: finished trainings, before which nothing is stopped.
    """

    groups: Sequence[ColumnGroup]
    chance: float = 0.1
    fewest: int = 10

    def looks(self, epochs: int) -> list[int]:
        """Return a thirtieth, a tenth, a fifth, a third, half and two thirds of the epochs."""
        return sorted({at for share in LOOKS if 0 < (at := round(share * epochs)) < epochs})

    def goes_on(self, course: Course, others: Sequence[Course], epochs: int) -> bool:
        """Tell whether the front may be reached."""
        del epochs
        now = max(course.losses)
        known = [other for other in others if other.end is not None and now in other.losses]
        rivals = [other.end for other in known if other.end is not None and other.size <= course.size]
        if len(known) < self.fewest or len(rivals) < FEWEST:
            return True
        known = sorted(known, key=lambda other: abs(math.log((other.size + 1) / (course.size + 1))))[:MOST_LEARNT]
        mean, sd = predicted_ends(self.groups, known, [course], now)
        return normal_below(min(rivals), float(mean[0]), float(sd[0])) >= self.chance


LOOKS = (1 / 30, 1 / 10, 1 / 5, 1 / 3, 1 / 2, 2 / 3)
"""Shares of the epochs, after which ends are predicted."""

MOST_LEARNT = 80
"""Finished trainings, those nearest in size, that are learnt from: a process takes time by their cube."""

CAPPED = 3.0
"""Losses are cut off as far above the median as this many times the distance of the best below it."""


def predicted_ends(
    groups: Sequence[ColumnGroup], known: Sequence[Course], asked: Sequence[Course], epoch: int
) -> tuple[Array, Array]:
    """Return the losses that trainings are likely to end with, and standard deviations, shape (asked,) both.

    Args:
        groups: of the settings' columns.
        known: trainings that went to the end.
        asked: others, which were looked at after the epoch, too.
        epoch: after which losses are compared.
    """
    ends = np.array([course.end for course in known], np.float64)
    # Shape (known + asked, settings + 2): settings, sizes and losses from 0 to 1 each.
    rows = np.array([[*each.settings, each.size, each.losses[epoch]] for each in (*known, *asked)], np.float64)
    columns = rows.shape[1]
    if (rows[:, -2] > 0).all():
        rows[:, -2] = np.log(rows[:, -2])
    rows[:, -1] = _capped(rows[:, -1])
    low, high = rows[:, -2:].min(axis=0), rows[:, -2:].max(axis=0)
    rows[:, -2:] = (rows[:, -2:] - low) / np.where(high > low, high - low, 1.0)
    every = [*groups, ColumnGroup([columns - 2], 1), ColumnGroup([columns - 1], 1)]
    return GaussianProcess(every, rows[: len(known)], _capped(ends)).predict(rows[len(known) :])


def _capped(losses: Array) -> Array:
    """Return losses, shape (n,), without what is so bad that it would hide all other differences."""
    middle = float(np.median(losses))
    capped: Array = np.minimum(losses, middle + CAPPED * (middle - losses.min()))
    return capped


def normal_below(bound: float, mean: float, sd: float) -> float:
    """Return the chance of a normal number below a bound.

    >>> normal_below(1.0, 1.0, 0.5)
    0.5
    """
    return 0.5 * math.erfc((mean - bound) / (math.sqrt(2.0) * max(sd, 1e-12)))


_RATES = np.geomspace(0.05, 3.0, 12)
FEWEST_POINTS = 3


def extrapolated(epochs: Array, losses: Array, total: int) -> tuple[float, float]:
    """Return the loss that a curve is likely to end with, and the standard deviation of that.

    An ensemble of curves ``a + b * epoch ** -c`` and ``a + b * exp(-c * epoch)`` that fall, and of constants, each
    fitted by least squares for a grid of ``c`` (the parametric families of Domhan et al. 2015 that are linear but for
    one number); their weights follow from their residuals and their number of parameters (BIC). The spread of the
    ensemble and the residuals make the uncertainty.

    Args:
        epochs: that were looked at, shape (n,).
        losses: after them, shape (n,).
        total: epochs of the whole training.
    """
    count = len(losses)
    if count < FEWEST_POINTS:
        return float(losses[-1]), float("inf")
    floor = 1e-4 * (float(np.abs(losses).mean()) + 1e-12)
    ends, errors, scores = [], [], []
    shapes = [(epochs**-rate, total**-rate) for rate in _RATES.tolist()]
    shapes += [(np.exp(-rate * epochs), math.exp(-rate * total)) for rate in (_RATES / 3).tolist()]
    shapes.append((np.zeros(count), 0.0))
    for basis, end in shapes:
        design = np.column_stack([np.ones(count), basis])
        found = np.linalg.lstsq(design, losses, rcond=None)[0]
        if basis.any() and found[1] < 0:
            continue  # a loss that rises towards its end isn't extrapolated
        residual = max(float(np.sqrt(np.mean((design @ found - losses) ** 2))), floor)
        ends.append(float(found[0] + found[1] * end))
        errors.append(residual)
        scores.append(-count * math.log(residual) - 0.5 * (3 if basis.any() else 1) * math.log(count))
    weights = np.exp(np.array(scores) - max(scores))
    weights /= weights.sum()
    mean = float(weights @ np.array(ends))
    variance = float(weights @ ((np.array(ends) - mean) ** 2 + np.array(errors) ** 2))
    return mean, math.sqrt(variance)


def sum_of_losses(losses: Sequence[float], last: int) -> float:
    """Return the mean training loss of the last epochs (SoTL-E, Ru et al. 2021): less is better.

    >>> sum_of_losses([3.0, 2.0, 1.0], 2)
    1.5
    """
    return float(np.mean(losses[-last:]))
