"""Block-wise runs of `tests.workflows.tiny_blocks`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import tomli_w

from qanas.core.run_folder import RunFolder
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.workflows.run import RunResult, run_search

TABLES: dict[str, dict[str, Any]] = {
    "task": {"name": "tests.workflows.tiny_blocks:Blobs"},
    "teacher": {"network": "tests.workflows.tiny_blocks:TinySpace", "epochs": 3},
    "distillation": {"steps": 64, "learning_rate": 0.5},
    "table": {"bits": [8], "calibration_samples": 16},
    "objectives": {"pixel_accuracy_quantized": "maximize", "weight_bytes": "minimize"},
    "finalists": {"count": 2, "seeds": 1},
    "baselines": {"enabled": False},
}


def recipe(folder: Path, **changes: dict[str, Any]) -> Path:
    """Write a recipe; a changed key of None is left out."""
    tables = {name: {**table} for name, table in TABLES.items()}
    for section, table in changes.items():
        merged = tables.get(section, {}) | table
        tables[section] = {key: value for key, value in merged.items() if value is not None}
    path = folder / "blocks.toml"
    path.write_text(tomli_w.dumps(tables), "utf-8")
    return path


def run(path: Path, out: Path) -> RunResult:
    """Run a recipe in this process."""
    plan = load_plan(path)
    plan.check()
    with LiveDisplay() as display:
        return run_search(plan, RunFolder(out), display)


def tables(folder: Path) -> list[pl.DataFrame]:
    """Return the table of every block."""
    return [pl.read_parquet(path) for path in sorted(folder.glob("blocks/*/table-*.parquet"))]
