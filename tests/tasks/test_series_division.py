"""How recordings of one table are dealt out, and which columns are of classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qanas.core.errors import InputError
from qanas.tasks.timeseries import TimeSeries

ROWS = 30


def _task(folder: Path, label: Callable[[int, int], object], recordings: int = 8, **keys: Any) -> TimeSeries:  # noqa: ANN401
    """Write a table of recordings, each row with a label, and return the task that tells it."""
    values = np.random.default_rng(0).normal(size=(recordings, ROWS)).round(3)
    lines = [f"{one},{row},{values[one, row]},{label(one, row)}" for one in range(recordings) for row in range(ROWS)]
    (folder / "d.csv").write_text("\n".join(["id,t,x,label", *lines]) + "\n", "utf-8")
    return TimeSeries(str(folder), target="label", recording="id", window=6, hop=3, **keys)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "label",
    [lambda one, _: "fault" if one % 2 else "ok", lambda one, row: "fault" if one % 2 and row > 9 else "ok"],
    ids=["of the recording", "of its rows"],
)
def test_recordings_of_a_table_are_dealt_by_their_classes(
    tmp_path: Path, seed: int, label: Callable[[int, int], object]
) -> None:
    data = _task(tmp_path, label, split_seed=seed).load()
    recordings = [set(split.extras["recording"].tolist()) for split in (data.train, data.val, data.test)]
    assert sum(map(len, recordings)) == len(set().union(*recordings))
    for split in (data.train, data.val, data.test):
        assert set(split.targets.tolist()) == {0, 1}
    assert not [line for line in data.remarks if " has no " in line]


def test_a_class_that_a_split_lacks_is_told(tmp_path: Path) -> None:
    remarks = _task(tmp_path, lambda one, _: "fault" if one == 0 else "ok").load().remarks
    assert any(line.startswith("val has no fault: ") for line in remarks)
    assert "fewer than 3 samples of fault (1)" in remarks
    remarks = _task(tmp_path, lambda _, row: "worn" if row > 27 else "new", split="time").load().remarks
    assert "train has no worn: it can't be learnt" in remarks


@pytest.mark.parametrize(
    ("label", "refused"),
    [
        (lambda one, row: f"{np.sin(one + row):.4f}", True),
        (lambda one, row: f"{np.sin(one + row):.4f}".replace(".", ","), True),
        (lambda one, row: one * ROWS + row, True),
        (lambda one, row: one * ROWS + row if row else "", True),
        (lambda one, _: one % 2, False),
        (lambda one, _: f"{one % 2}.0", False),
        (lambda one, _: one % 4 / 2, False),
        (lambda one, row: one * 2 + row // 15, False),
        (lambda one, row: f"c{one * ROWS + row}", False),
    ],
    ids=["fractions", "commas", "counter", "gaps", "0 and 1", "0.0 and 1.0", "halves", "16 numbered classes", "words"],
)
def test_a_column_of_measurements_is_no_column_of_classes(
    tmp_path: Path, label: Callable[[int, int], object], *, refused: bool
) -> None:
    task = _task(tmp_path, (lambda one, row: f'"{label(one, row)}"'))
    if not refused:
        task.fingerprint()
        return
    with pytest.raises(InputError, match=r"column 'label' has .* different numbers in 240 rows, .*task\.predict = 'nu"):
        task.fingerprint()


def test_what_is_held_out_in_time_is_behind_what_is_trained_on_whatever_gaps_there_are(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 60))
    for number, own in enumerate(values):
        lines = [f"{1000 * (row // 20) + row},{own[row]:.3f},{own[row - 1]:.3f}" for row in range(60)]
        (tmp_path / f"{number}.csv").write_text("\n".join(["t,x,y", *lines]) + "\n", "utf-8")
    task = TimeSeries(str(tmp_path), predict="number", target="y", time="t", split="time", window=3, hop=1)
    data = task.load()
    for name in ("0.csv", "1.csv"):
        train, val, test = (
            split.extras["line"][split.extras["recording"] == name] for split in (data.train, data.val, data.test)
        )
        assert train.max() < val.min() <= val.max() < test.min()
        assert (len(train), len(val), len(test)) == (
            18 + 18 + 1,
            7,
            7,
        )  # the first one ends at a piece's third row, or last one


def test_raw_inputs_are_those_of_the_samples_where_files_have_recordings_of_one_name(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        lines = [f"{one},{row},{generator.normal():.3f},{row}" for one in range(8) for row in range(ROWS)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,t,x,y", *lines]) + "\n", "utf-8")
    task = TimeSeries(str(tmp_path), predict="number", target="y", recording="id", time="t", window=6, hop=3)
    data = task.load()
    front_end = task.front_end(data.preprocessing)
    for wanted, raw in zip(data.val.inputs, task.raw_inputs(data.val, np.arange(len(data.val))), strict=True):
        assert front_end.input_of(raw) == pytest.approx(wanted, abs=1e-6)
