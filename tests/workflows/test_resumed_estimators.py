"""A search that was interrupted between two trials goes on as one that wasn't, whatever estimates and proposes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from qanas.core.run_folder import RunFolder
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.testing.small import SmallSpace
from qanas.workflows.search import Search

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from qanas.core.candidate import Candidate
    from qanas.search_space.network_space import TaskShape

ESTIMATIONS: list[dict[str, Any]] = [
    {"name": "early_stopping", "epochs": 3, "rungs": [1, 2], "keep": 0.1},
    {"name": "learning_curve", "method": "learned", "epochs": 3, "chance": 0.6},
    {"name": "predictor", "epochs": 1, "anchors": 10, "min_tau": -1.0, "choose": "rounds"},
]


def searched(
    folder: Path, estimation: dict[str, Any], trials: int, space: str = "qanas.testing.small:SmallSpace"
) -> list[tuple[int, str, dict[str, float]]]:
    """Search until there are so many trials, and return what was proposed and said."""
    folder.mkdir(exist_ok=True)
    recipe = folder / "recipe.toml"
    tables = {
        "task": {"name": "qanas.testing.small:SmallTask"},
        "space": {"name": space},
        "strategy": {"name": "size_aware", "trials": trials, "startup_trials": 3},
        "estimation": {"calibration_samples": 8, **estimation},
        "objectives": {"accuracy_quantized": "maximize", "weight_bytes": "minimize"},
    }
    recipe.write_text(tomli_w.dumps(tables), "utf-8")
    plan = load_plan(recipe)
    plan.check()
    with LiveDisplay() as display:
        search = Search(plan, RunFolder(folder), display)
        search.run()
    return [(record.index, record.candidate.key, dict(record.metrics)) for record in search.store.records]


@pytest.mark.parametrize("estimation", ESTIMATIONS, ids=lambda estimation: str(estimation["name"]))
def test_a_resumed_search_equals_one_that_was_not_interrupted(tmp_path: Path, estimation: dict[str, Any]) -> None:
    whole = searched(tmp_path / "whole", estimation, 16 if "method" in estimation else 8)
    for trials in (4, len(whole)):
        resumed = searched(tmp_path / "resumed", estimation, trials)
    assert resumed == whole
    if estimation["name"] != "predictor":
        assert any(metrics["predicted_stopped"] for _, _, metrics in whole)


class Refusing(SmallSpace):
    """Networks that begin with a narrow layer can't be built."""

    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        if candidate.architecture["option_0_0"] == 0:
            raise ZeroDivisionError
        return super().build(candidate, shape)


@pytest.mark.parametrize("choose", ["random", "spread"])
def test_anchors_that_cannot_be_built_end_no_search(tmp_path: Path, choose: str) -> None:
    estimation = {"name": "predictor", "epochs": 1, "anchors": 40, "min_tau": -1.0, "choose": choose}
    assert searched(tmp_path, estimation, 4, "tests.workflows.test_resumed_estimators:Refusing")
