"""Seeded run-to-failure data in the format of C-MAPSS, for tests and first steps without a download.

It imitates what makes C-MAPSS a task for sequences: engines run healthily until a random onset, then damage
grows to failure along one of several shapes; sensors answer to damage along curves of their own, differ from
engine to engine and are so noisy that one reading tells much less than thirty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from qanas.tasks.turbofan.reader import SENSORS, Floats, Integers

if TYPE_CHECKING:
    from pathlib import Path

ENGINES = 100
SIX_CONDITIONS = ("FD002", "FD004")
TWO_FAULTS = ("FD003", "FD004")

_SEA_LEVEL = np.array([[0.0, 0.0, 100.0]])
_FLIGHT_POINTS = np.array(
    [
        [0.0, 0.0, 100.0],
        [10.0, 0.25, 100.0],
        [20.0, 0.7, 100.0],
        [25.0, 0.62, 60.0],
        [35.0, 0.84, 100.0],
        [42.0, 0.84, 100.0],
    ]
)
_SETTING_NOISE = np.array([0.002, 0.0003, 0.0])
_SETTING_DECIMALS = 4

# A line per sensor: value of a healthy engine at sea level, size of the change until failure (0: constant),
# its sign under the first and under the second fault, decimals in the file. Sizes are those of FD001.
_SENSORS = np.array(
    [
        [518.67, 0, 0, 0, 2],
        [642.3, 1.8, 1, 1, 2],
        [1586.0, 22, 1, 1, 2],
        [1400.0, 34, 1, 1, 2],
        [14.62, 0, 0, 0, 2],
        [21.61, 0, 0, 0, 2],
        [554.2, 3.3, -1, 1, 2],
        [2388.04, 0.27, 1, 1, 2],
        [9055.0, 60, 1, -1, 2],
        [1.3, 0, 0, 0, 2],
        [47.3, 1.0, 1, 1, 2],
        [522.1, 2.8, -1, 1, 2],
        [2388.04, 0.27, 1, 1, 2],
        [8137.0, 55, 1, -1, 2],
        [8.41, 0.14, 1, -1, 4],
        [0.03, 0, 0, 0, 2],
        [391.5, 6.0, 1, 1, 0],
        [2388.0, 0, 0, 0, 0],
        [100.0, 0, 0, 0, 2],
        [38.95, 0.65, -1, 1, 2],
        [23.37, 0.4, -1, 1, 4],
    ]
)
_BASE, _CHANGE = _SENSORS[:, 0], _SENSORS[:, 1]
_SIGNS = _SENSORS[:, 2:4].T
_DECIMALS = _SENSORS[:, 4].astype(int)

_TWO_VALUED = 5
"""The sixth sensor shows a neighbouring value now and then, as in FD001."""

_TWO_VALUED_SHARE = 0.02
_NOISE = 0.6
_ENGINE_SPREAD = 0.05
_CURVATURE = (0.5, 3.0)
_HEALTHY_CYCLES = (20, 150)
_DEGRADING_CYCLES = (125, 150)
_TEST_RUL = (5, 150)
_SHORTEST_TEST = 20


@dataclass(frozen=True)
class _Fleet:
    """Random traits of the engines of one file, each of shape (engines, ...).

    Attributes:
        onset: healthy cycles.
        duration: cycles from onset to failure.
        shape: 0 linear, 1 exponential, 2 sigmoid.
        steepness: of the shape, in [0, 1).
        fault: 0 or 1.
        offset: manufacturing spread of each sensor, in units of its change until failure.
        cycles: how many are written.
    """

    onset: Floats
    duration: Floats
    shape: Integers
    steepness: Floats
    fault: Integers
    offset: Floats
    cycles: Integers


def write_synthetic(folder: Path, subset: str, seed: int) -> None:
    """Write ``train_*.txt``, ``test_*.txt`` and ``RUL_*.txt``, 100 engines each.

    Args:
        folder: an existing folder.
        subset: as in C-MAPSS: FD002 and FD004 have six operating conditions, FD003 and FD004 two
            kinds of fault.
        seed: the same files come from the same seed.
    """
    generator = np.random.default_rng([seed, int(subset[2:])])
    faults = 2 if subset in TWO_FAULTS else 1
    points = _FLIGHT_POINTS if subset in SIX_CONDITIONS else _SEA_LEVEL
    curves = generator.uniform(*_CURVATURE, size=(faults, SENSORS))
    answers = _condition_answers(generator, len(points))
    for part in ("train", "test"):
        fleet = _draw_fleet(generator, faults, run_to_failure=part == "train")
        settings, sensors = _draw_rows(generator, fleet, points, curves, answers)
        _write_rows(folder / f"{part}_{subset}.txt", fleet, settings, sensors)
    rul = (fleet.onset + fleet.duration - fleet.cycles).astype(int)
    (folder / f"RUL_{subset}.txt").write_text("".join(f"{value} \n" for value in rul), encoding="ascii")


def damage(progress: Floats, shape: Integers, steepness: Floats) -> Floats:
    """Return the damage from 0 (healthy) to 1 (failed).

    Args:
        progress: share of the time from onset to failure, negative before the onset, shape (n,).
        shape: 0 linear, 1 exponential, 2 sigmoid, shape (n,).
        steepness: in [0, 1), shape (n,).
    """
    x = np.clip(progress, 0.0, 1.0)
    rate = 1.0 + 1.5 * steepness
    exponential = np.expm1(rate * x) / np.expm1(rate)
    slope, knee = 5.0 + 2.0 * steepness, 0.6
    sigmoid = _logistic(slope * (x - knee)) - _logistic(-slope * knee)
    sigmoid /= _logistic(slope * (1.0 - knee)) - _logistic(-slope * knee)
    return np.choose(shape, [x, exponential, sigmoid])


def _logistic(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), dtype=np.float64)


def _condition_answers(generator: np.random.Generator, conditions: int) -> tuple[Floats, Floats]:
    """Return each condition's healthy values and sensitivities, both of shape (conditions, 21)."""
    share = generator.uniform(0.4, 0.95, size=(conditions, SENSORS))
    sensitivity = generator.uniform(0.7, 1.3, size=(conditions, SENSORS))
    share[0] = sensitivity[0] = 1.0
    return np.round(_BASE * share, _DECIMALS.max()), sensitivity


