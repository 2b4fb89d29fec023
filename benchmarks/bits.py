"""Bits of weights by layer, by block, and all alike: fronts of one run's supernets, and networks of them retrained.

    python benchmarks/bits.py runs/camvid_s0 --train 3 --epochs 15

RUN is a finished block-wise run in INT8; teacher and supernets are its own. Each variant's tables lie in a copy of its
folder beside it (`runs/camvid_s0-layer`), made where they lack. Fronts are of score and packed bytes, exact. How many
bytes a front saves is asked at each point of another front: the fewest bytes with no worse a score, over that
point's. With `--train`, networks of equal packed bytes are trained, as finalists are but for the epochs; nothing that
lies in a folder is done again. Results are printed and written to the run's `bits.json`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blockwise_control_kinds import FinishedRun
from qanas.core.candidate import Candidate
from qanas.core.pareto import hypervolume
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.performance_estimation.scored_blocks import ScoredBlocks
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.search_space.additive import AdditiveScores
from qanas.search_strategy.solvers import ExactSearch
from qanas.workflows.stages import RunStages
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

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Front:
    """A variant's exact front.

    Attributes:
        run: the copy with its tables.
        score: of each network, shape (networks,), sorted by bytes.
        packed: bytes of each, shape (networks,).
        rows: of each block's table, shape (networks, blocks).
        additive: which they are rows of.
        seconds: of the processor: tables, and the search.
    """

    run: FinishedRun
    score: Floats
    packed: Floats
    rows: NDArray[np.intp]
    additive: AdditiveScores
    seconds: tuple[float, float]

    def candidate(self, packed: float) -> Candidate:
        """Return the largest network within some bytes."""
        return self.additive.candidate(self.rows[np.flatnonzero(self.packed <= packed)[-1]].tolist())


def front_of(source: RunFolder, name: str) -> Front:
    """Return the front of a variant; its tables are made where they lack."""
    folder = RunFolder(source.path.with_name(f"{source.path.name}-{name}"))
    if not folder.path.exists():
        folder.path.mkdir()
        (folder.path / "features").symlink_to((source.path / "features").resolve())
        for part in ("blocks", "trainings"):
            shutil.copytree(source.path / part, folder.path / part)
    recipe = tomllib.loads(source.recipe.read_text("utf-8"))
    recipe["table"] |= VARIANTS[name]
    recipe["objectives"] = {"miou_quantized": "maximize", PACKED: "minimize"}
    folder.write_recipe(recipe)
    plan = load_plan(folder.recipe)
    plan.check()
    with LiveDisplay() as display:
        scored = plan.estimator.prepare(plan.bench, RunStages(plan, folder, display), plan.measures)
    assert isinstance(scored, ScoredBlocks)
    effort = [file.table.read_note().get("cpu_seconds", 0.0) for file in scored.files]
    started = time.process_time()
    additive = scored.offer(AdditiveScores)
    found = ExactSearch().solve([table.losses([PACKED]) for table in additive.tables])
    seconds = (sum(effort), time.process_time() - started)
    order = np.argsort(found.losses[:, 1])
    packed = found.losses[order, 1] + additive.outside[PACKED]
    run = FinishedRun(plan, folder, scored, 1)
    return Front(run, found.losses[order, 0], packed, found.rows[order], additive, seconds)


def saved(front: Front, other: Front) -> Floats:
    """Return by which share a front has fewer bytes than each point of another with a score no worse, shape (points,).

    NaN where no network of the front has such a score.
    """
    found = []
    for score, packed in zip(other.score, other.packed, strict=True):
        enough = front.packed[front.score <= score]
        found.append(1.0 - enough.min() / packed if len(enough) else np.nan)
    return np.array(found)


def hypervolumes(fronts: Mapping[str, Front]) -> dict[str, float]:
    """Return the hypervolume of every front below the worst score and the most bytes of all, as a share of the box."""
    worst = np.array([max(f.score.max() for f in fronts.values()), max(f.packed.max() for f in fronts.values())])
    points = {name: np.column_stack([front.score, front.packed]) / worst for name, front in fronts.items()}
    return {name: float(hypervolume(values, (1.0, 1.0))) for name, values in points.items()}


def trained(front: Front, packed: float, epochs: int) -> dict[str, Any]:
    """Return what a network within some bytes scores when it is retrained."""
    candidate = front.candidate(packed)
    unit = unit_of(front.run, candidate, epochs, 0)
    training = unit.files.read()
    if training is None:
        print(f"{front.run.folder.path.name}: {candidate.key}", flush=True)
        training = unit.run(front.run.plan.bench, lambda _: True)
    costs = front.run.plan.bench.costs_of(candidate)
    return {
        "key": candidate.key,
        "described": front.run.plan.bench.describe(candidate),
        PACKED: costs[PACKED],
        "parity_steps": training.parity.max,
        **{split: training.metrics["deployed"][split]["miou"] for split in ("val", "test")},
    }


def main() -> None:
    """Make the fronts, compare them, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--train", type=int, default=0, help=f"of {len(SHARES)} sizes, how many")
    parser.add_argument("--epochs", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    fronts = {name: front_of(RunFolder(arguments.run), name) for name in VARIANTS}
    reference = fronts["8"].run.plan.bench
    whole = reference.costs_of(reference.reference)[PACKED]
    volumes = hypervolumes(fronts)
    content: dict[str, Any] = {"reference_packed_bytes": whole, "fronts": {}, "trained": []}
    for name, front in fronts.items():
        shares = {other: saved(front, fronts[other]) for other in ("8", "block")}
        content["fronts"][name] = {
            "rows": [len(table.rows) for table in front.run.scored.block_tables],
            "exact_rows": [int(table.exact.sum()) for table in front.run.scored.block_tables],
            "networks": len(front.score),
            "table_cpu_seconds": round(front.seconds[0], 1),
            "search_cpu_seconds": round(front.seconds[1], 2),
            "hypervolume": round(volumes[name], 4),
            "saved_at_equal_score": {
                f"against {other}": [round(float(np.nanquantile(values, q)), 3) for q in (0.0, 0.5, 1.0)]
                if np.isfinite(values).any()
                else None
                for other, values in shares.items()
            },
            "worse_than_block_anywhere": bool((~(shares["block"] >= 0)).any()),
        }
        print(name, json.dumps(content["fronts"][name]), flush=True)
    path = arguments.run / "bits.json"
    for share in SHARES[: arguments.train]:
        for name in ("8", "block", "layer"):
            if fronts[name].packed.min() <= share * whole:
                entry = {"bits": name, "share": share, **trained(fronts[name], share * whole, arguments.epochs)}
                content["trained"].append(entry)
                print(json.dumps(entry), flush=True)
            write_atomically(path, f"{json.dumps(content, indent=1)}\n".encode())
    write_atomically(path, f"{json.dumps(content, indent=1)}\n".encode())


if __name__ == "__main__":
    main()
