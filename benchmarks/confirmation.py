"""What a front says against what its points score when they are trained anew: with confirmation, and without.

    python benchmarks/confirmation.py DATA OUT --seeds 10 --confirm 0.9

Runs recipes/turbofan_quick.toml's search with `finalists.confirm` for each seed in OUT, trains every point of both
fronts (that of the single trainings, and the confirmed one) five times with further seeds, and prints the mean regret
of a point: its mean validation score over these less what the front said, with its 95 % interval over searches. Goes on
where it was stopped; OUT/confirmation.json has every regret by search.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qanas.core.run_folder import RunFolder, write_atomically
from qanas.core.seeds import derive_seed
from qanas.core.trials import TrialRecord
from qanas.execution.executors import InlineExecutor
from qanas.performance_estimation.bench import Bench
from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.shipping.confirmation import Confirmation, ConfirmationUnit
from qanas.tasks.resampling import interval_of
from qanas.workflows.search import Search

RECIPE = Path(__file__).parents[1] / "recipes" / "turbofan_quick.toml"
FRESH = 5
FIRST_FRESH = 1000
"""Repetitions from here on are nobody's but this script's."""

DRAWS = 10_000


def fresh_scores(plan: Plan, folder: RunFolder, record: TrialRecord) -> list[float]:
    """Return the scores of further trainings of a candidate."""
    place = folder.path / "fresh.json"
    known = json.loads(place.read_text("utf-8")) if place.is_file() else {}
    key, column = record.candidate.key, plan.main_metric.column
    if key not in known:
        with InlineExecutor[Bench, dict[str, float]](plan.bench, lambda *_: True) as executor:
            for repetition in range(FRESH):
                executor.submit(ConfirmationUnit(plan.estimator.procedure, record.candidate, FIRST_FRESH + repetition))
            results = [executor.next_finished()[1] for _ in range(FRESH)]
        known[key] = [result[column] for result in results if isinstance(result, dict)]
        write_atomically(place, json.dumps(known).encode())
    found: list[float] = known[key]
    return found


def regrets(plan: Plan, folder: RunFolder, front: list[TrialRecord]) -> list[float]:
    """Return the regret of each front point but the reference."""
    metric = plan.main_metric
    return [
        metric.loss(float(np.mean(fresh_scores(plan, folder, record)))) - metric.loss(record.metrics[metric.column])
        for record in front
        if not record.is_seed
    ]


def drawn_means(by_search: list[list[float]]) -> NDArray[np.float64]:
    """Return the mean regret of a point over searches drawn with replacement, shape (draws,): the same for each front.

    Args:
        by_search: the regrets of each search's points.
    """
    drawn = np.random.default_rng(0).integers(len(by_search), size=(DRAWS, len(by_search)))
    sums, counts = np.array([sum(own) for own in by_search]), np.array([len(own) for own in by_search])
    found: NDArray[np.float64] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the folder with C-MAPSS, or 'synthetic'")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--confirm", type=float, default=0.3)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    collected: dict[str, list[list[float]]] = {"single": [], "confirmed": []}
    shares = []
    for seed in range(options.seeds):
        changes = [f"task.data={options.data}", f"finalists.confirm={options.confirm}", "estimation.jobs=1",
                   f"run.seed={derive_seed(0, 'confirmation benchmark', seed) % 10**6}", *options.settings]  # fmt: skip
        plan = load_plan(RECIPE, changes)
        plan.check()
        folder = RunFolder(options.out / f"seed-{seed}")
        folder.path.mkdir(parents=True, exist_ok=True)
        with LiveDisplay() as display:
            search = Search(plan, folder, display)
            search.run()
            confirmation = Confirmation(plan, folder, search.records, display)
            fronts = {"single": search.front(), "confirmed": confirmation.front()}
        told = confirmation.summary()
        shares.append(told["train_cpu_seconds"] / search.summary()["train_cpu_seconds"])
        for name, front in fronts.items():
            collected[name].append(found := regrets(plan, folder, front))
            print(f"seed {seed}, {name}: {len(found)} points, mean regret {np.mean(found):.3f}", flush=True)
        print(f"seed {seed}: {told['trainings']} trainings, {shares[-1]:.0%} of the search's CPU time", flush=True)
    for name, by_search in collected.items():
        found = [regret for own in by_search for regret in own]
        spread = interval_of(drawn_means(by_search), options.seeds)
        print(f"{name}: {len(found)} points, regret: mean {np.mean(found):.3f}, {spread.low:.3f} to {spread.high:.3f}, "
              f"median {np.median(found):.3f}, mean of magnitudes {np.abs(found).mean():.3f}")  # fmt: skip
    gap = interval_of(drawn_means(collected["single"]) - drawn_means(collected["confirmed"]), options.seeds)
    print(f"difference: {gap.low:.3f} to {gap.high:.3f}")
    print(f"confirmation took {np.mean(shares):.0%} of the searches' CPU time")
    content = {"confirm": options.confirm, "regrets": collected, "shares_of_cpu_time": shares}
    write_atomically(options.out / "confirmation.json", f"{json.dumps(content, indent=1)}\n".encode())


if __name__ == "__main__":
    main()
