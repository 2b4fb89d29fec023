"""From raw rows to windows: operating conditions, sensor selection, standardisation, windowing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qanas.tasks.base import FloatArray
    from qanas.tasks.turbofan.reader import Floats, Integers, Trajectories

_GAP = 0.05
"""A setting's groups are this share of its range apart at least, and each is narrower than that."""

_SETTING_NOISE = 0.02
"""In the settings' own units (1000 ft, Mach, percent): smaller gaps are noise or rounding."""

_ROWS_PER_CONDITION = 10
"""On average at least, lest a few rows of noise pass for as many conditions."""

_MOSTLY_CONSTANT = 0.95
"""A sensor whose most frequent value covers more of the rows says next to nothing."""

_ROUNDING = 1e-10
"""A deviation below this share of the mean comes from adding up floats, not from the sensor."""


@dataclass(frozen=True)
class Condition:
    """One operating condition.

    Attributes:
        centre: mean of the three settings, shape (3,).
        means: of the kept sensors, shape (sensors,).
        deviations: of the kept sensors, 0 where a sensor is constant in this condition, shape (sensors,).
    """

    centre: Floats
    means: Floats
    deviations: Floats

    @property
    def factors(self) -> Floats:
        """What a sensor's distance from its mean is multiplied with, 0 where it is constant, shape (sensors,)."""
        return np.divide(1.0, self.deviations, out=np.zeros_like(self.deviations), where=self.deviations > 0)


@dataclass(frozen=True)
class Preprocessing:
    """What is done to raw rows before they are cut into windows: constants of the training engines alone.

    Attributes:
        sensors: the kept ones, counted from 0, shape (sensors,).
        conditions: in the order of their settings.
    """

    sensors: Integers
    conditions: tuple[Condition, ...]

    @classmethod
    def fit(cls, settings: Floats, sensors: Floats) -> Preprocessing:
        """Find the conditions, choose the sensors and compute the constants.

        Args:
            settings: of the training engines' rows, shape (rows, 3).
            sensors: of the same rows, shape (rows, 21).

        Returns:
            The constants. No sensor is kept where all are constant.
        """
        centres = find_conditions(settings)
        groups = [sensors[nearest(settings, centres) == index] for index in range(len(centres))]
        deviations = np.stack([_deviations(rows) for rows in groups])
        covered = np.stack([_most_frequent_share(rows) for rows in groups])
        kept = np.flatnonzero(~((deviations == 0) | (covered > _MOSTLY_CONSTANT)).all(axis=0))
        conditions = (
            Condition(centre, rows[:, kept].mean(axis=0), deviation[kept])
            for centre, rows, deviation in zip(centres, groups, deviations, strict=True)
        )
        return cls(kept, tuple(conditions))

    def features(self, settings: Floats, sensors: Floats) -> FloatArray:
        """Standardise rows by their nearest condition's constants.

        Args:
            settings: shape (rows, 3).
            sensors: shape (rows, 21).

        Returns:
            Shape (rows, kept sensors), computed in double precision and rounded to single.
        """
        label = nearest(settings, np.stack([condition.centre for condition in self.conditions]))
        means = np.stack([condition.means for condition in self.conditions])
        factors = np.stack([condition.factors for condition in self.conditions])
        scaled: FloatArray = ((sensors[:, self.sensors] - means[label]) * factors[label]).astype(np.float32)
        return scaled

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Preprocessing:
        """Return the constants that have this description, see `describe`."""
        conditions = (
            Condition(*(np.asarray(entry[name], np.float64) for name in ("centre", "means", "deviations")))
            for entry in description["conditions"]
        )
        return cls(np.asarray(description["sensors"], np.int64) - 1, tuple(conditions))

    def describe(self) -> dict[str, Any]:
        """Return the constants as plain numbers: enough to recompute the features from raw rows."""
        return {
            "sensors": [int(sensor) + 1 for sensor in self.sensors],
            "conditions": [
                {
                    "centre": condition.centre.tolist(),
                    "means": condition.means.tolist(),
                    "deviations": condition.deviations.tolist(),
                }
                for condition in self.conditions
            ],
            "condition_of_a_row": "that of the centre nearest to its 3 settings (Euclidean distance)",
            "standardisation": (
                "(sensor - mean) / deviation, constants of the row's condition; 0 where the deviation is 0"
            ),
        }


def find_conditions(settings: Floats) -> Floats:
    """Return the centres of the operating conditions.

    The settings cluster tightly: C-MAPSS flies at fixed points with a little noise. So each setting is cut at
    its wide gaps, and a condition is a combination of groups that occurs. A setting without tight groups, be
    it one point with noise or a continuum, tells no conditions apart.

    Args:
        settings: of the training engines' rows, shape (rows, 3).

    Returns:
        Shape (conditions, 3), in ascending order; a single centre where there are no tight groups.
    """
    groups = np.column_stack([_tight_groups(column) for column in settings.T])
    combinations, label = np.unique(groups, axis=0, return_inverse=True)
    if len(combinations) * _ROWS_PER_CONDITION > len(settings):
        return np.stack([settings.mean(axis=0)])
    label = label.reshape(-1)
    return np.stack([settings[label == index].mean(axis=0) for index in range(len(combinations))])


def _tight_groups(values: Floats) -> Integers:
    """Number the groups of a setting, ascending; all 0 where it has no tight groups. Shape (rows,)."""
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    narrow = _GAP * float(ascending[-1] - ascending[0])
    cuts = np.diff(ascending) > max(narrow, _SETTING_NOISE)
    lowest = ascending[np.r_[True, cuts]]
    highest = ascending[np.r_[cuts, True]]
    groups = np.zeros(len(values), dtype=np.int64)
    if ((highest - lowest) <= narrow).all():
        groups[order] = np.r_[0, np.cumsum(cuts)]
    return groups


def nearest(settings: Floats, centres: Floats) -> NDArray[np.intp]:
    """Return the index of the centre nearest to each row (Euclidean; the first of equals), shape (rows,)."""
    distances = [((settings - centre) ** 2).sum(axis=1) for centre in centres]
    return np.asarray(np.argmin(distances, axis=0))


def _deviations(rows: Floats) -> Floats:
    """Return each sensor's standard deviation (of the population), exactly 0 where it is constant."""
    deviations: Floats = rows.std(axis=0)
    constant = (np.ptp(rows, axis=0) == 0) | (deviations <= _ROUNDING * np.abs(rows.mean(axis=0)))
    return np.where(constant, 0.0, deviations)


def _most_frequent_share(rows: Floats) -> Floats:
    """Return the share of the rows that each sensor's most frequent value covers."""
    counts = [np.unique(column, return_counts=True)[1].max() for column in rows.T]
    return np.array(counts) / len(rows)


def window_ends(trajectories: Trajectories, first_end: int, stride: int) -> Integers:
    """Return the rows at which windows end.

    Each engine's last row is among them, and every ``stride``-th before it that is cycle ``first_end`` or later.
    An engine with fewer cycles has its last row only.

    Args:
        trajectories: the rows.
        first_end: the first cycle of an engine at which a window ends.
        stride: cycles from window to window.

    Returns:
        Shape (windows,), ascending.
    """
    left = trajectories.last - np.arange(len(trajectories.last))
    return np.flatnonzero((left == 0) | ((trajectories.cycle >= first_end) & (left % stride == 0)))
