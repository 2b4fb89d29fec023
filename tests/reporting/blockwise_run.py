"""The folder of a block-wise run as a finished one leaves it: three blocks, small tables, a reference, two networks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tests.reporting.finalist_statistics import finalist_statistics

from qanas.core.card import BorderTensor, Card, Latency, Parity, Statistic
from qanas.core.run_folder import RunFolder, write_parquet

Row = dict[str, Any]
OPTIONS = ("k3e3", "k3e6", "k5e3", "k5e6")
LAYERS = (2, 1, 2)
BITS = (4, 8)
NETWORKS = (2 * 4**2) * (2 * 4) * (2 * 4**2)
FINALISTS = (0, 3)
CLASSES = ("sky", "building", "road")
EFFORT = {"teacher": 600.0, "features": 6.0, "distillation": 90.0, "tables": 30.0, "search": 0.25}
STUDENTS_SECONDS = 240.0


def _recipe() -> Row:
    return {
        "task": {"name": "segmentation", "data": "synthetic", "dataset": "camvid", "height": 8, "width": 12},
        "teacher": {"network": "deeplabv3", "epochs": 60, "width": 0.5},
        "blocks": {"layers": list(LAYERS), "kernels": [3, 5], "expansions": [3, 6]},
        "distillation": {"steps": 1800, "sampling": "fair", "seeds": 1},
        "table": {"bits": list(BITS), "per": "block", "full": False},
        "score": {"name": "nsr_sum"},
        "strategy": {"name": "exact"},
        "estimation": {"name": "training", "jobs": 1},
        "objectives": {"miou_quantized": "maximize", "weight_bytes": "minimize"},
        "limits": {},
        "device": {"name": "host"},
        "finalists": {"count": len(FINALISTS), "seeds": 2},
        "run": {"seed": 0},
        "versions": {"qanas": "0.1.0"},
        "data_fingerprint": "5f" * 32,
    }


def table_rows(block: int) -> list[Row]:
    """Return a table whose larger rows are the better ones, every third row dropped in the races."""
    rng = np.random.default_rng(block)
    rows = []
    for place, (bits, path) in enumerate(product(BITS, product(range(len(OPTIONS)), repeat=LAYERS[block]))):
        weights = 1000.0 * (block + 1) * bits / 8 * (1 + sum(path))
        exact = place % 3 != 2
        rows.append(
            {
                "weight_bits": bits,
                "path": list(path),
                "options": "-".join(OPTIONS[position] for position in path),
                "nsr": 0.1 + 500.0 / weights + float(rng.uniform(0, 0.3)),
                "samples": 40 if exact else 8,
                "exact": exact,
                "weight_bytes": weights,
                "packed_weight_bytes": weights + 16,
                "float_weight_bytes": 4 * weights,
                "macs": 8 * weights,
                "nsr_by_sample": [0.5, 0.25] if exact else None,
            }
        )
    return rows


def chosen(point: int) -> list[int]:
    """Return the rows that a point of the front consists of: all of them exact."""
    exact = [[place for place, row in enumerate(table_rows(block)) if row["exact"]] for block in range(len(LAYERS))]
    return [rows[-1 - (point * (block + 1)) % len(rows)] for block, rows in enumerate(exact)]


def _front_rows() -> list[Row]:
    rows = []
    for point in range(5):
        picked = [table_rows(block)[row] for block, row in enumerate(chosen(point))]
        name = f"n{point}" if point in FINALISTS else None
        scores = {f"nsr_{block}": row["nsr"] for block, row in enumerate(picked, 1)}
        costs = {
            cost: 500.0 + sum(row[cost] for row in picked) for cost in ("weight_bytes", "float_weight_bytes", "macs")
        }
        settings = {f"kernel_{block}_1": int(row["options"][1]) for block, row in enumerate(picked, 1)}
        bits = {f"weight_bits_{block}": row["weight_bits"] for block, row in enumerate(picked, 1)}
        rows.append(
            {"candidate": name, "key": f"{point:012x}", "nsr_sum": sum(scores.values()), **scores, **costs}
            | settings
            | bits
        )
    return rows


def make_card(name: str, weights: int, miou: float, layers: Sequence[int] = LAYERS) -> Card:
    """Return a card with two trainings, of a network whose block B has kernels 3, 5, ... and expansion 3 B."""
    numbers = [(block, layer) for block, most in enumerate(layers, 1) for layer in range(1, most + 1)]
    shape: Any = {f"kernel_{block}_{layer}": 3 + 2 * (layer - 1) for block, layer in numbers}
    shape |= {f"expansion_{block}_{layer}": 3 * block for block, layer in numbers}
    metrics: Any = {
        precision: {
            split: {"miou": Statistic.of([miou - shift, miou - shift + 0.02], 0)}
            for split, shift in (("val", 0.0), ("test", 0.05))
        }
        for precision in ("float", "quantized", "deployed")
    }
    return Card(
        candidate=name,
        config={
            "architecture": shape,
            "training": {},
            "quantization": {"weight_bits_1": 8, "weight_bits_2": 4, "weight_bits_3": 8},
        },
        task={"name": "segmentation"},
        protocol={"val": "the val folder", "classes": list(CLASSES)},
        run_seed=0,
        sha256="ab" * 32,
        input=BorderTensor(shape=[1, 8, 12, 3], dtype="int8", scale=0.05, zero_point=3, axes=[1, 2, 0]),
        output=BorderTensor(shape=[1, 8, 12, 3], dtype="int8", scale=0.5, zero_point=0, axes=[1, 2, 0]),
        preprocessing={"classes": list(CLASSES)},
        metrics=metrics,
        weight_bytes=weights,
        packed_weight_bytes=weights + 48,
        file_bytes=weights + 9000,
        peak_ram_bytes=4000,
        macs=8 * weights,
        latency_ms={"host": Latency(ms=0.5, kernels="LiteRT optimized, 1 thread")},
        parity_steps=Parity(max=0, mean=0.0, n_outputs=1000),
    )


def written_now(run: RunFolder) -> None:
    """Bring a folder to what is written since all searches have one summary and fronts name their tables' rows."""
    rows = [row | {f"row_{k}": at for k, at in enumerate(chosen(p), 1)} for p, row in enumerate(_front_rows())]
    run.write_table(run.front, rows)
    summary = read_json(run.summary)
    effort = summary["effort_cpu_seconds"]
    run.write_summary(
        {name: value for name, value in summary.items() if name != "teacher"}
        | {"effort_cpu_seconds": {"reference" if name == "teacher" else name: effort[name] for name in effort}}
        | {"front_axes": {"nsr_sum": "minimize", "weight_bytes": "minimize"}, "reference": summary["teacher"]}
        | {"trials": {"measured": 0, "rejected": 0, "failed": 0}, "train_cpu_seconds": 0.0}
    )


