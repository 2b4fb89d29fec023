"""Bad tables of readings: taken as people expect, or refused in one line that names file, line, column and mend."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.tasks.bad_folders import Case, both, refused, taken, try_case, write

from qanas.core.errors import InputError
from qanas.tasks.tables import read_table
from qanas.tasks.timeseries import TimeSeries

ROWS, COUNT = 12, 5
FILE = "walk/0.csv"


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    for number, label in enumerate(("run", "walk")):
        for index in range(COUNT):
            values = np.random.default_rng([number, index]).normal(size=(ROWS, 2)).round(3)
            lines = [f"{row},{x},{y}" for row, (x, y) in enumerate(values)]
            write(folder / label / f"{index}.csv", "\n".join(["t,x,y", *lines]) + "\n")
    return folder


def edit(old: str, new: str, name: str = FILE) -> Any:  # noqa: ANN401
    """Return a change of a file's text."""

    def change(folder: Path) -> None:
        path = folder / name
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")

    return change


def line(number: int, text: str, name: str = FILE) -> Any:  # noqa: ANN401
    """Return a change of one line, from 1."""

    def change(folder: Path) -> None:
        lines = (folder / name).read_text("utf-8").splitlines()
        lines[number - 1 : number] = [text] if text else []
        write(folder / name, "\n".join(lines) + "\n")

    return change


def everywhere(change: Any) -> Any:  # noqa: ANN401
    """Return a change of every file's content."""

    def all_changed(folder: Path) -> None:
        for path in sorted(folder.glob("*/*.csv")):
            path.write_bytes(change(path.read_text("utf-8")))

    return all_changed


def german(text: str) -> bytes:
    return text.replace(",", ";").replace(".", ",").encode()


def to_parquet(folder: Path) -> None:
    for path in sorted(folder.glob("*/*.csv")):
        pl.read_csv(path).write_parquet(path.with_suffix(".parquet"))
        path.unlink()


def zipped(folder: Path) -> None:
    path = folder / FILE
    write(folder / f"{FILE}.gz", gzip.compress(path.read_bytes()))
    path.unlink()


def one_file(folder: Path) -> None:
    """Put all into one table, wear.csv, with a number to be told."""
    rows = ["machine,t,x,wear"]
    for machine in range(6):
        rows += [f"m{machine},{row},{(row * 7 + machine) % 5},{row + machine}" for row in range(ROWS)]
    for path in sorted(folder.glob("*/*.csv")):
        path.unlink()
    write(folder / "wear.csv", "\n".join(rows) + "\n")


def classes_in_parquet(folder: Path) -> None:
    """Write classes as numbers, one of them missing as data frames have it: NaN."""
    table = pl.read_csv(folder / "wear.csv").with_columns((pl.col("wear") % 2).cast(pl.Float64))
    missing = (pl.col("machine") == "m0") & (pl.col("t") == ROWS - 1)
    column = pl.when(missing).then(float("nan")).otherwise(pl.col("wear")).alias("wear")
    table.with_columns(column).write_parquet(folder / "wear.parquet")
    (folder / "wear.csv").unlink()


NUMBER = {"predict": "number", "target": "wear", "recording": "machine", "time": "t"}
DATES = [f"2026-11-29 12:{row:02d}:00" for row in range(ROWS)]


def dated(text: str) -> bytes:
    lines = text.splitlines()
    return "\n".join([lines[0], *(f"{d},{x.split(',', 1)[1]}" for d, x in zip(DATES, lines[1:], strict=True))]).encode()


def untouched(folder: Path) -> None:
    pass


CONSTANT = "\n".join(["t,x,y", *(f"{row},1,1" for row in range(ROWS))]).encode()


def shape(*sides: int) -> Any:  # noqa: ANN401
    return lambda data: data.train.input_shape == sides


