"""Run folders as finished runs leave them, made of small files and seeded numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.reporting.finalist_statistics import finalist_statistics

from qanas.core.card import BorderTensor, Card, Latency, Parity, Statistic
from qanas.core.run_folder import RunFolder, write_parquet

Row = dict[str, Any]
TRAINED = 3
FINALISTS = 4
IMPORTANCE = {
    "method": "PED-ANOVA",
    "trials": 60,
    "good_trials": 6,
    "targets": {
        "front": {"units_1": 0.5, "layers": 0.3, "learning_rate": 0.2},
        "mae_quantized": {"learning_rate": 0.9, "units_1": 0.1},
        "weight_bytes": {},
    },
}
FAILED_REASON = "parity: 3 steps between simulated and deployed outputs, at most 1 allowed"
LIMIT_REASON = "peak_ram_bytes {} is over the limit of 4096"


def _recipe(changes: Row) -> dict[str, Any]:
    """Return a resolved recipe; ``changes`` replace whole tables."""
    return {
        "task": {"name": "turbofan", "data": "synthetic", "subset": "FD001", "window": 30, "rul_cap": 125.0},
        "space": {"name": "lstm", "search": ["architecture", "training", "quantization"]},
        "strategy": {"name": "tpe", "trials": 60},
        "estimation": {"name": "training", "epochs": 100, "jobs": 2},
        "objectives": {"mae_quantized": "minimize", "weight_bytes": "minimize"},
        "limits": {"peak_ram_bytes": 4096},
        "device": {"name": "host"},
        "finalists": {"count": FINALISTS, "seeds": TRAINED},
        "run": {"seed": 0},
        "versions": {"qanas": "0.1.0", "python": "3.11.9", "torch": "2.9.0", "runtime": "LiteRT 2.3.0"},
        "data_fingerprint": "sha256:" + "5f" * 32,
    } | changes


def _settings(rng: np.random.Generator) -> Row:
    layers = int(rng.integers(1, 3))
    second = {"units_2": int(rng.choice([4, 8, 16, 32]))} if layers > 1 else {}
    return {
        "layers": layers,
        "units_1": int(rng.choice([2, 4, 8, 16, 32, 64])),
        **second,
        "learning_rate": float(10 ** rng.uniform(-4, -2)),
        "optimizer": str(rng.choice(["adam", "rmsprop"])),
        "weight_bits": 8,
    }


def _costs(settings: Row) -> Row:
    sizes = [settings["units_1"], *([settings["units_2"]] if "units_2" in settings else [])]
    weights, inputs = 0, 14
    for units in sizes:
        weights += 4 * units * (inputs + units + 4)
        inputs = units
    exact = {
        "weight_bytes": weights,
        "packed_weight_bytes": weights - 7 * len(sizes),
        "file_bytes": weights + 2300,
        "peak_ram_bytes": 600 + 40 * sum(sizes),
        "macs": 30 * weights,
    }
    return exact | {f"float_{name}": 4 * value if "bytes" in name else value for name, value in exact.items()}


def _trial_rows(count: int = 60) -> list[Row]:
    """Return the rows of the trials: the reference, then measured, rejected and failed trials."""
    rng = np.random.default_rng(3)
    rows: list[Row] = []
    for number in range(count + count // 4):
        settings = {"layers": 2, "units_1": 64, "units_2": 64, "learning_rate": 0.001, "optimizer": "adam"}
        settings = settings | {"weight_bits": 8} if number == 0 else _settings(rng)
        costs = _costs(settings)
        rejected = number > 0 and number % 5 == 0
        failed = number == 17
        counted = number - number // 5
        error = 8.5 + 60 / np.sqrt(costs["weight_bytes"]) + float(rng.gamma(1.2, 1.6)) * (number > 0)
        outcome = "rejected" if rejected else "failed" if failed else "measured"
        reason = LIMIT_REASON.format(4097 + number) if rejected else "the loss is not finite" if failed else None
        rows.append(
            {
                "number": number,
                "index": None if rejected else counted,
                "outcome": outcome,
                "reason": reason,
                "seed_network": number == 0,
                "feasible": not rejected and not failed,
                "mae_float": error if outcome == "measured" else None,
                "mae_quantized": error + 0.12 if outcome == "measured" else None,
                "rmse_float": error * 1.4 if outcome == "measured" else None,
                "rmse_quantized": error * 1.4 + 0.1 if outcome == "measured" else None,
                **costs,
                **settings,
                "train_seconds": float(rng.uniform(8, 20)) if not rejected else None,
            }
        )
    return rows


def _front_rows(trials: list[Row]) -> list[Row]:
    """Return the rows of front.csv: the trials that no other one beats."""
    kept: list[Row] = []
    measured = [row for row in trials if row["outcome"] == "measured" and row["feasible"]]
    for row in sorted(measured, key=lambda row: (row["weight_bytes"], row["mae_quantized"])):
        if not kept or row["mae_quantized"] < kept[-1]["mae_quantized"]:
            kept.append(row)
    left_out = {"number", "outcome", "reason", "seed_network", "feasible", "train_seconds"}
    return [
        {"candidate": f"m{place}" if place < FINALISTS - 1 else None, "key": f"{place:012d}"}
        | {name: value for name, value in row.items() if name not in left_out}
        for place, row in enumerate(kept)
    ]


def _make_card(name: str, row: Row, seed: int = 0) -> Card:
    """Return a card with metrics around those of the search."""
    rng = np.random.default_rng(seed)
    metrics: Any = {
        precision: {
            split: {
                metric: Statistic.of((row[f"{metric}_{source}"] + shift + rng.normal(0, 0.3, TRAINED)).tolist(), 1)
                for metric in ("mae", "rmse")
            }
            for split, shift in (("val", 0.2), ("test", 3.1))
        }
        for precision, source in (("float", "float"), ("quantized", "quantized"), ("deployed", "quantized"))
    }
    costs = {
        cost: row[cost] for cost in ("weight_bytes", "packed_weight_bytes", "file_bytes", "peak_ram_bytes", "macs")
    }
    groups = {"architecture": ("layers", "units_1", "units_2"), "training": ("learning_rate", "optimizer")}
    return Card(
        candidate=name,
        config={group: {key: row[key] for key in keys if row.get(key) is not None} for group, keys in groups.items()},
        task={"name": "turbofan", "subset": "FD001"},
        protocol={
            "split": {"val": "all windows of the validation engines", "test": "the last window of each test engine"},
            "cap": "at 125 cycles in every split",
            "trainings": TRAINED,
            "validation_engines": [2, 5, 9, 14, 21],
            "selection": "the training with the best validation score ships",
        },
        run_seed=0,
        sha256="ab" * 32,
        input=BorderTensor(shape=[1, 30, 14], dtype="int8", scale=0.05, zero_point=3),
        output=BorderTensor(shape=[1, 1], dtype="int8", scale=0.49, zero_point=-128),
        preprocessing={"sensors": [2, 3, 4]},
        metrics=metrics,
        latency_ms={"host": Latency(ms=0.0123 + row["macs"] / 1e7, kernels="LiteRT reference")},
        parity_steps=Parity(max=1, mean=0.0031, n_outputs=1200),
        **costs,
    )


def _write_predictions(path: Path, seed: int, error: float) -> None:
    """Write predictions over the lives of eight validation engines and forty test engines."""
    rng = np.random.default_rng(seed)
    lives = [140 + 23 * place for place in range(8)]
    engine = np.concatenate([np.full(life - 29, 2 + 3 * place) for place, life in enumerate(lives)])
    cycle = np.concatenate([np.arange(30, life + 1) for life in lives])
    uncapped = np.concatenate([life - np.arange(30, life + 1) for life in lives]).astype(np.float32)
    targets = np.minimum(uncapped, 125.0)
    test = np.minimum(np.random.default_rng(0).uniform(5, 150, 40), 125.0)
    np.savez(
        path,
        val_outputs=(targets + rng.normal(0, error, len(targets)))[:, None].astype(np.float32),
        val_targets=targets[:, None],
        val_engine=engine,
        val_cycle=cycle,
        val_uncapped=uncapped,
        test_outputs=(test + rng.normal(0, error * 1.3, 40))[:, None].astype(np.float32),
        test_targets=test[:, None].astype(np.float32),
        test_engine=np.arange(1, 41),
    )


def _finalist_row(name: str, key: str, card: Card, failed: bool) -> Row:
    statistics = finalist_statistics(card)
    costs = {cost: value for cost, value in card.costs().items() if cost != "latency_ms"}
    told = {"status": "failed", "reason": FAILED_REASON} if failed else {"status": "shipped", "reason": None}
    return {"candidate": name, "key": key, **told, "n_seeds": TRAINED, **costs, **statistics}


def write_run(path: Path, *, trials: int = 60, tables: Row | None = None) -> RunFolder:
    """Write a finished run: three models and the reference shipped, one finalist failed."""
    folder = RunFolder(path)
    folder.write_recipe(_recipe(tables or {}))
    rows = _trial_rows(trials)
    front = _front_rows(rows)
    write_parquet(folder.trials, pl.DataFrame(rows, infer_schema_length=None))
    folder.write_table(folder.front, front)
    finalists = []
    for place, row in enumerate([rows[0], *front[:FINALISTS]]):
        failed = place == FINALISTS
        name = "seed" if place == 0 else f"m{place - 1}"
        card = _make_card(name, row, place)
        finalists.append(_finalist_row(name, str(row.get("key", "f" * 12)), card, failed))
        if not failed:
            model = folder.model(name)
            model.mkdir(parents=True)
            (model / "card.json").write_text(card.to_json())
            (model / "model.tflite").write_bytes(b"TFL3")
            _write_predictions(model / "predictions.npz", place, row["mae_quantized"])
    folder.write_table(folder.finalists, finalists)
    folder.importance.write_text(json.dumps(IMPORTANCE))
    outcomes = [row["outcome"] for row in rows]
    failure = {"candidate": f"m{FINALISTS - 1}", "reason": FAILED_REASON}
    folder.write_summary(
        {
            "status": "done",
            "trials": {name: outcomes.count(name) for name in ("measured", "rejected", "failed")},
            "finalists": {"shipped": FINALISTS - 1, "failed": 1, "failures": [failure]},
            "seconds": {"search": 754.2, "finalists": 341.0},
            "train_cpu_seconds": 1893.5,
        }
    )
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return write_run(tmp_path / "turbofan_quick")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunFolder]:
    """Write a run whose recipe has the given tables in place of the usual ones."""
    return lambda **tables: write_run(tmp_path / "changed", tables=tables)


@pytest.fixture
def bare_run(tmp_path: Path) -> RunFolder:
    """A run that has only started."""
    folder = RunFolder(tmp_path / "bare")
    folder.write_recipe(_recipe({}))
    return folder
