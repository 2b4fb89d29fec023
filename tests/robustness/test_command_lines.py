"""A command line that can't be understood is told in one line; `benchmarks/fuzz.py` has them by the hundred."""

from __future__ import annotations

import sys

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


def test_a_command_by_itself_prints_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["qanas"])
    with pytest.raises(SystemExit) as ended:
        cli._main()
    assert ended.value.code == 2
    assert "Usage: " in "".join(capsys.readouterr())