CASES = [
    taken("nothing wrong", untouched, check=shape(4, 2)),
    # Dialects
    taken("decimal commas", everywhere(german), check=shape(4, 2)),
    taken("tabs", everywhere(lambda text: text.replace(",", "\t").encode()), check=shape(4, 2)),
    taken("UTF-16", everywhere(lambda text: text.encode("utf-16")), check=shape(4, 2)),
    taken("a byte order mark", everywhere(lambda text: b"\xef\xbb\xbf" + text.encode()), check=shape(4, 2)),
    taken("Excel's line", everywhere(lambda text: b"sep=,\r\n" + text.encode()), check=shape(4, 2)),
    taken("comments in front", everywhere(lambda text: b"# watch 3\n" + text.encode()), check=shape(4, 2)),
    taken("a trailing comma", everywhere(lambda text: text.replace("\n", ",\n").encode()), check=shape(4, 2)),
    taken("a trailing comma in all rows but the header",
          everywhere(lambda text: text.replace("\n", ",\n").replace("y,", "y", 1).encode()), check=shape(4, 2)),
    taken("an empty last column", everywhere(lambda text: text.replace("\n", ",\n").replace("y,", "y,z", 1).encode()),
          check=shape(4, 2), channels=("x", "y")),
    taken("blanks", everywhere(lambda t: t.replace(",", "   ").replace("\n", " \n ").encode()), check=shape(4, 2)),
    taken("blanks and quotes", everywhere(lambda t: t.replace("t,x,y", '"t","x","y y"').replace(",", "  ").encode()),
          check=shape(4, 2), channels=("x", "y y")),
    taken("a text beside tables of one class", lambda f: write(f / "run/x.txt", "t,x,y\n1,2,3\n"),
          "1 texts (.txt) beside other tables: left out", check=shape(4, 2)),
    taken("notes", both(lambda f: write(f / "walk/README.txt", "Notes"), lambda f: write(f / "README.txt", "Notes")),
          check=shape(4, 2)),
    taken("notes beside one file", both(one_file, lambda f: write(f / "notes.txt", "Of us.\nAnd, of all")),
          "1 texts (.txt) beside other tables: left out", check=shape(4, 1), **NUMBER),
    taken("quotes", edit("t,x,y", '"t","x","y"'), check=shape(4, 2)),
    taken("no header", everywhere(lambda text: text.split("\n", 1)[1].encode()), "columns are called 1 to 3", time="1"),
    taken("row numbers", everywhere(lambda text: text.replace("t,", ",t,", 1).replace("\n", "\n7,").encode()[:-2]),
          check=shape(4, 2)),
    taken("a column of texts", everywhere(lambda text: text.replace("\n", ",a\n").replace("y,a", "y,note").encode()),
          check=shape(4, 2)),
    taken("Parquet", to_parquet, check=shape(4, 2)),
    taken("gzip", zipped, check=shape(4, 2)),
    taken("other capitals", untouched, check=shape(4, 1), channels=("X",)),
    refused("a spreadsheet", lambda f: write(f / FILE, b"PK\x03\x04xl"), "walk/0.csv: an archive or a spreadsheet"),
    refused("damaged gzip", both(zipped, lambda f: write(f / f"{FILE}.gz", b"\x1f\x8b\x08...")), "damaged gzip"),
    refused("a damaged Parquet file", lambda f: write(f / "walk/9.parquet", b"PAR1"), "not a Parquet file"),
    refused("an open quote", line(5, '3,"0.1,0.2'), "walk/0.csv: line", "mend its quotes"),
    refused("an empty file", lambda f: write(f / FILE, ""), "walk/0.csv: empty"),
    refused("a header alone", lambda f: write(f / FILE, "t,x,y\n"), "no rows"),
    # Values
    taken("a missing value", line(4, "2,,0.5"), "missing values: x 1"),
    taken("a question mark", line(2, "0,?,0.5"), "missing values: x 1"),
    taken("NaN", line(2, "0,nan,0.5"), "missing values: x 1"),
    taken("a constant channel", everywhere(lambda t: t.replace("\n", ",7\n").replace("y,7", "y,z").encode()),
          "constant in training, left out: z", shape(4, 2)),
    refused("a word", line(4, "2,high,0.5"), "walk/0.csv: line 4, column 'x': 'high' is no number"),
    refused("infinity", line(4, "2,inf,0.5"), "line 4, column 'x': infinite"),
    refused("no value at all", lambda f: write(f / FILE, "t,x,y\n0,,1\n1,,2\n"), "walk/0.csv", "'x'"),
    refused("uneven blanks", both(everywhere(lambda t: t.replace(",", " ").encode()), line(4, "2 0.5")), "walk/0.csv"),
    refused("a column too few", line(4, "2,0.5"), "line 4: 2 columns, the header has 3"),
    refused("decimal commas between commas", line(4, "2,0,0,5,1,5"), "line 4: 6 columns", "decimal commas"),
    refused("another header", edit("t,x,y", "t,x,z"), "walk/0.csv: no column 'y'", "same columns"),
    refused("a column twice", edit("t,x,y", "t,x,x"), "the column 'x' is there twice"),
    refused("a column without name", edit("t,x,y", "t,,y"), "column 2 has no name"),
    refused("a channel that isn't there", untouched, "task.channels", "no column 'w'", channels=("w",)),
    refused("a channel twice", untouched, "task.channels: 'x' is there twice", channels=("x", "y", "X")),
    refused("the target as a channel", one_file, "task.channels: 'wear' is what is predicted", channels=("x", "WEAR"),
            **NUMBER),
    taken("the target's past", one_file, check=shape(4, 2), channels=("x", "wear"), horizon=2, **NUMBER),
    refused("a class missing in Parquet", both(one_file, classes_in_parquet), "column 'wear': no class",
            target="wear", recording="machine", time="t"),
    refused("all of it constant", everywhere(lambda _: CONSTANT), "channel is constant", split="time"),
    # Time
    taken("a gap", line(13, "99,0.1,0.2"), "1 gaps in time"),
    taken("dates", everywhere(dated), check=shape(4, 2)),
    taken("German dates", everywhere(lambda t: dated(t).replace(b"2026-11-29", b"29.11.2026")), check=shape(4, 2)),
    refused("a time twice", line(5, "2,0.1,0.2"), "walk/0.csv: line 5, column 't': the time of the line before"),
    refused("back in time", line(5, "1.5,0.1,0.2"), "line 5", "back in time: sort the lines"),
    refused("no time", line(5, ",0.1,0.2"), "line 5, column 't': no time"),
    refused("a time that is none", both(everywhere(dated), line(5, "noon,0.1,0.2")), "'noon' is no time"),
    refused("no such column of times", untouched, "task.time", "no column 'when'", time="when"),
    # Lengths
    taken("shorter than a window", lambda f: write(f / FILE, "t,x,y\n0,1,2\n1,2,3\n"), check=shape(4, 2)),
    taken("one row", lambda f: write(f / FILE, "t,x,y\n0,1,2\n"), check=shape(4, 2)),
    refused("too few recordings", lambda f: [(p.unlink(), 0) for p in sorted(f.glob("*/[1-9].csv"))],  # type: ignore[func-returns-value]
            "nothing is left for", "task.split = 'time'"),
    # Numbers
    taken("one file", one_file, check=shape(4, 1), **NUMBER),
    taken("a file by its name", one_file, check=shape(4, 1), file="wear.csv", **NUMBER),
    taken("a forecast", one_file, check=shape(4, 2), horizon=2, **NUMBER),
    taken("a target missing", both(one_file, line(13, "m0,11,3,", "wear.csv")), check=shape(4, 1), **NUMBER),
    taken("the last part", one_file, check=shape(4, 1), split="time", **NUMBER),
    refused("no target", one_file, "task.target: missing", predict="number"),
    refused("one file, no target", one_file, "task.target", "name the column", file="wear.csv"),
    refused("a target that isn't there", one_file, "task.target", "no column 'ware': did you mean 'wear'?",
            **NUMBER | {"target": "ware"}),
    refused("a target of words", both(one_file, line(7, "m0,5,3,new", "wear.csv")), "line 7, column 'wear'", **NUMBER),
    refused("one target alone", both(one_file, lambda f: write(f / "wear.csv", "".join(
        ["machine,t,x,wear\n", *(f"m{m},{r},{(r + m) % 7},5\n" for m in range(6) for r in range(9))]))),
        "is 5", **NUMBER),
    refused("recordings not told apart", one_file, "back in time", "task.recording", **NUMBER | {"recording": None}),
    refused("a recording without name", both(one_file, line(3, ",1,2,3", "wear.csv")), "line 3", "name the recording",
            **NUMBER),
    refused("a recording of two groups", one_file, "line 3", "a recording is of one group", group="t",
            **NUMBER | {"time": None}),
    refused("further than the series", one_file, "task.horizon", horizon=40, split="time", **NUMBER),
    refused("a change without horizon", one_file, "task.change", change=True, **NUMBER),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_folder_of_series(case: Case, sound_folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"time": "t", "window": 4, "hop": 3} | case.settings
    file = settings.pop("file", "")
    try_case(case, sound_folder, tmp_path, lambda name: TimeSeries(str(Path(name) / file), **settings))


def test_remaining_life_counts_down_to_the_end_of_each_recording_over_gaps(tmp_path: Path) -> None:
    for index in range(6):
        rows = [f"{row if row < 8 else row + 50},{index + row % 3}" for row in range(12)]
        write(tmp_path / f"{index}.csv", "\n".join(["t,x", *rows]) + "\n")
    data = TimeSeries(str(tmp_path), predict="life", life_cap=9, time="t", window=3, hop=1, first_end=1).load()
    whole = data.val.targets[:, 0] + data.preprocessing["output_offset"]
    assert whole.round(4).tolist() == [9, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0] * (len(whole) // 12)
    with pytest.raises(InputError, match="leave out"):
        TimeSeries(str(tmp_path), predict="life", target="x").load()
    with pytest.raises(InputError, match="only with"):
        TimeSeries(str(tmp_path), life_cap=9).load()


def test_quotes_between_blanks_may_go_over_lines(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    write(path, '"time"  "what was seen"\n1  "a\nb"\n2  c\n')
    table = read_table(path)
    assert table.columns == ["time", "what was seen"]
    assert table.lines.tolist() == [3, 4]  # a row is where it ends
