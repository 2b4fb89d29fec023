"""Block-wise runs whole: stages, resuming, what ships, bad input."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tests.workflows import tiny_blocks
from tests.workflows.blockwise_runs import recipe, run, tables

from qanas.core.errors import InputError
from qanas.core.measures import Cost, Score
from qanas.core.pareto import non_dominated
from qanas.performance_estimation import block_tables
from qanas.recipe import load_plan
from qanas.reporting.blocks import stages
from qanas.reporting.headline import sentences
from qanas.reporting.live import LiveDisplay
from qanas.reporting.run_data import read_run
from qanas.workflows.run import RunResult
from qanas.workflows.search import Search

PACKED = Cost("packed_weight_bytes")


def test_the_front_is_that_of_every_combination_of_the_tables(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    parts = [
        table.filter(pl.col("exact")).select("nsr", "packed_weight_bytes").to_numpy()
        for table in tables(result.folder.path)
    ]
    sums = np.array([np.sum(rows, axis=0) for rows in itertools.product(*parts)])
    best = sums[non_dominated(sums)]
    found = np.array([[p.measurement.value(m) for m in (Score("nsr_sum"), PACKED)] for p in result.front])
    np.testing.assert_allclose(found[:, 0], best[:, 0])
    assert len(set(found[:, 1] - best[:, 1])) == 1  # stem and head


def test_costs_of_the_front_are_those_of_the_networks(finished: tuple[Path, RunResult]) -> None:
    path, result = finished
    bench = load_plan(path).bench
    assert len(result.front) > 3
    for point in result.front:
        costs = bench.costs_of(point.candidate)
        assert {name: costs[name] for name in point.measurement.costs} == dict(point.measurement.costs)


def test_it_ships_the_teacher_and_finalists(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    cards = result.folder.cards()
    assert next(iter(cards)) == "seed"
    assert len(cards) == 3
    front = pl.read_csv(result.folder.front, schema_overrides={"candidate": pl.String, "key": pl.String})
    assert {*front["candidate"].drop_nulls()} == set(cards) - {"seed"}
    for name, card in cards.items():
        assert card.parity_steps.max == 0
        assert name == "seed" or set(card.config["quantization"].values()) <= {4, 8}
    assert result.folder.read_summary()["status"] == "done"


@pytest.mark.parametrize("stage", ["features", "distillation", "tables", "solution"])
def test_killed_in_a_stage_it_goes_on(
    stage: str, finished: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, result = finished
    with monkeypatch.context() as patch:
        _interrupt_in(stage, patch)
        with pytest.raises(KeyboardInterrupt):
            run(path, tmp_path / "run")
    left = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*") if file.suffix in KEPT}
    assert left
    run(path, tmp_path / "run")
    assert all(file.stat().st_mtime_ns == time for file, time in left.items())  # nothing is done again
    assert (tmp_path / "run/front.csv").read_bytes() == result.folder.front.read_bytes()
    for ours, theirs in zip(tables(tmp_path / "run"), tables(result.folder.path), strict=True):
        assert ours.equals(theirs)


KEPT = {".safetensors", ".parquet"}


def _interrupt_in(stage: str, patch: pytest.MonkeyPatch) -> None:
    """Stop a run in the middle of a stage, as Ctrl-C does."""
    if stage in ("features", "solution"):

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(*{"features": (block_tables, "write_features"), "solution": (Search, "solve")}[stage], stop)
        return
    finished = LiveDisplay.unit_finished
    begun: list[str] = []

    def stage_begins(_: LiveDisplay, name: str, *__: int) -> None:
        begun.append(name)

    def unit_finished(self: LiveDisplay, label: str) -> None:
        if begun[-1] == stage:
            raise KeyboardInterrupt
        finished(self, label)

    patch.setattr(LiveDisplay, "stage", stage_begins)
    patch.setattr(LiveDisplay, "unit_finished", unit_finished)


def test_limits_are_met(tmp_path: Path, finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    # Distilled blocks don't depend on limits: they are taken as they are.
    for name in ("limited", "impossible", "none", "small"):
        shutil.copytree(result.folder.path / "blocks", tmp_path / name / "blocks")
    sizes = sorted(point.measurement.value(PACKED) for point in result.front)
    bound = sizes[len(sizes) // 2]

    def limited(packed_weight_bytes: float) -> Path:
        return recipe(
            tmp_path,
            table={"bits": [4, 8]},
            objectives={"weight_bytes": None, "packed_weight_bytes": "minimize"},
            limits={"packed_weight_bytes": packed_weight_bytes},
            finalists={"count": 1},
        )

    found = run(limited(bound), tmp_path / "limited")
    assert [p.candidate for p in found.front] == [
        p.candidate for p in result.front if p.measurement.value(PACKED) <= bound
    ]
    # RAM is no sum over blocks: the front is held against it.
    plan = load_plan(limited(bound))
    arenas = [plan.bench.costs_of(point.candidate)["arena_bytes"] for point in result.front]

    def held(bound: float) -> Path:
        return recipe(
            tmp_path,
            table={"bits": [4, 8]},
            objectives={"weight_bytes": None, "packed_weight_bytes": "minimize"},
            limits={"arena_bytes": bound},
            finalists={"count": 1},
        )

    small = run(held(min(arenas)), tmp_path / "small")
    assert [p.candidate for p in small.front] == [
        point.candidate for point, arena in zip(result.front, arenas, strict=True) if arena <= min(arenas)
    ]
    assert {p.costs["arena_bytes"] for p in small.front} == {min(arenas)}
    with pytest.raises(InputError, match=r"none of the front's \d+ networks has arena_bytes <= 10, .*the least there"):
        run(held(10), tmp_path / "none")
    with pytest.raises(
        InputError, match=r"limits\.packed_weight_bytes = 10: no network is within it; the smallest has"
    ):
        run(limited(10), tmp_path / "impossible")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"table": {"bits": [5]}}, r"table\.bits"),
        ({"table": {"per": "channel"}}, r"table\.per"),
        ({"table": {"bit": [8]}}, r"table\.bit: unknown key; did you mean 'bits'"),
        ({"distillation": {"sampling": "far"}}, r"distillation\.sampling: 'far' .* 'fair'"),
        ({"distillation": {"steps": 0}}, r"distillation\.steps"),
        ({"teacher": {"network": "deeplab"}}, r"teacher\.network: .*deeplabv3"),
        ({"teacher": {"network": "qanas.networks.lstm:LSTMSpace"}}, r"teacher\.network: .* lacks blocks"),
        ({"teacher": {"network": "deeplabv3", "widht": 1.0}}, r"teacher\.widht: unknown key; did you mean 'width'"),
        ({"teacher": {"network": "deeplabv3"}, "blocks": {"layers": [3]}}, r"blocks\.layers"),
        ({"teacher": {"network": "deeplabv3"}, "blocks": {"kernels": [4]}}, r"blocks\.kernels"),
        (
            {"teacher": {"network": "deeplabv3", "width": 0.5}, "blocks": {"width": 1.0}},
            r"blocks\.width: .*teacher\.width",
        ),
        ({"estimation": {"epochs": 3}}, r"estimation\.epochs: .*teacher\.epochs"),
        ({"estimation": {"name": "weight_sharing"}}, r"estimation\.name: .* not by 'weight_sharing'; leave it out"),
        ({"blocks": {"name": "lstm"}}, r"blocks\.name: .*leave it out"),
        ({"teacher": {"search": ["input"]}}, r"teacher\.search: .*leave it out"),
        ({"teacher": {"weight_bits": [4]}}, r"teacher\.weight_bits: .*give table\.bits instead"),
        ({"blocks": {"bits_per": "layer"}}, r"blocks\.bits_per: .*give table\.per instead"),
        ({"teacher": {"weights": "a.pt"}, "seed": {"weights": "b.pt"}}, r"seed: the reference is the teacher"),
        ({"table": {"bits": []}}, r"table\.bits: empty; give at least one"),
        (
            {"teacher": {"network": "deeplabv3"}, "blocks": {"layers": [1, 1]}},
            r"blocks\.layers: \[1, 1\]: too few; give 6",
        ),
        ({"objectives": {"weight_bytes": None}}, "objectives: .* one metric, .* and a cost"),
        (
            {"objectives": {"weight_bytes": None, "peak_ram_bytes": "minimize"}},
            r"objectives\.peak_ram_bytes: not a sum",
        ),
        ({"limits": {"macs": 100, "packed_weight_bytes": 100}}, "are more than 2 costs"),
        ({"strategy": {"name": "tip"}}, r"strategy\.name: unknown strategy 'tip': did you mean 'tpe'"),
        ({"strategy": {"trials": 9}}, r"strategy\.trials: 'exact' solves at once, without trials; leave it out"),
        ({"space": {"name": "lstm"}}, r"space: given by \[teacher\] and \[blocks\], too; give one of the two"),
        ({"quantization": {"layers": {"stem": {"weight_bits": 4}}}}, r"quantization\.layers: .*table\.bits; leave"),
    ],
)
def test_a_bad_recipe_is_one_line(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        load_plan(recipe(tmp_path, **changes))
    assert "\n" not in str(caught.value)
    assert "blocks.toml: " in str(caught.value)


def test_parts_took_no_longer_than_the_whole(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    folder = result.folder
    whole = folder.summary.stat().st_mtime - folder.recipe.stat().st_mtime  # written first and last
    seconds = folder.read_summary()["seconds"]
    assert seconds.keys() == {"search", "finalists"}
    assert all(part > 0 for part in seconds.values())
    assert sum(seconds.values()) <= whole + 0.1
    teacher, *others = (json.loads(path.read_text())["cpu_seconds"] for path in trainings_of(result))
    told = {stage.name: stage.cpu_seconds for stage in stages(read_run(folder))}
    assert told["teacher"] == pytest.approx(teacher)
    assert told["finalists"] == pytest.approx(sum(others)), "nothing is counted twice"


def trainings_of(result: RunResult) -> list[Path]:
    """Records of all trainings, the reference's first."""
    key = result.shipments[0].finalist.candidate.key
    return sorted(result.folder.trainings.glob("*/*.json"), key=lambda path: not path.parent.name.startswith(key))


