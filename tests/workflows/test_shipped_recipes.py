"""The recipes of the repository: each is a valid plan, and says what its file is named for."""

from pathlib import Path

import pytest

from qanas.performance_estimation.block_tables import BlockTables
from qanas.recipe import load_plan
from qanas.tasks.segmentation import synthetic

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "SCENES", dict.fromkeys(synthetic.SCENES, 2))
    own = ["task.dataset='camvid'", "task.classes=[]"] if "nuclei" in recipe.stem else []
    plan = load_plan(recipe, ["task.data=synthetic", *own])
    assert plan.finalists.count >= 3
    estimator = plan.estimator
    assert isinstance(estimator, BlockTables) == ("bwnas" in recipe.stem)
    if isinstance(estimator, BlockTables):
        assert estimator.table.bits == ([4, 6, 8] if recipe.stem.endswith("bits") else [8])
