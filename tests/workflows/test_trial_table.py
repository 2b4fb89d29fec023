"""Every trial as one typed table."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from qanas.core.measures import is_setting
from qanas.core.run_folder import RunFolder, read_table, write_parquet
from qanas.core.trials import TrialRecord
from qanas.workflows.trial_table import trial_table

COSTS = {"weight_bytes": 120, "latency_ms": 2}
AT = datetime(2026, 1, 2, 3, 4, 5, 500_000, UTC)

RECORDS = [
    TrialRecord(
        1,
        "measured",
        {"architecture": {"layers": 2, "units_2": 3}, "training": {"learning_rate": 1, "optimizer": "adam"}},
        COSTS,
        {"mae_quantized": 9.5},
        train_seconds=1.5,
        started_at=AT.timestamp(),
        finished_at=AT.timestamp() + 2,
        number=2,
    ),
    TrialRecord(
        0,
        "measured",
        {"architecture": {"layers": 1}, "training": {"learning_rate": 0.5, "optimizer": "sgd", "cosine": True}},
        COSTS,
        {"mae_quantized": 8},
        is_seed=True,
        number=0,
    ),
    TrialRecord(1, "rejected", {"architecture": {"layers": 3}}, COSTS, reason="weight_bytes", feasible=False, number=1),
]


def test_types_and_values_are_those_of_the_documentation(tmp_path: Path) -> None:
    path = tmp_path / "trials.parquet"
    write_parquet(path, trial_table(RECORDS))
    table = pl.read_parquet(path)
    assert dict(table.schema) == {
        "number": pl.Int64,
        "index": pl.Int64,
        "key": pl.String,
        "outcome": pl.String,
        "reason": pl.String,
        "seed_network": pl.Boolean,
        "feasible": pl.Boolean,
        "mae_quantized": pl.Float64,
        "weight_bytes": pl.Int64,
        "latency_ms": pl.Float64,
        "layers": pl.Int64,
        "units_2": pl.Int64,
        "learning_rate": pl.Float64,
        "optimizer": pl.String,
        "cosine": pl.Boolean,
        "train_seconds": pl.Float64,
        "started_at": pl.Datetime("us", "UTC"),
        "finished_at": pl.Datetime("us", "UTC"),
    }
    assert table["number"].to_list() == [0, 1, 2]
    assert table["index"].to_list() == [0, None, 1]
    assert table["key"].to_list() == [record.candidate.key for record in (RECORDS[1], RECORDS[2], RECORDS[0])]
    assert table["reason"].to_list() == [None, "weight_bytes", None]
    assert table["mae_quantized"].to_list() == [8.0, None, 9.5]
    assert table["units_2"].to_list() == [None, None, 3]
    assert table["learning_rate"].to_list() == [0.5, None, 1.0]
    assert table["cosine"].to_list() == [True, None, None]
    assert table["started_at"].to_list() == [None, None, AT]
    assert (table["finished_at"] - table["started_at"]).dt.total_seconds().to_list() == [None, None, 2]


def test_settings_of_several_kinds_are_text() -> None:
    values: list[bool | int | float | str] = [8, "mixed"]
    records = [TrialRecord(i, "measured", {"quantization": {"bits": v}}, number=i) for i, v in enumerate(values)]
    assert trial_table(records)["bits"].to_list() == ["8", "mixed"]


def test_equal_tables_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_parquet(tmp_path / name, trial_table(RECORDS))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_run_without_trials_has_the_fixed_columns() -> None:
    table = trial_table([])
    assert table.is_empty()
    assert table.columns[0] == "number"
    assert table.columns[-1] == "finished_at"


def test_a_missing_table_reads_as_empty(tmp_path: Path) -> None:
    assert read_table(RunFolder(tmp_path).trials).to_dicts() == []


def test_records_of_early_runs_are_still_read() -> None:
    """Their JSON in study.db has no times."""
    early = {"index": 0, "outcome": "measured", "config": {}, "costs": {}, "metrics": {}, "number": 0}
    record = TrialRecord(**json.loads(json.dumps(early)))
    assert record.started_at is None


def test_learning_curves_are_lists_where_there_are_any() -> None:
    assert "train_losses" not in trial_table(RECORDS).columns
    table = trial_table([replace(RECORDS[0], train_losses=[3.0, 2.5]), *RECORDS[1:]])
    assert table["train_losses"].to_list() == [None, None, [3.0, 2.5]]


def test_scores_while_training_are_lists_and_no_settings() -> None:
    curve = [{"epoch": 2, "train_mae": 4.0, "val_mae": 5.0}, {"epoch": 5, "train_mae": 3.0, "val_mae": 4.5}]
    table = trial_table([replace(RECORDS[0], curve=curve), *RECORDS[1:]])
    assert table["curve_epoch"].to_list() == [None, None, [2, 5]]
    assert table["curve_train_mae"].to_list() == [None, None, [4.0, 3.0]]
    assert table["curve_val_mae"].list.last().to_list() == [None, None, 4.5]
    assert not any(is_setting(name) for name in table.columns if name.startswith("curve_"))
    assert is_setting("curve_fit"), "a user's own"


def test_a_reason_of_an_earlier_version_that_is_no_utf_8_stands_in_no_ones_way(tmp_path: Path) -> None:
    record = replace(RECORDS[0], outcome="failed", metrics={}, reason="no file b\udcff")
    write_parquet(tmp_path / "trials.parquet", trial_table([record]))
    assert read_table(tmp_path / "trials.parquet")["reason"].to_list() == ["no file b\\udcff"]
