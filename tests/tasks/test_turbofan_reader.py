import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qanas.core.errors import InputError
from qanas.tasks.turbofan import Turbofan
from qanas.tasks.turbofan.reader import SubsetFiles, read_rul, read_table, read_trajectories

TRAIN = "train_FD001.txt"


def load_message(folder: Path) -> str:
    """The error's message: one line that starts with the file."""
    with pytest.raises(InputError) as caught:
        Turbofan(str(folder)).load()
    message = str(caught.value)
    assert "\n" not in message
    return message


def change_line(folder: Path, line: int, change: Callable[[list[str]], list[str]], name: str = TRAIN) -> None:
    path = folder / name
    lines = path.read_text(encoding="ascii").splitlines(keepends=True)
    lines[line - 1] = " ".join(change(lines[line - 1].split())) + "  \n"
    path.write_text("".join(lines), encoding="ascii")


def put(column: int, text: str) -> Callable[[list[str]], list[str]]:
    return lambda words: [*words[: column - 1], text, *words[column:]]


def test_missing_folder(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    for call in (Turbofan(str(missing)).load, Turbofan(str(missing)).fingerprint):
        with pytest.raises(InputError, match=f"{missing} does not exist: give the folder"):
            call()


def test_a_file_for_a_folder(raw: Path) -> None:
    assert "is not a folder" in load_message(raw / TRAIN)


@pytest.mark.parametrize("name", [TRAIN, "test_FD001.txt", "RUL_FD001.txt"])
def test_missing_file(raw: Path, name: str) -> None:
    (raw / name).unlink()
    assert f"{raw / name} is missing" in load_message(raw)
    with pytest.raises(InputError, match=name):
        Turbofan(str(raw)).fingerprint()


def test_other_subset(raw: Path) -> None:
    with pytest.raises(InputError, match=r"train_FD004\.txt is missing.*task\.subset"):
        Turbofan(str(raw), subset="FD004").load()


@pytest.mark.parametrize(("drop", "found"), [(slice(0, 25), 25), (slice(0, 1), 1), (slice(0, 0), 0)])
@pytest.mark.parametrize("line", [1, 40, 170])
def test_too_few_columns(raw: Path, line: int, drop: slice, found: int) -> None:
    change_line(raw, line, lambda words: words[drop])
    # A file that ends in blank lines is fine, which makes a blank last line a short engine.
    if (line, found) == (170, 0):
        assert "engine 7 has a single cycle" in load_message(raw)
    else:
        assert f"{raw / TRAIN}, line {line}: found {found} columns, expected 26" in load_message(raw)


@pytest.mark.parametrize("line", [1, 3, 170])
@pytest.mark.parametrize("more", [1, 2, 3, 100])
def test_too_many_columns(raw: Path, line: int, more: int) -> None:
    change_line(raw, line, lambda words: [*words, *["1.5"] * more])
    assert f"{raw / TRAIN}, line {line}: found {26 + more} columns, expected 26" in load_message(raw)


@pytest.mark.parametrize("text", ["abc", "1,5", "1_000", "--", '"1.0"', "0x10", "1.2.3", "null"])
@pytest.mark.parametrize(("line", "column"), [(1, 1), (7, 2), (40, 5), (168, 26)])
def test_not_a_number(raw: Path, line: int, column: int, text: str) -> None:
    change_line(raw, line, put(column, text))
    message = load_message(raw)
    assert f"{raw / TRAIN}, line {line}, column {column}: " in message
    assert text in message
    assert "is not a number" in message


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-inf", "Infinity", "1e400", "1e300", "-2e9"])
@pytest.mark.parametrize(("line", "column"), [(1, 1), (2, 2), (40, 5), (168, 26)])
def test_not_finite(raw: Path, line: int, column: int, text: str) -> None:
    change_line(raw, line, put(column, text))
    message = load_message(raw)
    assert f"{raw / TRAIN}, line {line}, column {column}: " in message
    assert "is not a finite number" in message


@pytest.mark.parametrize("text", ["1.5", "0", "-1"])
@pytest.mark.parametrize("column", [1, 2])
def test_not_a_whole_number(raw: Path, column: int, text: str) -> None:
    change_line(raw, 5, put(column, text))
    assert f"line 5, column {column}: {('engine', 'cycle')[column - 1]} {text} is not a whole" in load_message(raw)


@pytest.mark.parametrize(
    ("line", "text", "engine", "expected"),
    [(1, "2", 1, 1), (10, "12", 1, 10), (10, "9", 1, 10), (36, "36", 2, 1), (170, "1", 7, 2)],
)
def test_cycles_out_of_order(raw: Path, line: int, text: str, engine: int, expected: int) -> None:
    change_line(raw, line, put(2, text))
    assert f"line {line}: engine {engine} has cycle {text}, expected {expected}" in load_message(raw)


def test_cycles_of_the_test_file(raw: Path) -> None:
    change_line(raw, 34, put(2, "2"), "test_FD001.txt")
    assert f"{raw / 'test_FD001.txt'}, line 34: engine 2 has cycle 2, expected 1" in load_message(raw)


def test_engines_not_grouped(raw: Path) -> None:
    lines = (raw / TRAIN).read_text(encoding="ascii").splitlines(keepends=True)
    swapped = [*lines[:35], *lines[-2:], *lines[35:47], lines[0], *lines[47:-2]]
    (raw / TRAIN).write_text("".join(swapped), encoding="ascii")
    assert "line 50: engine 1 starts again after another engine" in load_message(raw)


def test_single_cycle_in_training(raw: Path) -> None:
    lines = (raw / TRAIN).read_text(encoding="ascii").splitlines(keepends=True)
    (raw / TRAIN).write_text("".join(lines[:-1]), encoding="ascii")
    assert f"{raw / TRAIN}, line 169: engine 7 has a single cycle" in load_message(raw)


@pytest.mark.parametrize(("text", "found"), [("1\n2\n3\n", 3), ("1\n2\n3\n4\n5\n", 5)])
def test_rul_of_the_wrong_length(raw: Path, text: str, found: int) -> None:
    (raw / "RUL_FD001.txt").write_text(text, encoding="ascii")
    assert f"{raw / 'RUL_FD001.txt'}: found {found} lines, expected 4" in load_message(raw)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("1\n-2\n3\n4\n", "line 2: a remaining useful life of -2 cycles"),
        ("1\n2\nx\n4\n", "line 3, column 1: 'x' is not a number"),
        ("1\n2\n3 3\n4\n", "line 3: found 2 columns, expected 1"),
        ("1\n2\nnan\n4\n", "line 3, column 1: nan is not a finite number"),
        ("1\n\n3\n4\n", "line 2: found 0 columns, expected 1"),
    ],
)
def test_damaged_rul(raw: Path, text: str, part: str) -> None:
    (raw / "RUL_FD001.txt").write_text(text, encoding="ascii")
    assert f"{raw / 'RUL_FD001.txt'}, {part}" in load_message(raw)


