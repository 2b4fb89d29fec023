"""The recipes of the repository: each is a valid plan, and says what its file is named for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from qanas.core.keys import flatten
from qanas.performance_estimation.block_tables import BlockTables
from qanas.planning.dependence import IRRELEVANT, STAGES
from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.tasks.segmentation import synthetic

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.toml"))


@pytest.fixture(scope="module", params=RECIPES, ids=lambda path: path.stem)
def shipped(request: pytest.FixtureRequest) -> Iterator[tuple[str, Plan]]:
    """Each recipe's name and plan, with hardly any data."""
    path: Path = request.param
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(synthetic, "SCENES", dict.fromkeys(synthetic.SCENES, 2))
        patched.setenv("QANAS_DATA", "/nowhere")
        own_folders = 'dataset = "folders"' in path.read_text("utf-8")
        generated = ["task.dataset=camvid", "task.classes=[]"] if own_folders else []
        yield path.stem, load_plan(path, ["task.data=synthetic", *generated])


def test_every_recipe_loads(shipped: tuple[str, Plan]) -> None:
    name, plan = shipped
    assert plan.finalists.count >= 3
    estimator = plan.estimator
    assert isinstance(estimator, BlockTables) == ("bwnas" in name)
    if isinstance(estimator, BlockTables):
        assert estimator.table.bits == ([4, 6, 8] if name.endswith("bits") else [8])


def test_every_key_of_a_recipe_is_known_to_a_stage_or_to_none(shipped: tuple[str, Plan]) -> None:
    _, plan = shipped
    patterns = [*IRRELEVANT, *(key for stage in STAGES.values() for key in stage.keys)]
    keys = flatten(plan.recipe)
    unknown = [k for k in keys if not any(k.startswith(p) if p.endswith(".") else k == p for p in patterns)]
    assert not unknown


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_every_recipe_of_a_benchmark_loads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QANAS_DATA", "/nowhere")
    assert load_plan(path, ["task.data=synthetic"]).measures
