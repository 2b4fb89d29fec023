"""Bits of weights by layer, by block, and all alike: fronts of one run's supernets, and networks of them retrained.

    python benchmarks/bits.py runs/camvid_s0 runs/camvid_s1 --train 3 --epochs 15 --write docs/results/bits

Each RUN is a finished block-wise run in INT8, of a seed of its own. Fronts are of score and packed bytes, exact
(`blockwise_fronts.py`). How many bytes a front saves is asked at each point of another front: the fewest bytes with no
worse a score, over that point's. With `--train`, the largest network of each front within some packed bytes is
trained, as finalists are but for the epochs, and scored by LiteRT on test images, once; networks of equal bytes are
held against each other over the same draws of test images (95 %), which say nothing of other trainings. Nothing that
lies in a folder is done again. `--write` takes the name of a result: its JSON is written after each training, its
tables in the end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arms import points_ahead
from blockwise_fronts import Front, Variant, least_cost
from pages import write_page
from qanas.core.pareto import hypervolume
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.shipping.verdict import draws_in
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

SHARES = (0.42, 0.5, 0.65)
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
    predictions = unit.files.content(".npz", training)
    assert predictions is not None, training.failure
    return {
        "key": candidate.key,
        "described": run.plan.bench.describe(candidate),
        PACKED: run.plan.bench.costs_of(candidate)[PACKED],
        "parity_steps": training.parity.max,
        "val": training.metrics["deployed"]["val"]["miou"],
        "test": training.metrics["deployed"]["test"]["miou"],
        "images": training.units["test"],
        "drawn": [round(float(value), 5) for value in draws_in(predictions, "test")["miou"]],
    }


def measured(path: Path, train: int, epochs: int, keep: Callable[[Mapping[str, Any]], None]) -> None:
    """Make one run's fronts and train what is asked for.

    Args:
        path: of the run.
        train: of how many sizes.
        epochs: of each training.
        keep: called with what is known so far.
    """
    source = RunFolder(path)
    variants = {name: Variant.of(source, name, table, [PACKED]) for name, table in VARIANTS.items()}
    fronts = {name: variant.front(PACKED) for name, variant in variants.items()}
    bench = variants["8"].run.plan.bench
    whole = bench.costs_of(bench.reference)[PACKED]
    volumes = hypervolumes(fronts)
    content: dict[str, Any] = {"reference_packed_bytes": whole, "fronts": {}, "trained": []}
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
    keep(content)
    for share in SHARES[:train]:
        for name, front in fronts.items():
            if front.cost.min() <= share * whole:
                content["trained"].append({"bits": name, "share": share, **trained(front, share * whole, epochs)})
                keep(content)


TOLD = {"8": "8", "6": "6", "4": "4", "block": "4, 6, 8 by block", "layer": "4, 6, 8 by layer"}
"""What a page calls each."""


def saved(shares: Sequence[float] | None) -> str:
    """Return what `compared` found in words."""
    if shares is None:
        return "no score as good"
    low, median, high = (f"{100 * share:.2g}" for share in shares)
    return f"{low} to {high} %, median {median} %"


def fronts_table(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of a table of the fronts, a row for each run and bits."""
    titles = ["run", "bits", "rows of the tables", "left by the races", "networks on the front", "tables, CPU s"]
    titles += ["search, CPU s", "hypervolume", "packed bytes saved at equal score: against INT8", "bits by block"]
    lines = [
        f"| {' | '.join(titles)} |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for run, content in runs.items():
        for name, front in content["fronts"].items():
            against = {o: saved(front["saved_at_equal_score"][f"against {o}"]) for o in ("8", "block")}
            of_8 = "" if name == "8" else against["8"]
            of_block = "" if name in {"8", "block"} else against["block"]
            lines.append(
                f"| {run} | {TOLD[name]} | {sum(front['rows']):,} | {sum(front['exact_rows'])} | {front['networks']} "
                f"| {front['table_cpu_seconds']} | {front['search_cpu_seconds']} | {front['hypervolume']:.4f} "
                f"| {of_8} | {of_block} |"
            )
    return lines


def trained_table(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of a table of the retrained networks, a row for each run, size and bits."""
    lines = [
        "| run | of the reference's packed bytes | bits | packed bytes | mIoU val | test | ahead of bits by block |",
        "|---|---:|---|---:|---:|---:|---|",
    ]
    for run, content in runs.items():
        for entry in content["trained"]:
            same = [o for o in content["trained"] if o["share"] == entry["share"] and o["bits"] == "block"]
            ahead = ""
            if same and entry["bits"] != "block":
                (other,) = same
                gap = entry["test"] - other["test"]
                ahead = points_ahead(gap, entry["drawn"], other["drawn"], entry["images"])
            lines.append(
                f"| {run} | {entry['share']:.0%} | {TOLD[entry['bits']]} | {entry[PACKED]:,.0f} "
                f"| {100 * entry['val']:.1f} | {100 * entry['test']:.1f} | {ahead} |"
            )
    return lines


def main() -> None:
    """Make the fronts of each run, compare them, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--train", type=int, default=0, help=f"of {len(SHARES)} sizes, how many")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--write", type=Path, required=True, help="of the result, without .json and .md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs: dict[str, Mapping[str, Any]] = {}
    for path in arguments.runs:

        def keep(content: Mapping[str, Any], name: str = path.name) -> None:
            runs[name] = content
            told = json.dumps({"epochs": arguments.epochs, "runs": runs})
            write_atomically(arguments.write.with_suffix(".json"), f"{told}\n".encode())

        measured(path, arguments.train, arguments.epochs, keep)
    tables = [*fronts_table(runs), "", *trained_table(runs)]
    write_page(arguments.write.with_suffix(".md"), "\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