@pytest.mark.parametrize("name", [TRAIN, "test_FD001.txt", "RUL_FD001.txt"])
@pytest.mark.parametrize("content", [b"", b" \n\n"])
def test_empty_file(raw: Path, name: str, content: bytes) -> None:
    (raw / name).write_bytes(content)
    assert f"{raw / name}: the file is empty" in load_message(raw)


@pytest.mark.parametrize("noise", [b"\0", b"\xff\xfe", "½".encode()])
def test_binary_file(raw: Path, noise: bytes) -> None:
    lines = (raw / TRAIN).read_bytes().splitlines(keepends=True)
    (raw / TRAIN).write_bytes(b"".join([*lines[:8], noise, *lines[8:]]))
    assert f"{raw / TRAIN}, line 9: not plain text" in load_message(raw)


def test_too_few_engines(raw: Path) -> None:
    lines = (raw / TRAIN).read_text(encoding="ascii").splitlines(keepends=True)
    (raw / TRAIN).write_text("".join(lines[:35]), encoding="ascii")
    assert "found 1 engine, expected at least 2" in load_message(raw)


def test_a_folder_in_a_files_place(raw: Path) -> None:
    (raw / TRAIN).unlink()
    (raw / TRAIN).mkdir()
    assert f"{raw / TRAIN} is missing" in load_message(raw)


