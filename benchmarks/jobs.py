"""Two worker processes against one, on the same list of trials.

    python benchmarks/jobs.py recipes/turbofan_quick.toml --set task.data=/data/cmapss

Protocol: candidates are drawn at random with a fixed seed, so that both sides train the same; workers are started
and warmed with one trial before the clock runs; sides alternate (1, 2, 1, 2, ...); the ratio is of median wall times.
Trials are handed out as in a search: the next one when a worker is free.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import optuna
from optuna.samplers import RandomSampler

from qanas.execution.executors import Executor, ProcessExecutor
from qanas.performance_estimation.base import Estimate
from qanas.performance_estimation.bench import Bench
from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.search_space.start import Proposal
from qanas.workflows.trial_store import suggest
from qanas.workflows.trial_unit import TrialUnit


def draw_trials(plan: Plan, count: int) -> list[TrialUnit]:
    """Return random candidates, the same ones at every call."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    bench = plan.bench
    candidates = [bench.space.sample(partial(suggest, study.ask())) for _ in range(count)]
    return [
        TrialUnit(index, Proposal(candidate), bench.costs_of(candidate), plan.estimator, (), 0.0)
        for index, candidate in enumerate(candidates)
    ]


def work_off(executor: Executor[Bench, Estimate], units: list[TrialUnit]) -> float:
    """Train every unit; return the wall-clock seconds."""
    start = time.perf_counter()
    for _ in executor.work_off(units):
        pass
    return time.perf_counter() - start


def main() -> None:
    """Print the ratio as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    plan = load_plan(arguments.recipe, arguments.settings)
    plan.check()
    units = draw_trials(plan, arguments.trials)
    times: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder, plan.bench.shared(Path(folder) / "prepared", max(times)) as bench:
        executors = {jobs: ProcessExecutor[Bench, Estimate](bench, jobs, lambda *_: True) for jobs in times}
        try:
            for jobs, executor in executors.items():
                work_off(executor, units[:1] * jobs)
            for _ in range(arguments.repeats):
                for jobs, executor in executors.items():
                    times[jobs].append(work_off(executor, units))
        finally:
            for executor in executors.values():
                executor.close()
    medians = {jobs: statistics.median(values) for jobs, values in times.items()}
    print(json.dumps({"seconds": times, "speedup": medians[1] / medians[2], "trials": len(units)}))


if __name__ == "__main__":
    main()
