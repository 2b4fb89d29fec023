"""Models that answer as a constant does are no success, wherever they are told of."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import tomli_w
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from qanas import api, cli
from qanas.core.card import Card, sound
from qanas.core.classes import Classes, Degenerate, confusion
from qanas.core.measures import Metric
from qanas.core.run_folder import RunFolder
from qanas.recipe import load_plan
from qanas.reporting.headline import print_models
from qanas.reporting.live import LiveDisplay
from qanas.reporting.report import write_report
from qanas.shipping.shipped import pick_model
from qanas.shipping.soundness import Scores, degenerate
from qanas.tasks.base import Task, TaskData
from qanas.tasks.samples import FloatArray, Split
from qanas.workflows.run import RunResult, run_search

RARE = 5


@dataclass(frozen=True)
class Defects(Task):
    """Tell defects, an eighth of the samples, by nothing that could tell them."""

    metrics: ClassVar[Mapping[str, Any]] = {"accuracy": "maximize"}
    losses: ClassVar[tuple[str, ...]] = ("cross_entropy",)

    def fingerprint(self) -> str:
        return "defects"

    def load(self) -> TaskData:
        train, val, test = map(self._split, (64, 40, 41))
        return TaskData(train, val, test, 2, preprocessing={"classes": ["sound", "defect"]})

    def _split(self, count: int) -> Split:
        inputs = np.random.default_rng(count).normal(0, 0.002, size=(count, 3)).astype(np.float32)
        return Split(inputs, (np.arange(count) % 8 == 0).astype(np.int64))

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        del kind
        return functional.cross_entropy(outputs, targets)

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        return {"accuracy": float((outputs.argmax(1) == split.targets).mean())}


TABLES: dict[str, dict[str, Any]] = {
    "task": {"name": "tests.workflows.test_degenerate:Defects"},
    "space": {"name": "dense", "max_units": 4, "seed_units": 4},
    "strategy": {"name": "random", "trials": 2},
    "estimation": {"epochs": 12, "calibration_samples": 64},
    "objectives": {"accuracy_quantized": "maximize", "weight_bytes": "minimize"},
    "finalists": {"count": 1, "seeds": 1},
    "reference": {"tune": 0},
    "baselines": {"enabled": False},
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("defects")
    path = folder / "recipe.toml"
    path.write_text(tomli_w.dumps(TABLES), "utf-8")
    plan = load_plan(path)
    plan.check()
    return run_search(plan, RunFolder(folder / "run"), LiveDisplay(Console(file=io.StringIO())))


def test_a_model_that_never_answers_a_class_is_no_success(ran: RunResult) -> None:
    cards = ran.folder.cards()
    assert cards
    for card in cards.values():
        assert card.degenerate is not None
        assert card.degenerate.never_predicted == {"defect": RARE}
        assert card.degenerate.constant_reaches == {"accuracy": 35 / 40}
        assert card.classes is not None
        assert card.classes.confusion["val"] == [[35, 0], [RARE, 0]]
        assert card.classes.scores["test"]["defect"].recall == 0.0
        assert card.classes.scores["test"]["defect"].precision is None
        assert card.learning is not None
        assert len(card.learning.losses) == 12
        assert card.learning.train == {"accuracy": 0.8}
        assert card.described.endswith(" units, 8 bits") or card.described == "linear, 8 bits"
    assert {len(curve) for curve in pl.read_parquet(ran.folder.trials)["train_losses"]} == {12}
    told = "never predicts defect and is no better than a constant answer (accuracy 0.875)"
    terminal = io.StringIO()
    print_models(Console(file=terminal, width=1000), ran.folder)
    page = write_report(ran.folder).read_text("utf-8")
    for text in (terminal.getvalue(), page):
        assert told in text
        assert "None of the models that the search found is a success" in text
        assert "The smallest, " not in text
    assert "seed (degenerate)" in terminal.getvalue()
    assert pick_model(ran.folder, []).warning.endswith(f"it {told}")
    assert ran.folder.read_summary()["verdict"]["recommended"] == pick_model(ran.folder, []).identity
    assert any("No shipped model is a success" in line for line in ran.folder.read_summary()["verdict"]["sentences"])


def test_a_run_of_degenerate_models_alone_exits_with_1(
    ran: RunResult, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api, "run", lambda *_, **__: api.load(ran.folder.path))
    answer = cli._run(Path("recipe.toml"), [], ran.folder.path, watch=False)
    assert answer.code == cli.DIFFERENCE
    assert "nothing shipped that is worth shipping: every model is degenerate" in capsys.readouterr().err


def test_a_success_is_picked_and_headlined_in_its_place(ran: RunResult) -> None:
    folder = ran.folder
    cards = folder.cards()
    (found,) = (name for name in cards if name != "seed")
    scored = cards["seed"].metrics["deployed"]["val"]["accuracy"]
    worse = scored.model_copy(update={"shipped": 0.1, "mean": 0.1})
    changed = cards["seed"].model_copy(update={"degenerate": None})
    changed.metrics["deployed"]["val"]["accuracy"] = worse
    path = folder.model("seed") / "card.json"
    before = path.read_bytes()
    path.write_text(changed.to_json())
    try:
        picked = pick_model(folder, [])
        assert (picked.identity, picked.warning) == ("seed", "")
        assert list(sound(folder.cards())) == ["seed"]
        assert found not in sound(folder.cards())
    finally:
        path.write_bytes(before)


def test_what_a_constant_reaches() -> None:
    error = Metric("mae", better="minimize")
    constant: Scores = {"val": {"mae": 3.0}}
    assert degenerate(None, 2.9, error, constant) is None
    for scored in (3.0, 3.0 + 1e-12, 4.0, float("nan")):
        found = degenerate(None, scored, error, constant)
        assert found is not None
        assert found.told() == "is no better than a constant answer (mae 3)"
    assert degenerate(None, 4.0, error, {}) is None, "nothing is known of a constant"


def test_classes_are_counted_without_void() -> None:
    counts = confusion(np.array([0, 1, 1, 0]), np.array([0, 1, 255, 2]), 3)
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    classes = Classes.of({"val": counts}, ["a", "b", "c"])
    assert classes.never_predicted("val") == {"c": 1}
    assert (
        Degenerate(never_predicted=dict.fromkeys("abcdef", 1)).told() == "never predicts a, b, c, d and 2 more classes"
    )
    rare, none = Degenerate(never_predicted={"pole": 1}), Degenerate(constant_reaches={"miou": 0.2})
    cards = {name: Card.model_construct(degenerate=found) for name, found in (("x", rare), ("y", rare), ("z", none))}
    assert sound(cards).keys() == {"x", "y"}, "none is a success: those that lack rare classes come closest"
