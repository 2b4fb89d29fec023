"""A task and a space of one's own, beside the recipe, run whole through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Workplace

RUN = Path("runs") / "sine"


def recipe(place: Workplace, space: dict[str, Any]) -> Path:
    """Write a recipe for the sine task into a folder that is not the working directory."""
    folder = place.folder / "mine"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("sine.py"), folder)
    tables = {
        "task": {"name": "sine:Sine", "samples": 48},
        "space": space,
        "strategy": {"name": "tpe", "trials": 4},
        "estimation": {"epochs": 1},
        "objectives": {"r2_quantized": "maximize", "weight_bytes": "minimize"},
        "finalists": {"count": 1, "seeds": 2},
        "baselines": {"enabled": False},
        "run": {"seed": 0},
    }
    return place.with_tables(tables).recipe(name="mine/sine.toml")


SPACES = {
    "own": {"name": "sine:ConvOrLSTM", "most": 3},
    "lstm": {"name": "lstm", "max_units": 3, "seed_units": 3, "seed_layers": 1},
}


@pytest.mark.parametrize(("space", "jobs"), [("own", 1), ("lstm", 1), pytest.param("own", 2, marks=pytest.mark.slow)])
def test_a_task_and_a_space_of_ones_own(workplace: Workplace, space: str, jobs: int) -> None:
    path = recipe(workplace, SPACES[space])
    checked = workplace.qanas("check", path)
    assert checked.code == 0, checked.err
    assert not (path.parent / "__pycache__").exists()
    outcome = workplace.qanas("run", path, "--set", f"estimation.jobs={jobs}")
    # One epoch teaches little: a run of constant answers alone says so, and exits with 1.
    degenerate = "nothing shipped that is worth shipping: every model is degenerate\n"
    assert (outcome.code, outcome.err) in [(0, ""), (1, degenerate)]
    folder = workplace.folder / RUN
    assert pl.read_parquet(folder / "trials.parquet")["outcome"].to_list() == ["measured"] * 4
    card = json.loads((folder / "models" / "seed" / "card.json").read_text("utf-8"))
    assert card["metrics"]["deployed"]["test"].keys() == {"r2", "worst"}
    assert card["task"] == {"name": "sine:Sine", "samples": 48, "noise": 0.05, "level": 0.0}
    assert "TaskData.preprocessing" in card["protocol"]["preprocessing"]  # it gives none, which is told
    assert checked.out.count("TaskData.preprocessing") == outcome.out.count("TaskData.preprocessing") == 1
    assert "**Warning: preprocessing: " in (folder / "models/seed/firmware/README.md").read_text("utf-8")
    verified = workplace.qanas("verify", RUN)
    assert verified.code == 0, verified.out
    picked = workplace.qanas("pick", RUN)
    assert "best deployed validation r2" in picked.out
    scores = {
        model.parent.name: json.loads(model.read_text())["metrics"]["deployed"]["val"]["r2"]["shipped"]
        for model in folder.glob("models/*/card.json")
    }
    assert picked.out.startswith(f"{RUN}/models/{max(scores, key=lambda name: scores[name])}: ")


def test_options_of_ones_own_are_checked(workplace: Workplace) -> None:
    path = recipe(workplace, SPACES["own"])
    for setting, expected in {
        "task.sample=64": "task.sample: unknown key; did you mean 'samples'?",
        "task.samples=3": "task.samples: 3: input should be greater than or equal to 16",
        "space.most=many": "space.most: 'many': input should be a valid integer",
        "objectives.r2_float=minimize": "objectives.r2_float: 'minimize' would look for the worst; write 'maximize'",
        "objectives.r3_float=maximize": "did you mean 'r2_float'?",
    }.items():
        assert expected in workplace.refusal("run", path, "--set", setting)


def test_nothing_ships_is_a_difference(workplace: Workplace) -> None:
    path = recipe(workplace, SPACES["own"])
    outcome = workplace.qanas("run", path, "--set", "task.level=nan")
    assert outcome.code == 1
    assert "not shipped: seed: the training loss became nan" in outcome.line
    assert "0 models shipped, 1 failed; report: " in outcome.out
    assert (workplace.folder / RUN / "report.html").is_file()
