"""Scores that are fitted to retrained networks: which networks, on which samples, and what comes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from qanas.core.errors import InputError
from qanas.core.measures import Cost, Metric, measure_of
from qanas.performance_estimation.bench import PreparedData
from qanas.performance_estimation.block_table.retrained import divided, drawn_rows
from qanas.performance_estimation.block_tables import BlockTables, DistillationOptions, TableOptions
from qanas.performance_estimation.fitted_score import FittedScore
from qanas.performance_estimation.procedure import FullTraining
from qanas.performance_estimation.scored_blocks import ScoreOptions
from qanas.regression.weighted_sum import non_negative
from qanas.search_space.additive import AdditiveScores, AdditiveTable
from qanas.testing.small import PlainStages, SmallTask, small_bench

if TYPE_CHECKING:
    from pathlib import Path

    from qanas.performance_estimation.scored_blocks import ScoredBlocks
    from qanas.tasks.base import Split

QUICK = FullTraining(epochs=1, calibration_samples=16)
MEASURES = (Metric("accuracy", better="maximize"), Cost("weight_bytes"))
CALIBRATED = ScoreOptions(name="calibrated", networks=4, epochs=1, held_out=0.25)


class Grouped(SmallTask):
    """Three samples behind each other are of one unit."""

    def units(self, split: Split) -> np.ndarray:
        return np.arange(len(split)) // 3


def prepared(home: Path, score: ScoreOptions) -> tuple[ScoredBlocks, PlainStages]:
    bench = small_bench(data=PreparedData(Grouped()))
    tables = TableOptions(calibration_samples=8, full=True)
    estimator = BlockTables(QUICK, DistillationOptions(steps=8), tables, score)
    estimator.check(bench, MEASURES)
    stages = PlainStages(bench, QUICK, home)
    return estimator.prepare(bench, stages, MEASURES), stages


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[ScoredBlocks, PlainStages]:
    return prepared(tmp_path_factory.mktemp("fitted"), CALIBRATED)


def test_samples_of_the_fit_are_none_of_the_tables_and_units_stay_whole(
    calibrated: tuple[ScoredBlocks, PlainStages],
) -> None:
    scored, _ = calibrated
    tables, fit = divided(scored.bench, CALIBRATED.held_out)
    count = len(scored.bench.data.of({}).val)
    assert sorted([*tables, *fit]) == list(range(count))
    assert not {*(tables // 3)} & {*(fit // 3)}
    assert len(np.unique(fit // 3)) == round(0.25 * -(-count // 3))
    assert all(table.by_sample.shape[1] == len(tables) for table in scored.block_tables)


def test_a_network_is_retrained_once_and_its_metrics_are_of_the_samples_of_the_fit(
    calibrated: tuple[ScoredBlocks, PlainStages],
) -> None:
    scored, stages = calibrated
    ran = [label for label in stages.ran if label.startswith("retrained")]
    assert len(ran) == len(set(ran)) == 4
    for path in (stages.home / "retrained").glob("*.parquet"):
        kept = pl.read_parquet(path)
        (accuracy,) = kept.filter(pl.col("metric") == "accuracy_quantized")["value"]
        hits = accuracy * len(divided(scored.bench, CALIBRATED.held_out)[1])
        assert hits == pytest.approx(round(hits), abs=1e-4)


def test_a_killed_stage_goes_on_to_the_same_score(calibrated: tuple[ScoredBlocks, PlainStages]) -> None:
    scored, stages = calibrated
    before = len(stages.ran)
    lost = sorted((stages.home / "retrained").glob("*.parquet"))[:2]
    for path in lost:
        path.unlink()
    tables = TableOptions(calibration_samples=8, full=True)
    again = BlockTables(QUICK, DistillationOptions(steps=8), tables, CALIBRATED).prepare(scored.bench, stages, MEASURES)
    assert len(stages.ran) == before + len(lost)
    for one, other in zip(scored.scores, again.scores, strict=True):
        assert np.array_equal(one, other)


def test_scores_add_up_and_keep_every_blocks_order(calibrated: tuple[ScoredBlocks, PlainStages]) -> None:
    scored, _ = calibrated
    offered = scored.offer(AdditiveScores)
    assert offered.axis.column == "calibrated"
    assert offered.scores([0, 1])["calibrated"] == pytest.approx(scored.scores[0][0] + scored.scores[1][1])
    for table, scores in zip(scored.block_tables, scored.scores, strict=True):
        assert np.array_equal(np.argsort(table.scores), np.argsort(scores)), "the race dropped nothing that it wants"
    told = scored.summary()["fitted_score"]
    assert (told["plain"], told["networks"], told["failed"]) == ("nsr_log_sum", 4, 0)
    assert -1 <= told["tau"] <= 1
    for column in ("calibrated", "calibrated_2", "nsr_weighted", "nsr_weighted_1"):
        measure = measure_of(column)
        assert measure is not None
        assert measure.direction == "minimize"


def tables_of(generator: np.random.Generator, blocks: int = 3, rows: int = 12) -> list[AdditiveTable]:
    bytes_ = [np.sort(generator.integers(10, 90, rows)).astype(float) for _ in range(blocks)]
    return [
        AdditiveTable(np.arange(rows), 40 / size + generator.normal(0, 0.1, rows), {"weight_bytes": size})
        for size in bytes_
    ]


def test_drawn_networks_are_spread_and_differ() -> None:
    tables = tables_of(np.random.default_rng(0))
    drawn = drawn_rows(tables, "weight_bytes", 12, 3)
    assert len(set(drawn)) == len(drawn) == 12
    assert drawn == drawn_rows(tables, "weight_bytes", 12, 3)
    sizes = [sum(t.costs["weight_bytes"][row] for t, row in zip(tables, rows, strict=True)) for rows in drawn]
    smallest, largest = (sum(end(t.costs["weight_bytes"]) for t in tables) for end in (min, max))
    assert max(sizes) - min(sizes) > 0.5 * (largest - smallest)
    single = [AdditiveTable(np.arange(1), np.ones(1), {"weight_bytes": np.ones(1)})] * 2
    assert drawn_rows(single, "weight_bytes", 12, 3) == [(0, 0)]


@pytest.mark.parametrize("model", ["ridge", "monotone"])
def test_a_fit_finds_which_blocks_matter(model: str) -> None:
    generator = np.random.default_rng(1)
    blocks = [generator.normal(size=30) for _ in range(3)]
    rows = generator.integers(0, 30, (24, 3))
    losses = 3 * blocks[0][rows[:, 0]] + 0.3 * blocks[1][rows[:, 1]] + generator.normal(0, 0.1, 24)
    losses[3] = np.nan
    found = FittedScore.of("nsr_log_sum", model, blocks, rows.tolist(), losses)  # type: ignore[arg-type]
    assert found.told["failed"] == 1
    assert found.tau > max(found.plain_tau, 0.8)
    assert found.warning == ""
    assert np.ptp(found.scores[0]) > 3 * np.ptp(found.scores[1])
    noise = replace(found, tau=0.1, plain_tau=0.2)
    assert "no better than nsr_log_sum" in noise.warning
    with pytest.raises(InputError, match="at least 4 are needed"):
        FittedScore.of("nsr_sum", "ridge", blocks, rows.tolist(), np.where(np.arange(24) < 3, losses, np.nan))


def test_what_can_t_be_divided_is_refused() -> None:
    class Whole(SmallTask):
        def units(self, split: Split) -> np.ndarray:
            return np.zeros(len(split), np.intp)

    bench = small_bench(data=PreparedData(Whole()))
    with pytest.raises(InputError, match=r"score\.held_out: the validation data is one"):
        BlockTables(QUICK, score=CALIBRATED).check(bench, MEASURES)


def test_weights_are_the_best_that_are_not_negative() -> None:
    generator = np.random.default_rng(0)
    for _ in range(30):
        half = generator.normal(size=(6, 6))
        gram, moment = half @ half.T + 0.01 * np.eye(6), generator.normal(size=6)
        weights = non_negative(gram, moment)
        slope = gram @ weights - moment
        assert weights.min() >= 0
        assert slope.min() > -1e-9, "no weight would be better if it were larger"
        assert np.abs(slope[weights > 0]).max(initial=0.0) < 1e-9
