"""The short form of the fuzz of exports: random networks with the habits of real code."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_some_random_networks_are_exported_right_or_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    fuzz = importlib.import_module("export_fuzz")
    found = list(fuzz.run(range(20)))
    bad = [one for one in found if one.kind in {"wrong", "traceback"}]
    assert not bad
    assert Counter(one.kind for one in found)["right"] >= 10
