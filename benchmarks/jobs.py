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
from qanas.core.measurement import Measurement
from qanas.workflows.sampled_search import TrialUnit, candidate_costs
from qanas.workflows.workers import Executor, ProcessExecutor

from qanas.recipe import load_plan
from qanas.tasks.prepared import save_prepared
from qanas.workflows.plan import Setup
from qanas.workflows.trial_store import suggest


def draw_trials(setup: Setup, count: int) -> list[TrialUnit]:
    """Return random candidates, the same ones at every call."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    candidates = [setup.space.sample(partial(suggest, study.ask())) for _ in range(count)]
    return [TrialUnit(index, c, candidate_costs(setup, c)) for index, c in enumerate(candidates)]


def work_off(executor: Executor[Measurement], units: list[TrialUnit]) -> float:
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
    setup = Setup.load(load_plan(arguments.recipe, arguments.settings))
    units = draw_trials(setup, arguments.trials)
    times: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder)
        save_prepared(setup.problem.data, prepared)
        executors = {jobs: ProcessExecutor[Measurement](setup.plan, prepared, jobs, lambda *_: None) for jobs in times}
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
