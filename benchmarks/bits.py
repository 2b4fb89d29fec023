"""Bits of weights by layer, by block, and all alike: fronts of one run's supernets, and networks of them retrained.

    python benchmarks/bits.py runs/camvid_s0 --train 3 --epochs 15

RUN is a finished block-wise run in INT8. Fronts are of score and packed bytes, exact (`blockwise_fronts.py`). How many
bytes a front saves is asked at each point of another front: the fewest bytes with no worse a score, over that point's.
With `--train`, networks of equal packed bytes are trained, as finalists are but for the epochs; nothing that lies in a
folder is done again. Results are printed and written to the run's `bits.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blockwise_fronts import Front, Variant, least_cost
from qanas.core.pareto import hypervolume
from qanas.core.run_folder import RunFolder, write_atomically
from ranked_networks import unit_of

PACKED = "packed_weight_bytes"

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "8": {"bits": [8], "per": "block"},
    "6": {"bits": [6], "per": "block"},
    "4": {"bits": [4], "per": "block"},
    "block": {"bits": [4, 6, 8], "per": "block"},
    "layer": {"bits": [4, 6, 8], "per": "layer"},
}
"""What a recipe's [table] says of each."""

SHARES = (0.35, 0.5, 0.65)
"""Of the packed bytes of the reference, that networks are trained at."""


def hypervolumes(fronts: Mapping[str, Front]) -> dict[str, float]:
    """Return the hypervolume of every front below the worst score and the most bytes of all, as a share of the box."""
    worst = np.array([max(f.score.max() for f in fronts.values()), max(f.cost.max() for f in fronts.values())])
    points = {name: np.column_stack([front.score, front.cost]) / worst for name, front in fronts.items()}
    return {name: float(hypervolume(values, (1.0, 1.0))) for name, values in points.items()}


def compared(front: Front, other: Front) -> list[float] | None:
    """Return by which share a front has fewer bytes at another's scores: least, median, most; None: nowhere."""
    saved = 1.0 - least_cost(front.score, front.cost, other.score) / other.cost
    if not np.isfinite(saved).any():
        return None
    return [round(float(np.nanquantile(saved, share)), 3) for share in (0.0, 0.5, 1.0)]


def trained(front: Front, packed: float, epochs: int) -> dict[str, Any]:
    """Return what the largest network within some bytes scores when it is retrained."""
    run = front.variant.run
    candidate = front.candidate(int(np.flatnonzero(front.cost <= packed)[-1]))
    unit = unit_of(run, candidate, epochs, 0)
    training = unit.files.read()
    if training is None:
        print(f"{run.folder.path.name}: {candidate.key}", flush=True)
        training = unit.run(run.plan.bench, lambda _: True)
    return {
        "key": candidate.key,
        "described": run.plan.bench.describe(candidate),
        PACKED: run.plan.bench.costs_of(candidate)[PACKED],
        "parity_steps": training.parity.max,
        "val": training.metrics["deployed"]["val"]["miou"],
        "test": training.metrics["deployed"]["test"]["miou"],
    }


def main() -> None:
    """Make the fronts, compare them, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--train", type=int, default=0, help=f"of {len(SHARES)} sizes, how many")
    parser.add_argument("--epochs", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    source = RunFolder(arguments.run)
    variants = {name: Variant.of(source, name, table, [PACKED]) for name, table in VARIANTS.items()}
    fronts = {name: variant.front(PACKED) for name, variant in variants.items()}
    bench = variants["8"].run.plan.bench
    whole = bench.costs_of(bench.reference)[PACKED]
    volumes = hypervolumes(fronts)
    content: dict[str, Any] = {"fronts": {}, "trained": []}
    for name, front in fronts.items():
        tables = variants[name].run.scored.block_tables
        content["fronts"][name] = {
            "rows": [len(table.rows) for table in tables],
            "exact_rows": [int(table.exact.sum()) for table in tables],
            "networks": len(front.score),
            "table_cpu_seconds": round(variants[name].table_seconds, 1),
            "search_cpu_seconds": round(front.seconds, 3),
            "hypervolume": round(volumes[name], 4),
            "saved_at_equal_score": {f"against {other}": compared(front, fronts[other]) for other in ("8", "block")},
        }
        print(name, json.dumps(content["fronts"][name]), flush=True)
    path = arguments.run / "bits.json"
    for share in SHARES[: arguments.train]:
        for name in ("8", "block", "layer"):
            if fronts[name].cost.min() <= share * whole:
                entry = {"bits": name, "share": share, **trained(fronts[name], share * whole, arguments.epochs)}
                content["trained"].append(entry)
                print(json.dumps(entry), flush=True)
            write_atomically(path, f"{json.dumps(content, indent=1)}\n".encode())
    write_atomically(path, f"{json.dumps(content, indent=1)}\n".encode())


if __name__ == "__main__":
    main()
