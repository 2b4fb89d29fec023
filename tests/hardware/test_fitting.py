"""Devices that are fitted to measured pairs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from torch import nn

from qanas.core.errors import InputError
from qanas.hardware.device import Device
from qanas.hardware.fitting import fit, read_pairs, require_own, write_device
from qanas.hardware.latency.analytic import Analytic
from qanas.testing.costs import blueprint_of

TRUE = Analytic(method="analytic", source="made up", cycles={"convolution": 3.0, "depthwise": 8.0, "operator": 900.0})


def pairs(folder: Path, count: int) -> Path:
    """A table of networks whose milliseconds at 100 MHz follow a formula exactly."""
    lines = ["network,ms"]
    for number in range(count):
        channels, deep = 3 + 5 * (number % 4), number // 4 + 1
        layers = [nn.Conv2d(channels, channels, 3, padding=1, groups=channels) for _ in range(deep)]
        content = blueprint_of(nn.Conv2d(3, channels, 3), *layers).file
        (folder / f"n{number}.tflite").write_bytes(content)
        lines.append(f"n{number}.tflite,{TRUE.of([content])[0] / 100e3!r}")
    path = folder / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_formula_is_found_again_and_the_file_says_how_far_off_it_is(tmp_path: Path) -> None:
    found = fit(read_pairs(pairs(tmp_path, 8)), 100.0)
    assert dict(found.cycles) == pytest.approx(dict(TRUE.cycles), rel=1e-4)
    assert found.rank == pytest.approx(1.0)
    assert max(map(abs, found.errors)) < 1e-4
    write_device(tmp_path / "My board.toml", found, 100.0)
    device = Device.named(str(tmp_path / "My board.toml"))
    assert device.name == "my-board"
    said = "\n".join(device.lines())
    assert re.search(r"8 measured networks; each told from the others: off by 0\.0% on .*, rank 1\.000", said)
    assert said.count("published: n") == 8
    content = (tmp_path / "n3.tflite").read_bytes()
    assert device.figure("cycles", [content]) == pytest.approx(TRUE.of([content]), rel=1e-4)


def test_a_file_that_no_fit_wrote_is_not_replaced(tmp_path: Path) -> None:
    path = pairs(tmp_path, 8)
    with pytest.raises(InputError, match=r"pairs\.csv: a device's file is written there; name it \*\.toml"):
        require_own(path)
    own = tmp_path / "own.toml"
    require_own(own)
    for content in ('description = "our board"', "no TOML", ""):
        own.write_text(content)
        with pytest.raises(InputError, match=r"own\.toml: something is there that no fit wrote; name another file"):
            require_own(own)
    write_device(own, fit(read_pairs(path), 100.0), 100.0)
    require_own(own)


def test_of_few_pairs_fewer_numbers_are_told_and_of_too_few_none(tmp_path: Path) -> None:
    path = pairs(tmp_path, 5)
    assert list(fit(read_pairs(path), 100.0).cycles) == ["convolution", "depthwise"]
    with pytest.raises(InputError, match="4 measured networks are too few for a formula: measure 5 at least"):
        fit(read_pairs(path)[:4], 100.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("net,ms\n", r"pairs\.csv: it has no column 'network'; its first line has to be network,ms"),
        ("network,ms\nx.tflite,-1\n", r"line 2: ms is '-1', no positive number"),
        ("network,ms\nx.tflite,1\n", r"line 2: x\.tflite: No such file"),
        ("network,ms\npairs.csv,1\n", r"line 2: pairs\.csv: it is no .*\.tflite file"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=told) as caught:
        read_pairs(path)
    assert "\n" not in str(caught.value)
