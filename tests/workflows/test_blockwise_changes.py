"""A block-wise run goes on with a changed recipe: what is kept, what is made anew, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from tests.workflows.blockwise_runs import recipe, run, tables

from qanas.core.errors import InputError
from qanas.core.measures import Cost, columns_of
from qanas.core.run_folder import SEED_ID, RunFolder
from qanas.performance_estimation.block_table.files import BlockFiles
from qanas.performance_estimation.block_table.retrained import RetrainedUnit
from qanas.performance_estimation.block_tables import BlockTables
from qanas.planning.dependence import check_resumable, made_from
from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.reporting import headline
from qanas.reporting.live import LiveDisplay
from qanas.reporting.run_data import read_run
from qanas.search_space.blockwise_space import BlockwiseSpace
from qanas.search_space.network_space import TaskShape
from qanas.search_space.space import space_of
from qanas.tasks.segmentation import synthetic
from qanas.workflows.run import RunResult
from qanas.workflows.search import Search
from qanas.workflows.stages import RunStages

PACKED = {"weight_bytes": None, "packed_weight_bytes": "minimize"}
OTHER = {
    "pixel_accuracy_quantized": None,
    "pixel_error_quantized": "minimize",
    "weight_bytes": None,
    "macs": "minimize",
}
BOUND = 1100

RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = ("camvid_bwnas_int8.toml", "camvid_bwnas_bits.toml")
SHAPE = TaskShape((3, 96, 128), 11, 1.0, ("cross_entropy",))

BEFORE_TABLES = ("features/**/*", "blocks/*/supernet*", f"trainings/{SEED_ID}*/*")
TABLES_OF_BLOCKS = ("blocks/*/table-*",)


def other_recipe(folder: Path, bound: int = BOUND) -> Path:
    """Other objectives than the finished run's, its bits, and a limit."""
    return recipe(folder, table={"bits": [4, 8]}, objectives=OTHER, limits={"packed_weight_bytes": bound})


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The other recipe's run in a folder of its own."""
    folder = tmp_path_factory.mktemp("other")
    return run(other_recipe(folder), folder / "run")


