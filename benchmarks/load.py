"""What a trial of a long search costs beside its training, what a rejected candidate costs, how large the report gets.

    python benchmarks/load.py                      random and TPE at 200 and 2,000 trials, and 400 rejected candidates
    python benchmarks/load.py --trials 200 400     a shorter one
    python benchmarks/load.py --profile tpe        where the time goes at the larger size

Protocol: LSTMs on synthetic engines (`recipes/turbofan_quick.toml` with its whole space), estimated by a class that
costs nothing: scores are drawn from the candidate's key. So what is measured is proposing, costing, keeping and
telling. A study of so many trials, drawn at random, goes on for 60 trials. CPU time of this process a trial, medians;
of it what is spent inside Optuna's functions (its sampler, its storage, SQLite included), and the rest, ours. Rejected:
random search under a limit that most candidates break. The report is that of the whole run with one finalist.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import json
import pstats
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from qanas.core.errors import InputError
from qanas.core.events import go_on
from qanas.core.run_folder import RunFolder
from qanas.core.trials import TrialRecord
from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.reporting.report import write_report
from qanas.search_space.start import Proposal
from qanas.workflows.run import run_search
from qanas.workflows.search import Search
from qanas.workflows.trial_store import TrialStore

FREE = """
import hashlib
from qanas.performance_estimation.base import Estimate
from qanas.performance_estimation.training import Training

class Free(Training):
    def estimate(self, bench, proposal, seed, history, watch):
        drawn = int(hashlib.sha256(proposal.candidate.key.encode()).hexdigest()[:8], 16) / 16**8
        units = sum(value for name, value in proposal.candidate.architecture.items() if "units" in name)
        return Estimate({"mae_quantized": 10 + 5 * drawn + 100 / units, "rmse_quantized": 20.0})