def test_after_a_resume_that_finds_all_done_a_run_tells_the_same_words(
    finished: tuple[Path, RunResult], tmp_path: Path
) -> None:
    path, result = finished
    shutil.copytree(result.folder.path, tmp_path / "run")
    before = sentences(read_run(result.folder))
    again = run(path, tmp_path / "run")
    assert sentences(read_run(again.folder)) == before
    assert again.folder.read_summary() == result.folder.read_summary()


def test_the_effort_of_each_stage_is_written_down(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    effort = result.folder.read_summary()["effort_cpu_seconds"]
    assert effort.keys() == {"teacher", "features", "distillation", "tables", "search"}
    assert all(seconds > 0 for seconds in effort.values())
    finalists = result.folder.read_summary()["finalists"]["cpu_seconds"]
    assert finalists > effort["teacher"], "the teacher's training is one of the finalists'"
    blocks = result.folder.read_summary()["tables"]["blocks"]
    assert [size["rows"] for size in blocks.values()] == [2 * len(tiny_blocks.OPTIONS) ** 2] * 2
    notes = [json.loads(path.read_text()) for path in result.folder.path.glob("blocks/*/table-*.json")]
    assert [note["rows"] for note in notes] == [2 * len(tiny_blocks.OPTIONS) ** 2] * 2


def test_finalists_from_distilled_blocks(finished: tuple[Path, RunResult], tmp_path: Path) -> None:
    _, result = finished
    shutil.copytree(result.folder.path, tmp_path / "run")
    distilled = recipe(
        tmp_path,
        table={"bits": [4, 8]},
        objectives={"weight_bytes": None, "packed_weight_bytes": "minimize"},
        finalists={"start": "distilled"},
    )
    found = run(distilled, tmp_path / "run")
    before, after = ({s.finalist.identity: s.card for s in r.shipments} for r in (result, found))
    assert before.keys() == after.keys()
    for name, card in after.items():
        old = before[name]
        assert card is not None
        assert old is not None
        assert (card.sha256 == old.sha256) == (name == "seed")  # the teacher is the same, the others were trained anew


def test_any_folders_of_images_and_masks_run_whole(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 4), ("test", 3)):
        for index in range(count):
            mask = np.zeros((70, 90), np.uint8)
            top, left = generator.integers(0, 30, 2)
            mask[top : top + 30, left : left + 30] = 1
            mask[:2] = 255  # void
            image = generator.integers(0, 80, (70, 90, 3)) + 120 * (mask == 1)[..., None]
            for folder, array in ((split, image.astype(np.uint8)), (f"{split}annot", mask)):
                (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(tmp_path / "data" / folder / f"{index}.png")
    path = recipe(
        tmp_path,
        task={
            "name": "segmentation",
            "data": str(tmp_path / "data"),
            "dataset": "folders",
            "classes": ["background", "square"],
            "height": 64,
            "width": 64,
        },
        teacher={"network": "deeplabv3", "width": 0.1, "epochs": 1},
        blocks={"layers": [1, 1, 2, 1, 1, 1], "kernels": [3, 5], "expansions": [2]},
        distillation={"steps": 4, "batch_size": 2},
        table={"calibration_samples": 4},
        objectives={"pixel_accuracy_quantized": None, "miou_quantized": "maximize"},
        finalists={"count": 1},
    )
    result = run(path, tmp_path / "run")
    assert result.shipped == 2
    assert all(card.parity_steps.max == 0 for card in result.folder.cards().values())


@pytest.mark.slow
def test_what_another_coordinator_left_in_a_shared_folder_is_not_made_again(tmp_path: Path) -> None:
    store = {"url": f"journal://{tmp_path}/study.journal", "folder": str(tmp_path / "shared")}
    path = recipe(tmp_path, store=store)
    first = run(path, tmp_path / "first")
    left = {file: file.stat().st_mtime_ns for file in (tmp_path / "shared").rglob("*") if file.is_file()}
    assert {file.suffix for file in left} >= {".safetensors", ".parquet", ".npy", ".tflite"}
    second = run(path, tmp_path / "second")
    assert {file: file.stat().st_mtime_ns for file in left} == left
    fronts = [(tmp_path / name / "front.csv").read_text("utf-8") for name in ("first", "second")]
    assert fronts[0] == fronts[1]
    assert second.shipped == first.shipped > 0