@pytest.fixture
def continued(finished: tuple[Path, RunResult], tmp_path: Path) -> RunFolder:
    """A copy of the finished run."""
    shutil.copytree(finished[1].folder.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def times(folder: RunFolder, *patterns: str) -> dict[Path, int]:
    """Return when files were written."""
    found = {file: file.stat().st_mtime_ns for pattern in patterns for file in folder.path.glob(pattern)}
    assert found
    return found


def assert_same_results(one: RunFolder, other: RunFolder) -> None:
    assert one.front.read_bytes() == other.front.read_bytes()
    assert one.finalists.read_bytes() == other.finalists.read_bytes()
    cards, expected = one.cards(), other.cards()
    assert list(cards) == list(expected)
    for name, card in cards.items():
        assert card.model_copy(update={"latency_ms": {}}) == expected[name].model_copy(update={"latency_ms": {}})


def test_a_changed_stage_is_done_again_and_those_before_it_are_not(continued: RunFolder, tmp_path: Path) -> None:
    kept, before = times(continued, *BEFORE_TABLES), tables(continued.path)
    table = {"bits": [6, 8], "per": "layer"}
    run(recipe(tmp_path, table=table, objectives=PACKED, finalists={"count": 1}), continued.path)
    assert times(continued, *BEFORE_TABLES) == kept
    after = tables(continued.path)
    assert [bits_of(table) for table in after] == [{6, 8}] * 2
    assert all(table["weight_bits"].n_unique() == 2 ** len(table["path"][0]) for table in after)
    assert len(before) == len(after)  # the old tables are gone


def test_a_solver_of_ones_own_that_fails_is_one_line(continued: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "solver_of_mine.py").write_text(
        "from qanas.search_strategy.solvers import ExactSearch\n\n"
        "class Mine(ExactSearch):\n"
        "    def solve(self, tables):\n"
        "        raise LookupError('no front today')\n"
    )
    path = recipe(tmp_path, strategy={"name": "solver_of_mine:Mine"})
    with pytest.raises(
        InputError, match=r"^strategy: Mine\.front: LookupError: no front today \(solver_of_mine.py, line 5\)$"
    ):
        run(path, continued.path)


def test_other_objectives_give_what_they_give_in_a_new_folder(
    continued: RunFolder, fresh: RunResult, tmp_path: Path
) -> None:
    kept = times(continued, *BEFORE_TABLES)
    old = continued.front.read_bytes()
    run(other_recipe(tmp_path), continued.path)
    assert continued.front.read_bytes() != old
    assert_same_results(continued, fresh.folder)
    for ours, theirs in zip(tables(continued.path), tables(fresh.folder.path), strict=True):
        assert ours.equals(theirs)
    assert times(continued, *BEFORE_TABLES) == kept


def test_objectives_can_change_in_the_middle_and_back(
    continued: RunFolder, finished: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, result = finished
    kept = times(continued, *BEFORE_TABLES, "trainings/*/*")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Search, "solve", stop)
        with pytest.raises(KeyboardInterrupt):
            run(other_recipe(tmp_path), continued.path)
    run(path, continued.path)
    assert_same_results(continued, result.folder)
    assert times(continued, *BEFORE_TABLES, "trainings/*/*") == kept


def test_killed_while_networks_are_retrained_a_run_goes_on_to_the_same_front(
    continued: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = times(continued, *BEFORE_TABLES)
    score = {"name": "nsr_weighted", "networks": 4, "epochs": 1}
    fitted = recipe(tmp_path, objectives=PACKED, score=score, finalists={"count": 1, "start": "distilled"})
    assert load_plan(fitted).recipe["score"]["start"] == "distilled"
    whole = RunFolder(tmp_path / "whole")
    shutil.copytree(continued.path, whole.path)
    told = run(fitted, whole.path)
    make = RetrainedUnit.run
    trained: list[str] = []

    def stop_at_third(unit: RetrainedUnit, *arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(unit.candidate.key)
        return make(unit, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RetrainedUnit, "run", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            run(fitted, continued.path)
    first = times(continued, "blocks/retrained/*")
    run(fitted, continued.path)
    assert first.items() <= times(continued, "blocks/retrained/*").items()
    assert continued.front.read_bytes() == whole.front.read_bytes()
    assert times(continued, *BEFORE_TABLES) == kept
    sentences = " ".join(headline.sentences(read_run(told.folder)))
    assert "The score is fitted to 4 retrained networks: it ranks pairs" in sentences
    assert "the sum of its blocks' quantized noise-to-signal ratios, each with a weight" in sentences


def test_bits_and_objectives_can_change_together(
    continued: RunFolder, finished: tuple[Path, RunResult], tmp_path: Path
) -> None:
    path, result = finished
    kept = times(continued, *BEFORE_TABLES, "trainings/*/*")
    run(recipe(tmp_path), continued.path)  # 8 bits, by another size
    assert [bits_of(table) for table in tables(continued.path)] == [{8}] * 2
    both = times(continued, *BEFORE_TABLES, "trainings/*/*")
    assert kept.items() < both.items()
    run(path, continued.path)
    assert_same_results(continued, result.folder)
    assert times(continued, *BEFORE_TABLES, "trainings/*/*") == both


def bits_of(table: pl.DataFrame) -> set[int]:
    """Return the bits that layers of a table's rows have."""
    return {bits for row in table["weight_bits"] for bits in row}


def files_of(plan: Plan, folder: RunFolder) -> BlockFiles:
    """Return the files of the first block."""
    estimator, (block, *_) = plan.estimator, cast("BlockwiseSpace", plan.bench.networks).blocks(SHAPE)
    assert isinstance(estimator, BlockTables)
    decisive = columns_of(measure for measure in plan.measures if isinstance(measure, Cost))
    made_for = estimator._made_for(plan.bench, decisive)
    return estimator._files(RunStages(plan, folder, LiveDisplay()), block, made_for)


def test_the_shipped_recipes_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "SCENES", dict.fromkeys(synthetic.SCENES, 2))
    folder = RunFolder(tmp_path)
    plans = [load_plan(RECIPES / name, ["task.data=synthetic"]) for name in SHIPPED]
    folder.write_recipe(plans[0].recipe)
    check_resumable(plans[1], folder)
    assert made_from("reference", plans[0].recipe) == made_from("reference", plans[1].recipe)
    eight_bits, any_bits = (files_of(plan, folder) for plan in plans)
    assert eight_bits.supernets == any_bits.supernets
    assert eight_bits.table != any_bits.table
    benches = [plan.bench for plan in plans]
    seeds = [space_of(bench.networks.settings(SHAPE), bench.search, bench.encoding).reference for bench in benches]
    assert seeds[0].key == seeds[1].key


def test_a_metric_or_a_bound_changes_no_table(fresh: RunResult, tmp_path: Path) -> None:
    shutil.copytree(fresh.folder.path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    kept = times(folder, *BEFORE_TABLES, *TABLES_OF_BLOCKS)
    costs = [point.measurement.value(Cost("packed_weight_bytes")) for point in fresh.front]
    found = run(other_recipe(tmp_path, int(min(costs))), folder.path)
    assert 0 < len(found.front) < len(fresh.front)
    assert times(folder, *BEFORE_TABLES, *TABLES_OF_BLOCKS) == kept


def test_tables_without_a_race_serve_all_objectives(continued: RunFolder, tmp_path: Path) -> None:
    whole = {"bits": [8], "full": True}
    run(recipe(tmp_path, table=whole, finalists={"count": 1}), continued.path)
    kept = times(continued, *TABLES_OF_BLOCKS)
    run(recipe(tmp_path, table=whole, objectives=OTHER, finalists={"count": 1}), continued.path)
    assert times(continued, *TABLES_OF_BLOCKS) == kept


def test_a_card_tells_the_metric_that_its_training_was_chosen_by(continued: RunFolder, tmp_path: Path) -> None:
    before = continued.cards()[SEED_ID]
    metric = {"pixel_accuracy_quantized": None, "pixel_error_quantized": "minimize"}
    run(recipe(tmp_path, table={"bits": [4, 8]}, objectives=PACKED | metric), continued.path)
    after = continued.cards()[SEED_ID]
    assert after.sha256 == before.sha256
    chosen = [card.protocol["shipped_because"] for card in (before, after)]
    assert chosen == [
        f"median of the trainings by {name} (quantized, validation)" for name in ("pixel_accuracy", "pixel_error")
    ]


def test_what_the_teacher_was_made_from_is_refused(continued: RunFolder, tmp_path: Path) -> None:
    longer = recipe(tmp_path, teacher={"epochs": 4}, objectives=PACKED)
    with pytest.raises(InputError, match=r"\(teacher\.epochs was 3, now 4\); choose another folder with --out"):
        run(longer, continued.path)


def test_a_metric_that_chose_the_scheme_is_refused(tmp_path: Path) -> None:
    automatic = {"scheme": "auto"}
    folder = RunFolder(tmp_path)
    folder.write_recipe(load_plan(recipe(tmp_path, quantization=automatic)).recipe)
    check_resumable(load_plan(recipe(tmp_path, quantization=automatic, objectives=PACKED)), folder)
    with pytest.raises(InputError, match=r"objectives\.pixel_accuracy_quantized was maximize, now not set") as caught:
        check_resumable(load_plan(recipe(tmp_path, quantization=automatic, objectives=OTHER)), folder)
    assert "macs" not in str(caught.value)
