"""A command line that can't be understood is told in one line; `benchmarks/fuzz.py` has them by the hundred."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qanas import cli


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run", "Missing argument 'RECIPE'"),
        ("run x.toml --sett a=1", "No such option: --sett"),
        ("bogus", "No such command 'bogus'"),
        ("export a:b --out x", "Missing option '--calibration'"),
        ("pick somewhere --limit", "Option '--limit' requires an argument"),
        ("devices host two", "unexpected extra argument"),
        ("run nowhere.toml", "nowhere.toml: no such file"),
        ("profile m.tflite --out m.tflite", "--out m.tflite: a page is written there; name it *.html, such as m.html"),
        ("space a.toml --out a.toml", "--out a.toml: a page is written there"),
    ],
)
def test_it_is_told_in_one_line(
    line: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["qanas", *line.split()])
    with pytest.raises(SystemExit) as ended:
        cli._main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("qanas: ")
    assert words in err


@pytest.mark.parametrize("task", ['{ name = "images", data = "one/birds" }', '{ name = "images" }', '"images"'])
def test_a_recipe_of_another_folder_with_the_same_name_is_not_taken_for_this_ones(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("one", "other"):
        (tmp_path / place / "birds").mkdir(parents=True)
    (tmp_path / "birds.toml").write_text(f"task = {task}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["qanas", "run", "other/birds"])
    with pytest.raises(SystemExit) as ended:
        cli._main()
    assert ended.value.code == 2
    assert "birds.toml: it is of other data (" in capsys.readouterr().err


def test_a_recipe_that_was_begun_with_a_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one" / "birds").mkdir(parents=True)
    (tmp_path / "birds.toml").write_text('task = { name = "images", data = "$PLACE/birds" }\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLACE", "one")
    assert cli._of_data(Path("birds.toml"), Path("one/birds")) == Path("birds.toml")


def test_a_command_by_itself_prints_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["qanas"])
    with pytest.raises(SystemExit) as ended:
        cli._main()
    assert ended.value.code == 2
    assert "Usage: " in "".join(capsys.readouterr())