def _draw_fleet(generator: np.random.Generator, faults: int, *, run_to_failure: bool) -> _Fleet:
    onset = generator.integers(*_HEALTHY_CYCLES, size=ENGINES)
    duration = generator.integers(*_DEGRADING_CYCLES, size=ENGINES)
    rul = 0 if run_to_failure else generator.integers(*_TEST_RUL, size=ENGINES)
    return _Fleet(
        onset=onset.astype(np.float64),
        duration=duration.astype(np.float64),
        shape=generator.integers(3, size=ENGINES),
        steepness=generator.random(ENGINES),
        fault=generator.integers(faults, size=ENGINES),
        offset=_ENGINE_SPREAD * generator.standard_normal((ENGINES, SENSORS)),
        cycles=np.maximum(onset + duration - rul, _SHORTEST_TEST),
    )


def _draw_rows(
    generator: np.random.Generator,
    fleet: _Fleet,
    points: Floats,
    curves: Floats,
    answers: tuple[Floats, Floats],
) -> tuple[Floats, Floats]:
    """Return the settings and the sensors of all rows of a fleet, shapes (rows, 3) and (rows, 21)."""
    engine = np.repeat(np.arange(ENGINES), fleet.cycles)
    progress = (_cycles(fleet) - fleet.onset[engine]) / fleet.duration[engine]
    hurt = damage(progress, fleet.shape[engine], fleet.steepness[engine])
    point = generator.integers(len(points), size=len(engine))
    settings = points[point] + _SETTING_NOISE * generator.standard_normal((len(engine), 3))
    fault = fleet.fault[engine]
    # Each sensor answers along its own curve; noise is in units of its change until failure.
    answer = _SIGNS[fault] * hurt[:, None] ** curves[fault]
    answer += fleet.offset[engine] + _NOISE * generator.standard_normal((len(engine), SENSORS))
    base, sensitivity = answers
    sensors = base[point] + _CHANGE * sensitivity[point] * answer
    sensors[:, _TWO_VALUED] -= 0.01 * (generator.random(len(engine)) < _TWO_VALUED_SHARE)
    return settings, sensors


def _cycles(fleet: _Fleet) -> Integers:
    """Return 1, 2, 3, ... for each engine, shape (rows,)."""
    starts = np.cumsum(fleet.cycles) - fleet.cycles
    return np.arange(fleet.cycles.sum()) - np.repeat(starts, fleet.cycles) + 1


def _write_rows(path: Path, fleet: _Fleet, settings: Floats, sensors: Floats) -> None:
    """Write rows, settings (rows, 3) and sensors (rows, 21), as NASA does: one blank between, two at the line's end."""
    columns = [
        pl.Series(np.repeat(np.arange(1, ENGINES + 1), fleet.cycles)),
        pl.Series(_cycles(fleet)),
        *(pl.Series(np.round(column, _SETTING_DECIMALS) + 0.0) for column in settings.T),
        *(pl.Series(np.round(column, places)) for column, places in zip(sensors.T, _DECIMALS, strict=True)),
        *(pl.Series(np.full(len(settings), "")) for _ in range(2)),
    ]
    frame = pl.DataFrame([column.alias(str(index)) for index, column in enumerate(columns)])
    frame.write_csv(path, separator=" ", include_header=False, quote_style="never")