"""

RECIPE = """
[task]
name = "turbofan"
data = "synthetic"
stride = 20
[space]
name = "lstm"
max_units = 32
[strategy]
name = "{strategy}"
trials = {trials}
max_rejected = 100000
[estimation]
name = "free:Free"
epochs = 1
[objectives]
mae_quantized = "minimize"
weight_bytes = "minimize"
[finalists]
count = 1
seeds = 1
"""

WINDOW = 60
OPTUNAS = {
    optuna.study.Study: ("ask", "tell", "add_trial", "set_user_attr", "get_trials"),
    optuna.trial.Trial: ("suggest_int", "suggest_float", "suggest_categorical", "set_user_attr", "set_constraint"),
}


class Clock:
    """CPU seconds inside some functions, those that they call counted once."""

    def __init__(self) -> None:
        """Start at zero."""
        self.seconds = 0.0
        self._inside = False

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, which counts."""

        @functools.wraps(function)
        def counted(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - the function's own
            if self._inside:
                return function(*arguments, **named)
            self._inside, started = True, time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.process_time() - started
                self._inside = False

        return counted


@dataclass
class Watcher:
    """Notes the CPU seconds at the end of every trial and rejection.

    Attributes:
        optunas: counts Optuna's share.
        trials: seconds so far and Optuna's, at the end of each.
        rejections: seconds of each rejected candidate.
    """

    optunas: Clock
    trials: list[tuple[float, float]] = field(default_factory=list)
    rejections: list[float] = field(default_factory=list)
    _before: float = 0.0

    def trial_finished(self, *_: object) -> None:
        """Note the time."""
        self.trials.append((time.process_time(), self.optunas.seconds))
        self._before = time.process_time()

    def rejected(self, *_: object) -> None:
        """Note what it took since the last one."""
        now = time.process_time()
        self.rejections.append(now - self._before)
        self._before = now

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Ignore the rest."""
        return lambda *_, **__: None

    def median(self) -> tuple[float, float]:
        """Return milliseconds a trial, Optuna's and ours."""
        steps = [
            (after[0] - before[0], after[1] - before[1])
            for before, after in zip(self.trials, self.trials[1:], strict=False)
        ]
        return 1e3 * statistics.median(o for _, o in steps), 1e3 * statistics.median(w - o for w, o in steps)


@dataclass(frozen=True)
class Load:
    """What a search took.

    Attributes:
        strategy: by name.
        trials: before.
        optunas: milliseconds a trial.
        ours: milliseconds a trial.
        report: megabytes.
        report_seconds: CPU seconds to write it.
    """

    strategy: str
    trials: int
    optunas: float
    ours: float
    report: float
    report_seconds: float


def plan_of(folder: Path, strategy: str, trials: int, more: str = "") -> Plan:
    """Return the plan of a search."""
    recipe = folder / f"{strategy}.toml"
    (folder / "free.py").write_text(FREE, "utf-8")
    recipe.write_text(RECIPE.format(strategy=strategy, trials=trials) + more, "utf-8")
    plan = load_plan(recipe)
    plan.check()
    return plan


def filled(folder: Path, trials: int) -> Path:
    """Return a study of so many trials, drawn at random; one that is there already stays."""
    path = folder / f"{trials}.db"
    if path.is_file():
        return path
    plan, generator = plan_of(folder, "random", trials), np.random.default_rng(0)
    store, bench = TrialStore(path, plan.axes, plan.limits), plan.bench
    for index in range(trials):
        candidate = bench.space.random(generator) if index else bench.reference
        scores = dict(plan.estimator.estimate(bench, Proposal(candidate), 0, (), go_on).scores)
        costs = bench.costs_of(candidate)
        record = TrialRecord(
            index,
            "measured",
            candidate.config,
            costs,
            scores,
            is_seed=not index,
            started_at=1e9 + index,
            finished_at=1e9 + index + 0.5,
        )
        store.tell(bench.space, None, record)
    return path


def measure(strategy: str, study: Path, trials: int, profile: cProfile.Profile | None) -> Load:
    """Let a study go on."""
    out = RunFolder(study.parent / f"{strategy}-{trials}")
    shutil.rmtree(out.path, ignore_errors=True)
    out.path.mkdir()
    shutil.copy(study, out.study)
    clock = Clock()
    undone = [(kind, name, getattr(kind, name)) for kind, names in OPTUNAS.items() for name in names]
    for kind, name, function in undone:
        setattr(kind, name, clock.timed(function))
    watcher = Watcher(clock)
    plan = plan_of(study.parent, strategy, trials + WINDOW)
    try:
        if profile:
            profile.enable()
        run_search(plan, out, watcher)
    finally:
        if profile:
            profile.disable()
        for kind, name, function in undone:
            setattr(kind, name, function)
    started = time.process_time()
    size = write_report(out).stat().st_size / 1e6
    return Load(strategy, trials, *watcher.median(), size, time.process_time() - started)


def rejections(count: int, folder: Path) -> float:
    """Return the milliseconds of a rejected candidate, the median."""
    watcher = Watcher(Clock())
    plan = plan_of(folder, "random", 10**6, "[limits]\nweight_bytes = 500\n")
    plan = replace(plan, budget=replace(plan.budget, max_rejected=count))
    out = folder / "rejected"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    try:
        Search(plan, RunFolder(out), watcher).run()
    except InputError as error:
        print(error)
    return 1e3 * statistics.median(watcher.rejections[1:])


def table(loads: Sequence[Load]) -> str:
    """Return the figures as text."""
    lines = [f"{'':10}{'trials':>8}{'CPU ms a trial: in Optuna + ours':>36}{'report':>10}{'written in':>12}"]
    for load in loads:
        share = f"{load.optunas:.1f} + {load.ours:.1f} = {load.optunas + load.ours:.1f}"
        lines.append(f"{load.strategy:10}{load.trials:8}{share:>36}{load.report:7.1f} MB{load.report_seconds:10.1f} s")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="*", default=[200, 2000])
    parser.add_argument("--rejected", type=int, default=400)
    parser.add_argument("--strategies", nargs="*", default=["random", "tpe"])
    parser.add_argument("--profile")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="a folder for the runs; a temporary one if left out")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    loads = []
    with tempfile.TemporaryDirectory(prefix="load-") as temporary:
        folder = arguments.keep or Path(temporary)
        rejected = rejections(arguments.rejected, folder) if arguments.rejected else None
        print(f"a rejected candidate: {rejected} ms", flush=True)
        for trials in arguments.trials:
            study = filled(folder, trials)
            for strategy in arguments.strategies:
                profile = cProfile.Profile() if arguments.profile == strategy else None
                loads.append(measure(strategy, study, trials, profile))
                print(table(loads[-1:]), flush=True)
                if profile and trials == arguments.trials[-1]:
                    pstats.Stats(profile).sort_stats("cumtime").print_stats(70)
    print(table(loads))
    if arguments.json:
        found = {"searches": [vars(load) for load in loads], "rejected_ms": rejected}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
