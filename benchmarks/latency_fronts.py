"""Fronts for several devices from one run's supernets: what a network found for one is worth on another.

    python benchmarks/latency_fronts.py runs/camvid_s0 --write docs/results/latency.json

RUN is a finished block-wise run in INT8. Fronts are of score and a device's latency by its formula, exact
(`blockwise_fronts.py`), and of score and MACs. A front that was found for one cost is then taken by another: at each
point of that cost's own front, the least cost of its networks with no worse a score, over that point's. Sums over
blocks are held against the whole network's latency on the networks of all fronts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blockwise_fronts import Front, Variant, least_cost
from qanas.core.even_spread import evenly_spread
from qanas.core.run_folder import RunFolder
from qanas.regression.ranking import kendall_tau

DEVICES = ("imxrt1170", "stm32l4r5", "imx8mplus-a53")
CHECKED = 8
"""Networks of each front whose whole latency is had."""


def excess(front: Front, own: Front, cost: str) -> list[float] | None:
    """Return by which share a front's networks cost more than those found for the cost: median and most."""
    more = least_cost(front.score, front.on(cost), own.score) / own.cost - 1.0
    if not np.isfinite(more).any():
        return None
    return [round(float(np.nanmedian(more)), 3), round(float(np.nanmax(more)), 3)]


def against_whole(fronts: Sequence[Front], cost: str) -> dict[str, float]:
    """Return how well sums over blocks agree with whole networks' cost: Kendall's tau, and the largest difference."""
    sums, wholes = [], []
    for front in fronts:
        bench = front.variant.run.plan.bench
        for place in evenly_spread(len(front.score), CHECKED):
            sums.append(float(front.on(cost)[place]))
            wholes.append(bench.costs_of(front.candidate(place))[cost])
    one, other = np.array(sums), np.array(wholes)
    return {"tau": kendall_tau(one, other), "largest_relative_difference": float(np.abs(one / other - 1.0).max())}


def made_of(front: Front) -> dict[str, float]:
    """Return what the networks of a front are made of, on average over its options."""
    found = [front.candidate(place).architecture for place in evenly_spread(len(front.score), CHECKED)]
    return {
        what: round(float(np.mean([v for own in found for name, v in own.items() if name.startswith(what)])), 2)
        for what in ("kernel", "expansion")
    }


def main() -> None:
    """Make the fronts, take each by every cost, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    costs = [*(f"latency_ms@{device}" for device in DEVICES), "macs"]
    variant = Variant.of(RunFolder(arguments.run), "latency", {}, costs)
    fronts = {cost: variant.front(cost) for cost in costs}
    content: dict[str, Any] = {
        "table_cpu_seconds": round(variant.table_seconds, 1),
        "fronts": {
            cost: {
                "networks": len(front.score),
                "cost": [round(float(front.cost.min()), 3), round(float(front.cost.max()), 3)],
                "score": [round(float(front.score.min()), 4), round(float(front.score.max()), 4)],
                "made_of": made_of(front),
            }
            for cost, front in fronts.items()
        },
        "more_than_the_own_front": {
            found_for: {cost: excess(front, fronts[cost], cost) for cost in costs if cost != found_for}
            for found_for, front in fronts.items()
        },
        "sums_against_whole_networks": {cost: against_whole(list(fronts.values()), cost) for cost in costs},
    }
    text = json.dumps(content, indent=1)
    print(text)
    if arguments.write is not None:
        arguments.write.write_text(f"{text}\n", "utf-8")


if __name__ == "__main__":
    main()
