"""Damaged data ends with exit code 2 and one line that names file, line and mend; nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Workplace

TRAIN = "train_FD001.txt"
TEST = "test_FD001.txt"
RUL = "RUL_FD001.txt"

Damage = Callable[[list[str]], list[str]]


def line(number: int, change: Callable[[list[str]], list[str]]) -> Damage:
    """Change the words of one line."""

    def damage(lines: list[str]) -> list[str]:
        lines[number - 1] = " ".join(change(lines[number - 1].split()))
        return lines

    return damage


def word(position: int, text: str) -> Callable[[list[str]], list[str]]:
    """Put another word at a position from 0."""
    return lambda words: [*words[:position], text, *words[position + 1 :]]


@pytest.mark.parametrize(
    ("name", "damage", "expected"),
    [
        pytest.param(TRAIN, line(3, lambda words: words[:-1]), ["line 3", "25 columns", "26"], id="a column too few"),
        pytest.param(TEST, line(2, lambda words: [*words, "1.0"]), ["line 2", "27 columns"], id="a column too many"),
        pytest.param(TRAIN, line(7, word(9, "n/a")), ["line 7", "column 10", "'n/a'"], id="a non-number"),
        pytest.param(TRAIN, line(4, word(6, "nan")), ["line 4", "column 7", "nan"], id="NaN"),
        pytest.param(TEST, line(4, word(6, "inf")), ["line 4", "column 7", "inf"], id="infinity"),
        pytest.param(TRAIN, line(5, word(1, "9")), ["line 5", "cycle 9", "expected 5"], id="cycles that jump"),
        pytest.param(TRAIN, line(5, word(1, "4")), ["line 5", "cycle 4", "expected 5"], id="cycles that repeat"),
        pytest.param(TRAIN, lambda lines: lines[:25], ["line 25", "engine 2", "single cycle"], id="single cycle"),
        pytest.param(RUL, lambda lines: lines[:-1], ["3 lines", "expected 4", TEST], id="a RUL line too few"),
        pytest.param(RUL, lambda lines: [*lines, "7"], ["5 lines", "expected 4", TEST], id="a RUL line too many"),
        pytest.param(RUL, line(2, word(0, "-3")), ["line 2", "-3"], id="negative RUL"),
        pytest.param(TRAIN, lambda _: [], ["empty"], id="empty file"),
        pytest.param(TRAIN, lambda lines: lines[:24], ["1 engine", "at least 2"], id="one engine"),
    ],
)
def test_damaged_data(workplace: Workplace, name: str, damage: Damage, expected: list[str]) -> None:
    path = workplace.data / name
    lines = damage(path.read_text("ascii").splitlines())
    path.write_text("".join(f"{text}\n" for text in lines), "ascii")
    message = workplace.refusal("run", workplace.recipe())
    assert str(path) in message
    assert all(part in message for part in expected), message


@pytest.mark.parametrize("name", [TRAIN, RUL])
def test_a_binary_file(workplace: Workplace, name: str) -> None:
    (workplace.data / name).write_bytes(b"PK\x03\x04" + bytes(range(256)))
    message = workplace.refusal("run", workplace.recipe())
    assert str(workplace.data / name) in message
    assert "not plain text" in message


@pytest.mark.parametrize("name", [TRAIN, TEST, RUL])
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_missing_file(workplace: Workplace, command: str, name: str) -> None:
    (workplace.data / name).unlink()
    message = workplace.refusal(command, workplace.recipe())
    assert f"{workplace.data / name} is missing" in message
    assert "task.subset" in message


def test_a_missing_folder(workplace: Workplace, tmp_path: Path) -> None:
    message = workplace.refusal("run", workplace.recipe({"task": {"data": "nowhere"}}))
    assert "task.data" in message
    assert str(tmp_path / "nowhere") in message
    assert "give the folder" in message


def test_a_file_for_a_folder(workplace: Workplace) -> None:
    message = workplace.refusal("run", workplace.recipe({"task": {"data": f"data/{TRAIN}"}}))
    assert "is not a folder" in message


def test_a_subset_that_is_not_there(workplace: Workplace) -> None:
    message = workplace.refusal("run", workplace.recipe({"task": {"subset": "FD003"}}))
    assert str(workplace.data / "train_FD003.txt") in message


def test_an_unset_variable_in_the_path(workplace: Workplace) -> None:
    message = workplace.refusal("run", workplace.recipe({"task": {"data": "$NOPE/cmapss"}}))
    assert "task.data" in message
    assert "NOPE" in message
    assert "not set" in message


def test_a_variable_in_the_path(workplace: Workplace) -> None:
    workplace.environment["ENGINES"] = str(workplace.data)
    try:
        assert workplace.qanas("check", workplace.recipe({"task": {"data": "$ENGINES"}})).code == 0
    finally:
        del workplace.environment["ENGINES"]