def _finalist_row(name: str, key: str, card: Card) -> Row:
    statistics = finalist_statistics(card)
    return {
        "candidate": name,
        "key": key,
        "status": "shipped",
        "reason": "",
        "weight_bytes": card.weight_bytes,
    } | statistics


def write_blockwise_run(path: Path) -> RunFolder:
    """Write the folder: the reference and two networks of the front shipped."""
    folder = RunFolder(path)
    folder.write_recipe(_recipe())
    for block in range(len(LAYERS)):
        home = folder.blocks / f"block_{block + 1}"
        home.mkdir(parents=True)
        write_parquet(home / "table-0123456789.parquet", pl.DataFrame(table_rows(block), infer_schema_length=None))
    front = _front_rows()
    folder.write_table(folder.front, front)
    cards = {"seed": make_card("seed", 60_000, 0.45, layers=(1, 2, 1))}
    cards |= {
        f"n{point}": make_card(f"n{point}", int(front[point]["weight_bytes"]), 0.5 - 0.04 * point)
        for point in FINALISTS
    }
    for name, card in cards.items():
        model = folder.model(name)
        model.mkdir(parents=True)
        (model / "card.json").write_text(card.to_json())
        (model / "model.tflite").write_bytes(b"TFL3")
        write_masks(model / "predictions.npz", wrong=0 if name == "n0" else 24)
    rows = [_finalist_row(name, f"{name:>012}", card) for name, card in cards.items()]
    folder.write_table(folder.finalists, rows)
    folder.write_summary(_summary())
    return folder


def write_masks(path: Path, wrong: int) -> None:
    """Write six test images of 8 x 12 pixels, the last row void, of whose other 84 pixels some are wrong."""
    targets = np.random.default_rng(0).integers(0, len(CLASSES), (6, 8, 12)).astype(np.uint8)
    classes = targets.copy()
    classes.reshape(6, -1)[:, :wrong] = (classes.reshape(6, -1)[:, :wrong] + 1) % len(CLASSES)
    targets[:, -1] = 255
    pictures = np.arange(6 * 8 * 12 * 3).reshape(6, 8, 12, 3).astype(np.uint8)
    images = np.array([f"0001TP_{place}" for place in range(6)])
    np.savez(path, test_classes=classes, test_targets=targets, test_pictures=pictures, test_image=images)


def _summary() -> Row:
    sizes = {f"block_{block + 1}": {"rows": len(table_rows(block))} for block in range(len(LAYERS))}
    return {
        "effort_cpu_seconds": EFFORT,
        "tables": {"rows": sum(size["rows"] for size in sizes.values()), "blocks": sizes},
        "front": 5,
        "teacher": {"weight_bytes": 60_000.0, "float_weight_bytes": 236_000.0},
        "status": "done",
        "finalists": {
            "shipped": 3,
            "failed": 0,
            "failures": [],
            "cpu_seconds": EFFORT["teacher"] + STUDENTS_SECONDS,
        },
        "seconds": {"search": 700.0, "finalists": 120.0},
    }


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON
    """Return a file's content."""
    return json.loads(path.read_text())
