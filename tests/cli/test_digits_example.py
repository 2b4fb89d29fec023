"""The example of docs/your-own-network.md, as a new user would run it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from tests.cli.conftest import Workplace

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "digits"


def test_the_page_shows_the_files_as_they_are() -> None:
    page = (ROOT / "docs" / "your-own-network.md").read_text("utf-8")
    for name in ("digits.py", "digits.toml"):
        assert (EXAMPLE / name).read_text("utf-8") in page


def test_it_takes_at_most_40_lines_of_ones_own() -> None:
    lines = (EXAMPLE / "digits.py").read_text("utf-8").splitlines()
    own = [line for line in lines if line.strip() and not line.startswith(("import ", "from ", '"""'))]
    page = (ROOT / "docs" / "your-own-network.md").read_text("utf-8")
    assert len(own) <= 40
    assert f"it has {len(own)} lines" in " ".join(page.split())


def test_it_runs_to_a_front(workplace: Workplace) -> None:
    folder = workplace.folder
    for path in EXAMPLE.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    outcome = workplace.qanas(
        "run", folder / "digits.toml", "--out", folder / "run", "--set", "strategy.trials=2",
        "--set", "estimation.epochs=4", "--set", "finalists.count=1", "--set", "finalists.seeds=1",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    front = pl.read_csv(folder / "run" / "front.csv")
    assert front["accuracy_quantized"].max() > 0.8  # type: ignore[operator]
    card = json.loads((folder / "run" / "models" / "seed" / "card.json").read_text("utf-8"))
    assert card["input"]["shape"] == [1, 8, 8, 1]
    assert card["parity_steps"]["max"] == 0
    assert card["metrics"]["deployed"]["val"]["accuracy"]["mean"] > 0.8