def test_all_sensors_constant(raw: Path) -> None:
    lines = (raw / TRAIN).read_text(encoding="ascii").splitlines()
    constant = [" ".join([*line.split()[:5], *["0.1"] * 21]) for line in lines]
    (raw / TRAIN).write_text("\n".join(constant), encoding="ascii")
    assert "every sensor is constant" in load_message(raw)


@pytest.mark.parametrize(
    "write",
    [
        lambda text: text.replace("  \n", "\n"),
        lambda text: text.replace("  \n", "\r\n"),
        lambda text: text.replace("  \n", "  \r\n"),
        lambda text: text.replace(" ", "\t"),
        lambda text: text.replace(" ", "   "),
        lambda text: "  " + text.rstrip(),
        lambda text: text + "\n\n",
    ],
)
def test_white_space_does_not_matter(raw: Path, write: Callable[[str], str]) -> None:
    plain = read_trajectories(raw / TRAIN)
    path = raw / "other.txt"
    path.write_bytes(write((raw / TRAIN).read_text(encoding="ascii")).encode())
    other = read_trajectories(path)
    np.testing.assert_array_equal(other.sensors, plain.sensors)
    np.testing.assert_array_equal(other.engine, plain.engine)


def test_numbers_are_those_of_python(raw: Path) -> None:
    lines = (raw / TRAIN).read_text(encoding="ascii").splitlines()
    expected = [[float(word) for word in line.split()] for line in lines]
    np.testing.assert_array_equal(read_table(raw / TRAIN, 26), expected)


def test_rows_know_their_engine(raw: Path) -> None:
    rows = read_trajectories(raw / TRAIN)
    assert rows.engines.tolist() == [1, 2, 3, 4, 5, 7]
    assert rows.last_rows.tolist() == [34, 46, 76, 107, 167, 169]
    for row, (first, last) in enumerate(zip(rows.first, rows.last, strict=True)):
        assert first == row - rows.cycle[row] + 1
        assert rows.engine[first] == rows.engine[last] == rows.engine[row]


def test_fractional_rul_is_read(raw: Path) -> None:
    (raw / "RUL_FD001.txt").write_text("1\n2.5\n3\n4", encoding="ascii")
    assert read_rul(raw / "RUL_FD001.txt", 4, "test").tolist() == [1.0, 2.5, 3.0, 4.0]


def test_digest_depends_on_content_alone(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(raw, other)
    digest = SubsetFiles.find(raw, "FD001").digest()
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert SubsetFiles.find(other, "FD001").digest() == digest
    for name in (TRAIN, "test_FD001.txt", "RUL_FD001.txt"):
        before = (other / name).read_bytes()
        (other / name).write_bytes(before + b"\n")
        assert SubsetFiles.find(other, "FD001").digest() != digest
        (other / name).write_bytes(before)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.sampled_from([TRAIN, "test_FD001.txt", "RUL_FD001.txt"]),
    place=st.floats(0, 1),
    length=st.integers(0, 200),
    noise=st.one_of(st.binary(max_size=8), st.text("0123456789.-+eE \n\t\"'#,nainf", max_size=8).map(str.encode)),
)
def test_any_damage_is_an_input_error_or_loads(raw: Path, name: str, place: float, length: int, noise: bytes) -> None:
    original = (raw / name).read_bytes()
    start = int(place * len(original))
    (raw / name).write_bytes(original[:start] + noise + original[start + length :])
    try:
        data = Turbofan(str(raw)).load()
    except InputError as error:
        assert str(raw / name) in str(error) or "test_FD001.txt has" in str(error)  # noqa: PT017
    else:
        assert np.isfinite(data.train.inputs).all()
    finally:
        (raw / name).write_bytes(original)
