"""How many workers a coordinator and a store can feed: a discrete-event simulation of measured overheads.

    python benchmarks/scale.py docs/results/overhead.json --out docs/results/scale.json

Model: a worker asks its coordinator for a trial, trains, tells, and asks again. A coordinator serves one worker at a
time: it proposes and costs a candidate (`PROPOSE_MS`), its own time, and claims, begins and tells, which is the
store's time, too: `EXCLUSIVE` of that is assumed to be what the store can give to nobody else, since rows are added
under a lock of their study. Trainings take times drawn from a gamma distribution with a coefficient of variation of
0.5. What is told is the share of their time that workers train.
"""

from __future__ import annotations

import argparse
import heapq
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PROPOSE_MS = 13.5
"""CPU milliseconds to propose and cost a trial of 35 settings, without what its store takes: docs/results/load.md."""

EXCLUSIVE = 0.4
"""Of a trial's time at the store, what no other coordinator can have: 4 of 10 operations add or end a row."""

WORKERS = (1, 10, 100, 1000)
TRAINING_S = (1.0, 10.0, 60.0, 600.0)
COORDINATORS = (1, 4, 16)
TRIALS_EACH = 30


@dataclass(frozen=True)
class Overheads:
    """Seconds of a trial beside its training.

    Attributes:
        own: of a coordinator alone.
        store: of the coordinator while it waits for the store, of which
        exclusive: is the store's for one at a time.
        hand_over: of the executor.
    """

    own: float
    store: float
    exclusive: float
    hand_over: float


def utilisation(workers: int, coordinators: int, training: float, costs: Overheads, seed: int = 0) -> float:
    """Return the share of their time that workers train, over 30 trials each."""
    generator = np.random.default_rng(seed)
    coordinators = min(coordinators, workers)
    free_at = [0.0] * coordinators
    store_free = 0.0
    queue = [(0.0, worker, 0) for worker in range(workers)]
    heapq.heapify(queue)
    busy, end = 0.0, 0.0
    while queue:
        asks, worker, done = heapq.heappop(queue)
        if done == TRIALS_EACH:
            end = max(end, asks)
            continue
        served_by = worker % coordinators
        ready = max(asks, free_at[served_by]) + costs.own + costs.store - costs.exclusive + costs.hand_over
        begins = max(ready, store_free) + costs.exclusive
        store_free = free_at[served_by] = begins
        trains = float(generator.gamma(4.0, training / 4.0))
        busy += trains
        heapq.heappush(queue, (begins + trains, worker, done + 1))
    return busy / (end * workers)


def main() -> None:
    """Simulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overhead", type=Path, help="what benchmarks/overhead.py wrote")
    parser.add_argument("--store", default="PostgreSQL")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    measured = json.loads(given.overhead.read_text("utf-8"))
    store = measured["stores"][given.store]["wall_ms"] / 1e3
    costs = Overheads(PROPOSE_MS / 1e3, store, EXCLUSIVE * store, measured["processes"]["wall_ms"] / 1e3)
    rows = [
        {"training_s": training, "coordinators": coordinators, "workers": workers,
         "training_share": round(utilisation(workers, coordinators, training, costs), 3)}
        for training in TRAINING_S for coordinators in COORDINATORS for workers in WORKERS
    ]  # fmt: skip
    each = costs.own + costs.store + costs.hand_over
    found = {
        "store": given.store,
        "seconds": {"own": costs.own, "store": costs.store, "exclusive": costs.exclusive, "hand_over": costs.hand_over},
        "trials_a_second": {"of a coordinator": round(1 / each, 2), "of a study": round(1 / costs.exclusive, 2)},
        "rows": rows,
    }
    for training in TRAINING_S:
        for coordinators in COORDINATORS:
            shares = [row["training_share"] for row in rows
                      if (row["training_s"], row["coordinators"]) == (training, coordinators)]  # fmt: skip
            print(f"{training:6g} s, {coordinators:3d} coordinators: {shares}")
    print(found["trials_a_second"])
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
