import math
import statistics
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanas.tasks.turbofan import Turbofan
from qanas.tasks.turbofan.preprocessing import Preprocessing, find_conditions, nearest

Row = list[float]
FLIGHT_POINTS = np.array(
    [[0, 0, 100], [10, 0.25, 100], [20, 0.7, 100], [25, 0.62, 60], [35, 0.84, 100], [42, 0.84, 100]],
    dtype=float,
)


def naive_rows(path: Path) -> dict[int, list[Row]]:
    """Rows by engine, parsed as plainly as can be."""
    engines: dict[int, list[Row]] = {}
    for line in path.read_text(encoding="ascii").splitlines():
        row = [float(word) for word in line.split()]
        engines.setdefault(int(row[0]), []).append(row)
    return engines


def naive_condition(row: Row) -> int:
    return 0 if row[2] < 10 else 1


class Naive:
    """An independent implementation in loops, for the two conditions of the small files."""

    def __init__(self, folder: Path, task: Turbofan, validation: list[int]) -> None:
        self.task = task
        self.train = naive_rows(folder / "train_FD001.txt")
        self.test = naive_rows(folder / "test_FD001.txt")
        self.rul = [float(line) for line in (folder / "RUL_FD001.txt").read_text(encoding="ascii").split()]
        self.validation = validation
        fitted = [row for engine, rows in self.train.items() if engine not in validation for row in rows]
        self.by_condition = [[row for row in fitted if naive_condition(row) == index] for index in (0, 1)]
        self.sensors = [s for s in range(1, 22) if not all(self.dull(s, rows) for rows in self.by_condition)]

    @staticmethod
    def dull(sensor: int, rows: list[Row]) -> bool:
        values = [row[4 + sensor] for row in rows]
        return len(set(values)) == 1 or max(Counter(values).values()) / len(values) > 0.95

    def feature(self, row: Row, sensor: int) -> float:
        mean, deviation = self.constants(sensor, naive_condition(row))
        return (row[4 + sensor] - mean) / deviation if deviation > 0 else 0.0

    @cache  # noqa: B019 - gone with the test
    def constants(self, sensor: int, condition: int) -> tuple[float, float]:
        values = [row[4 + sensor] for row in self.by_condition[condition]]
        return statistics.fmean(values), statistics.pstdev(values)

    def window(self, rows: list[Row], end: int) -> list[list[float]]:
        """The window whose last row is ``rows[end]``."""
        taken = [rows[max(index, 0)] for index in range(end - self.task.window + 1, end + 1)]
        return [[self.feature(row, sensor) for sensor in self.sensors] for row in taken]

    def samples(self, engine: int, stride: int) -> list[tuple[list[list[float]], int, int, float]]:
        """(window, engine, cycle, uncapped RUL) of an engine run to failure."""
        rows = self.train[engine]
        ends = [
            end
            for end in range(len(rows))
            if end == len(rows) - 1 or (end + 1 >= self.task.window and (len(rows) - 1 - end) % stride == 0)
        ]
        return [(self.window(rows, end), engine, end + 1, float(len(rows) - 1 - end)) for end in ends]

    def split(self, name: str) -> list[tuple[list[list[float]], int, int, float]]:
        if name == "test":
            return [
                (self.window(rows, len(rows) - 1), engine, len(rows), rul)
                for (engine, rows), rul in zip(self.test.items(), self.rul, strict=True)
            ]
        stride = self.task.stride if name == "train" else 1
        engines = [engine for engine in self.train if (engine in self.validation) == (name == "val")]
        return [sample for engine in engines for sample in self.samples(engine, stride)]


