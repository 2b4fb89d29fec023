"""Tables as loggers, spreadsheets and data frames write them: separators, times, and classes that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import time, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from qanas.core.errors import InputError
from qanas.recipe.new import suggestion_for
from qanas.tasks.tables import Table, read_table
from qanas.tasks.timeseries import TimeSeries
from qanas.tasks.timeseries.times import seconds_of

ROWS = 30


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Zeit, s;Beschleunigung, g", "0,02;1,500"),
        ("Zeit;x, g;y, g;z, g", "0,1;2,3;4,5;6,7"),
        ("time;name, first", '1.5;"a, b"'),
        ("time, s;name, first", '1.5;"a,\nb"'),
    ],
)
def test_a_header_with_commas_in_its_names(tmp_path: Path, header: str, row: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n" + f"{row}\n" * 60, "utf-8")
    table = read_table(path)
    assert table.columns == header.split(";")
    if "first" not in header:
        last = float(row.rpartition(";")[2].replace(",", "."))
        assert table.numbers(table.columns[-1]).tolist() == [last] * 60


def test_lines_that_end_in_a_separator_but_for_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time, s;current, A\n0,1;2,5;\n0,2;2,6;\n", "utf-8")
    assert read_table(path).columns == ["time, s", "current, A"]


def test_a_header_with_a_semicolon_in_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y;z,w\n1,2,3\n", "utf-8")
    assert read_table(path).columns == ["x", "y;z", "w"]


def times(values: Sequence[object]) -> list[float]:
    table = Table(Path("a.csv"), pl.DataFrame({"t": values}), np.arange(2, len(values) + 2))
    found = seconds_of(table, "t")
    return [float(value) for value in found - found[0]]


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["20240331115959", "20240331120000"], 1),
        (["11/01/2024 23:59", "12/01/2024 00:00"], 60),  # of January: else a month would be between them
        (["31/01/2024 10:00", "31/01/2024 10:01"], 60),
        (["01/31/2024 10:00", "01/31/2024 10:01"], 60),
        (["2024/01/01 10:00", "2024/01/01 10:02"], 120),
        (["01.02.2024 10:00:00.250", "01.02.2024 10:00:00.500"], 0.25),
        (["11:30:00 AM", "12:30:00 PM"], 3600),
        (["12:00:00", "12:00:01"], 1),
        (["12:00:00", "12:00:00.5"], 0.5),
        (["23:59:59", "00:00:01"], 2),
        (["29.11.2026 23:00", "30.11.2026"], 3600),
        (["20000000000001", "20000000000003"], 2),
        (["12:00:00,5", "12:00:01,5"], 1),
        (["2024-01-01T10:00:00Z", "2024-01-01T11:00:01+01:00"], 1),
        ([timedelta(seconds=3), timedelta(seconds=5)], 2),
        ([time(10, 0, 0), time(10, 0, 7)], 7),
        (["0.25", "0.75"], 0.5),
    ],
)
def test_times(values: Sequence[object], seconds: float) -> None:
    assert times(values) == pytest.approx([0, seconds])


def test_a_time_of_another_form_is_told_with_its_line() -> None:
    told = r"a\.csv: line 3, column 't': '2024-01-01 10:00:00' is no time of the form of those before: write seconds"
    with pytest.raises(InputError, match=told):
        times(["01.02.2024 10:00:00", "2024-01-01 10:00:00"])
    with pytest.raises(InputError, match=r"line 2, column 't': 'noon' is no time: write seconds, .* leave task\.time"):
        times(["noon", "1"])


def write_classes(folder: Path, clock: str, times_of: Sequence[str], count: int = 5) -> None:
    for number, label in enumerate(("rest", "run")):
        (folder / label).mkdir(parents=True)
        for index in range(count):
            values = np.random.default_rng([number, index]).normal(size=len(times_of)).round(3)
            lines = [f"{clock},x", *(f"{time_},{value}" for time_, value in zip(times_of, values, strict=True))]
            (folder / label / f"{index}.csv").write_text("\n".join(lines) + "\n", "utf-8")


@pytest.mark.parametrize("clock", ["time [s]", "Time (s)", "time_ms", "timestamp", "t"])
def test_a_clock_is_known_with_its_unit(tmp_path: Path, clock: str) -> None:
    write_classes(tmp_path, clock, [str(row) for row in range(ROWS)])
    assert ("time", clock) in [key[:2] for key in suggestion_for(tmp_path).keys]


def test_times_that_stand_still_are_no_channel_and_no_time(tmp_path: Path) -> None:
    write_classes(tmp_path, "time", [f"10:00:{row // 10:02d}" for row in range(ROWS)])
    keys = {key: value for key, value, _ in suggestion_for(tmp_path).keys}
    assert "time" not in keys
    assert keys["channels"] == ["x"]


def test_a_channel_that_is_a_clock_is_told(tmp_path: Path) -> None:
    write_classes(tmp_path, "ticks", [str(row) for row in range(ROWS)])
    data = TimeSeries(str(tmp_path), window=5, val_fraction=0.2, test_fraction=0.2).load()
    told = "column 'ticks' rises from row to row in every recording, as a clock does: name it task.time"
    assert [told in remark for remark in data.remarks].count(True) == 1
    chosen = TimeSeries(str(tmp_path), window=5, channels=("ticks", "x"), val_fraction=0.2, test_fraction=0.2).load()
    assert not any("as a clock does" in remark for remark in chosen.remarks)


def write_states(folder: Path, states: Sequence[str]) -> None:
    for index in range(5):
        values = np.random.default_rng(index).normal(size=len(states)).round(3)
        lines = ["x,state", *(f"{value},{state}" for value, state in zip(values, states, strict=True))]
        (folder / f"{index}.csv").write_text("\n".join(lines) + "\n", "utf-8")


def states_in(folder: Path) -> TimeSeries:
    return TimeSeries(
        str(folder), window=2, hop=1, first_end=2, predict="class", target="state", val_fraction=0.2, test_fraction=0.2
    )


@pytest.mark.parametrize("missing", ["NaN", "nan", "", "?"])
def test_a_missing_class_is_none(tmp_path: Path, missing: str) -> None:
    write_states(tmp_path, ["on", "off", "on", missing, "on", "off"])
    told = r"line 5, column 'state': no class: give it one, or take the line away"
    with pytest.raises(InputError, match=told):
        states_in(tmp_path).load()


def test_null_may_be_a_class_and_one_may_be_written_with_a_fraction(tmp_path: Path) -> None:
    write_states(tmp_path, ["1.0", "Null", "1", "Null", "1.", "0"])
    assert states_in(tmp_path).load().preprocessing["classes"] == ["0", "1", "Null"]


def test_a_row_of_units_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,current,state\ns,mA,\n0,1.5,on\n1,2.5,off\n2,3.5,on\n3,4.5,on\n", "utf-8")
    table = read_table(path)
    assert table.numbers("current").tolist() == [1.5, 2.5, 3.5, 4.5]
    assert table.texts("state") == ["on", "off", "on", "on"]
    assert table.place(0) == f"{path}: line 3"
    assert table.remarks == (f"{path}: line 2 has units, s, mA, : left out",)
    path.write_text("file,label\n0.wav,noise\n1.wav,1\n2.wav,2\n3.wav,noise\n4.wav,3\n", "utf-8")
    assert len(read_table(path)) == 5
    path.write_text("time,current\nNaN,\n0,1.5\n1,2.5\n2,3.5\n", "utf-8")
    assert len(read_table(path)) == 4  # of missing values


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("value\n1,5\n2,5\n", r"line 2: 2 columns, the header has 1: are these decimal commas\? Separate columns by ;"),
        ("Device: X12\ntime,x\n0,1\n", r"line 2: 2 columns, the header has 1: is the first line a title\? Put # in"),
        ('x,y\n"1,234",2\n', r"column 'x': '1,234' is no number: write it without a comma, decimals with a point"),
    ],
)
def test_what_stands_in_the_way_is_told_with_its_mend(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=told):
        read_table(path).numbers("x")


def test_what_is_alike_in_many_files_is_told_once(tmp_path: Path) -> None:
    write_classes(tmp_path, "t", [str(row) for row in range(ROWS)])
    for path in tmp_path.glob("*/*.csv"):
        path.write_bytes(path.read_text("utf-8").replace("x", "Kr\u00e4fte").encode("cp1252"))
    data = TimeSeries(str(tmp_path), window=5, time="t", val_fraction=0.2, test_fraction=0.2).load()
    (remark,) = [remark for remark in data.remarks if "western" in remark]
    assert remark == f"{tmp_path / 'rest' / '0.csv'} and 9 more: no UTF-8: read in Windows' western code page"


def test_a_window_that_is_thinned_to_one_row_is_told(tmp_path: Path) -> None:
    write_classes(tmp_path, "t", [str(row) for row in range(ROWS)])
    task = TimeSeries(str(tmp_path), window=25, time="t", val_fraction=0.2, test_fraction=0.2)
    told = "one row alone of each window of 25 is given: see task.stride_in_window"
    assert told not in task.load().remarks
    assert told in task.with_input({"window": 25, "stride_in_window": 60}).load().remarks