@pytest.mark.parametrize("window", [2, 12, 30])
@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("split_seed", [0, 3])
def test_equals_a_naive_implementation(raw: Path, window: int, stride: int, split_seed: int) -> None:
    task = Turbofan(str(raw), window=window, stride=stride, rul_cap=20.0, split_seed=split_seed)
    data = task.load()
    naive = Naive(raw, task, data.protocol["validation_engines"])
    assert data.preprocessing["sensors"] == naive.sensors
    for name in ("train", "val", "test"):
        split = getattr(data, name)
        inputs, engines, cycles, uncapped = zip(*naive.split(name), strict=True)
        np.testing.assert_allclose(split.inputs, inputs, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(split.extras["engine"], engines)
        np.testing.assert_array_equal(split.extras["cycle"], cycles)
        np.testing.assert_array_equal(split.extras["uncapped"], uncapped)
        np.testing.assert_array_equal(split.targets, [[min(rul, 20.0)] for rul in uncapped])


def test_drops_sensors_that_tell_nothing_in_every_condition(raw: Path) -> None:
    data = Turbofan(str(raw)).load()
    assert data.preprocessing["sensors"] == [n for n in range(1, 22) if n not in {1, 5, 7}]
    deviations = [condition["deviations"] for condition in data.preprocessing["conditions"]]
    sixth = data.preprocessing["sensors"].index(6)
    assert deviations[0][sixth] == 0.0
    assert deviations[1][sixth] > 0.0
    assert len(deviations) == 2


def test_card_is_enough_to_recompute_the_inputs(raw: Path) -> None:
    data = Turbofan(str(raw)).load()
    notes = data.preprocessing
    for index, rows in enumerate(naive_rows(raw / "test_FD001.txt").values()):
        padded = [rows[0]] * (notes["window"] - len(rows)) + rows[-notes["window"] :]
        np.testing.assert_allclose(data.test.inputs[index], [recompute(notes, row) for row in padded], rtol=1e-6)


def recompute(notes: Mapping[str, Any], row: Row) -> list[float]:
    condition = min(notes["conditions"], key=lambda c: math.dist(c["centre"], row[2:5]))
    constants = zip(notes["sensors"], condition["means"], condition["deviations"], strict=True)
    return [(row[4 + sensor] - mean) / dev if dev > 0 else 0.0 for sensor, mean, dev in constants]


def test_validation_engines_do_not_leak(raw: Path) -> None:
    task = Turbofan(str(raw), validation_fraction=0.4)
    before = task.load()
    held_out = set(before.protocol["validation_engines"])
    path = raw / "train_FD001.txt"
    rows = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    for row in rows:
        if int(row[0]) in held_out:
            row[2:] = [str(float(word) * 1.5 + 7.0) for word in row[2:]]
    path.write_text("\n".join(" ".join(row) for row in rows), encoding="ascii")
    after = task.load()
    assert dict(after.preprocessing) == dict(before.preprocessing)
    np.testing.assert_array_equal(after.train.inputs, before.train.inputs)
    np.testing.assert_array_equal(after.test.inputs, before.test.inputs)
    assert not np.array_equal(after.val.inputs, before.val.inputs)


def test_test_file_does_not_leak(raw: Path) -> None:
    before = Turbofan(str(raw)).load()
    (raw / "test_FD001.txt").write_text("1 1 " + " ".join(["5"] * 24) + "\n", encoding="ascii")
    (raw / "RUL_FD001.txt").write_text("3\n", encoding="ascii")
    after = Turbofan(str(raw)).load()
    assert dict(after.preprocessing) == dict(before.preprocessing)


def test_engines_are_split(raw: Path) -> None:
    engines = {}
    for seed in range(8):
        data = Turbofan(str(raw), split_seed=seed, validation_fraction=0.34).load()
        train, val = ({*split.extras["engine"].tolist()} for split in (data.train, data.val))
        assert not train & val
        assert train | val == {1, 2, 3, 4, 5, 7}
        assert sorted(val) == data.protocol["validation_engines"]
        assert len(val) == 2
        engines[seed] = tuple(sorted(val))
    assert len(set(engines.values())) > 1


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_every_split_has_an_engine(raw: Path, fraction: float) -> None:
    data = Turbofan(str(raw), validation_fraction=fraction, window=2).load()
    assert len(data.train)
    assert len(data.val)


def test_constant_by_rounding_is_constant() -> None:
    generator = np.random.default_rng(0)
    sensors = generator.normal(size=(1000, 21))
    sensors[:, 3] = 0.1 + 1e-14 * generator.normal(size=1000)
    sensors[:, 4] = 14.62
    assert np.std(sensors[:, 4]) > 0  # what makes a test for exactly 0 fail
    found = Preprocessing.fit(np.zeros((1000, 3)), sensors)
    assert found.sensors.tolist() == [n for n in range(21) if n not in {3, 4}]


@pytest.mark.parametrize(("share", "kept"), [(0.96, False), (0.951, False), (0.95, True), (0.5, True)])
def test_most_frequent_value(share: float, kept: bool) -> None:
    sensors = np.random.default_rng(0).normal(size=(1000, 21))
    sensors[: round(1000 * share), 6] = 2.0
    assert (6 in Preprocessing.fit(np.zeros((1000, 3)), sensors).sensors) is kept


@given(
    seed=st.integers(0, 10_000),
    points=st.sets(st.integers(0, 5), min_size=1, max_size=6),
    scale=st.sampled_from([0.0, 1e-4, 1e-3, 3e-3]),
    rows=st.integers(400, 1500),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_finds_flight_points(seed: int, points: set[int], scale: float, rows: int) -> None:
    generator = np.random.default_rng(seed)
    centres = FLIGHT_POINTS[sorted(points)]
    label = generator.integers(len(centres), size=rows)
    noise = scale * generator.standard_normal((rows, 3)) * [1.0, 0.2, 0.0]
    found = find_conditions(np.round(centres[label] + noise, 4))
    np.testing.assert_allclose(found, centres, atol=max(6 * scale, 1e-6))
    np.testing.assert_array_equal(nearest(centres[label] + noise, found), label)


@pytest.mark.parametrize("spread", [1e-4, 1e-2, 1.0, 100.0])
def test_a_continuum_is_one_condition(spread: float) -> None:
    generator = np.random.default_rng(0)
    for settings_ in (generator.normal(size=(2000, 3)), generator.uniform(size=(2000, 3))):
        assert len(find_conditions(spread * settings_)) == 1


def test_one_rare_condition_is_found() -> None:
    label = np.zeros(500, dtype=int)
    label[[7, 300, 301]] = 4
    assert len(find_conditions(FLIGHT_POINTS[label])) == 2


def test_order_of_rows_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    rows = FLIGHT_POINTS[generator.integers(6, size=600)] + 0.001 * generator.standard_normal((600, 3))
    np.testing.assert_allclose(find_conditions(rows), find_conditions(rows[::-1]), rtol=1e-12)


def test_layout(raw: Path) -> None:
    data = Turbofan(str(raw), window=30).load()
    for split in (data.train, data.val, data.test):
        assert split.inputs.dtype == split.targets.dtype == split.extras["uncapped"].dtype == np.float32
        assert split.extras["engine"].dtype == split.extras["cycle"].dtype == np.int32
        assert split.inputs.flags.c_contiguous
        assert split.inputs.shape == (len(split), 30, 18)
        assert split.targets.shape == (len(split), 1)
        assert all(extra.shape == (len(split),) for extra in split.extras.values())
    assert data.input_shape == (30, 18)
    assert data.output_size == 1
    assert data.target_scale == 125.0
