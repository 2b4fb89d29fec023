"""How many trials each strategy needs for the hypervolume that TPE has after 100, on tables of trained networks.

    python benchmarks/strategies.py runs/strategies --data $QANAS_DATA/nas_tables
    python benchmarks/strategies.py runs/strategies --data $QANAS_DATA/nas_tables --write docs/results/strategies

Protocol: a trial looks a network's error and cost up, nothing is trained. Tables: NAS-Bench-201's 15,625 cells (Dong
& Yang 2020; test error after 200 epochs, latency of HELP), NAS-Bench-Macro's 6,561 networks (Su et al. 2021), and 880
LSTMs with their training settings, trained in full on C-MAPSS FD001 (benchmarks/trained_table.py, --grid; MAE of the
INT8 network on validation engines), which is shipped in benchmarks/data. Both
objectives are minimised; hypervolume is that of error and the logarithm of the cost below the table's median error
and largest cost, relative to that of the table's true front. Proposals that were tried are asked for again, as in a
run. The mark is the median over ten seeds of what TPE has after 100 trials, with which every strategy, TPE too, is
then run with ten other seeds, for at most 200 trials; those of size_aware are none that it was developed with. Each
run is a file: everything goes on where it was left.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import polars as pl
from numpy.typing import NDArray

from qanas.core.candidate import Candidate
from qanas.core.measures import Cost, Measure, Score
from qanas.core.pareto import hypervolume, non_dominated
from qanas.core.run_folder import write_atomically
from qanas.core.seeds import derive_seed
from qanas.core.trials import TrialRecord
from qanas.search_space.settings import AtLeast, Choice, Integer, Setting
from qanas.search_space.space import SearchSpace, space_of
from qanas.search_strategy.base import Sampler
from qanas.search_strategy.evolution import Evolution
from qanas.search_strategy.reinforce import Reinforce
from qanas.search_strategy.samplers import GP, NSGA2, TPE, RandomSearch
from qanas.search_strategy.size_aware import SizeAware
from qanas.workflows.trial_store import TrialStore

Array = NDArray[np.float64]

SEEDS = 10
MARK_TRIALS, MOST_TRIALS = 100, 200
FRESH = {"size_aware": 100}
"""The first seed of strategies that were developed on the first ones."""

ASKED_AGAIN = 5

STRATEGIES: Mapping[str, Callable[[], Sampler]] = {
    "random": RandomSearch,
    "tpe": TPE,
    "nsga2": NSGA2,
    "evolution": Evolution,
    "reinforce": Reinforce,
    "size_aware": SizeAware,
    "gp": GP,
}


@dataclass(frozen=True)
class Problem:
    """A table as a search.

    Attributes:
        name: for files and tables.
        settings: of the networks.
        errors: by the values of the settings, shape () each; percent.
        costs: likewise.
        cost: its measure.
    """

    name: str
    settings: tuple[Setting, ...]
    errors: Mapping[tuple[object, ...], float]
    costs: Mapping[tuple[object, ...], float]
    cost: Cost

    @property
    def axes(self) -> tuple[Measure, ...]:
        """Error and cost."""
        return Score("predicted_error"), self.cost

    def key(self, candidate: Candidate) -> tuple[object, ...]:
        """Return where a candidate is in the table."""
        return tuple(candidate.architecture.get(setting.name) for setting in self.settings)

    def record(self, index: int, candidate: Candidate) -> TrialRecord:
        """Look a candidate up."""
        key = self.key(candidate)
        costs = {self.cost.column: self.costs[key]}
        return TrialRecord(index, "measured", candidate.config, costs, {"predicted_error": self.errors[key]})

    @cached_property
    def reference(self) -> tuple[float, float]:
        """The point below which volumes are counted: the median error, the logarithm of the largest cost."""
        return float(np.median(list(self.errors.values()))), float(np.log10(max(self.costs.values())))

    def points(self, keys: Sequence[tuple[object, ...]]) -> Array:
        """Return errors and logarithms of costs, shape (n, 2)."""
        return np.array([[self.errors[key], np.log10(self.costs[key])] for key in keys])

    @cached_property
    def whole(self) -> float:
        """The hypervolume of the true front."""
        return hypervolume(self.points(list(self.errors)), self.reference)

    def run(self, sampler: Sampler, seed: int, trials: int, mark: float = np.inf) -> list[float]:
        """Return the relative hypervolume after each trial; search until the mark is reached, or for some trials."""
        space = space_of(self.settings, ("architecture",), sampler.encoding)
        store = TrialStore(None, self.axes, ())
        sampler = sampler.costed(lambda candidate: {self.cost.column: self.costs[self.key(candidate)]})
        points, reached = np.empty((0, 2)), []
        tried: set[tuple[object, ...]] = set()
        for index in range(trials):
            record, number = self._next(sampler, space, store, tried, seed, index)
            tried.add(self.key(record.candidate))
            store.tell(space, number, record)
            points = np.concatenate([points, self.points([self.key(record.candidate)])])
            points = points[non_dominated(points)]
            reached.append(hypervolume(points, self.reference) / self.whole)
            if reached[-1] >= mark:
                break
        return reached

    def _next(
        self,
        sampler: Sampler,
        space: SearchSpace,
        store: TrialStore,
        tried: set[tuple[object, ...]],
        seed: int,
        index: int,
    ) -> tuple[TrialRecord, int | None]:
        for again in range(ASKED_AGAIN):
            proposal = sampler.ask(space, store, derive_seed(seed, "sampler", index, again))
            if self.key(proposal.candidate) not in tried:
                return self.record(index, proposal.candidate), proposal.number
            store.drop(proposal.number)
        generator = np.random.default_rng(derive_seed(seed, "drawn", index))
        while True:
            candidate = space.random(generator)
            if self.key(candidate) not in tried:
                return self.record(index, candidate), None


GRID = Path(__file__).parent / "data" / "grid_fd001.csv.gz"


def grid_problem(path: Path) -> Problem:
    """Return the grid of LSTMs; units and learning rates are numbered in their order, as samplers see sizes."""
    rows = pl.read_csv(path)
    configs = [json.loads(text) for text in rows["config"]]
    flat = [config["architecture"] | config["training"] for config in configs]
    orders = {
        name: sorted({each[name] for each in flat if name in each}) for name in ("units_1", "units_2", "learning_rate")
    }
    numbered = [Integer(name, "architecture", 0, low=0, high=len(values) - 1) for name, values in orders.items()]
    settings: tuple[Setting, ...] = (
        Integer("layers", "architecture", 1, low=1, high=2),
        *(replace(each, condition=AtLeast("layers", 2)) if each.name == "units_2" else each for each in numbered),
        Choice("scheduler", "architecture", "none", options=("none", "cosine")),
    )

    def numbers(values: Mapping[str, Any]) -> tuple[object, ...]:
        found = {**values, **{name: order.index(values[name]) for name, order in orders.items() if name in values}}
        return tuple(found.get(setting.name) for setting in settings)

    keys = [numbers(each) for each in flat]
    errors = dict(zip(keys, rows["full_val"].fill_null(125.0).to_list(), strict=True))  # overflowed: the cap
    costs = dict(zip(keys, rows["weight_bytes"].cast(pl.Float64).to_list(), strict=True))
    return Problem("LSTMs on FD001, weight bytes", settings, errors, costs, Cost("weight_bytes"))


OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def problems(data: Path) -> list[Problem]:
    """Return every problem."""
    cells = pl.read_csv(data / "nasbench201.csv.gz")
    names = [f"edge_{number}" for number in range(6)]
    settings = tuple(Choice(name, "architecture", OPERATIONS[0], options=OPERATIONS) for name in names)
    keys = [
        tuple(part.split("~")[0] for part in arch.replace("+", "").split("|") if "~" in part) for arch in cells["arch"]
    ]
    found = [grid_problem(GRID)] if GRID.is_file() else []
    found += [
        Problem(
            f"NAS-Bench-201, {data_set}, {device}",
            settings,
            dict(zip(keys, (100.0 - cells[accuracy]).to_list(), strict=True)),
            dict(zip(keys, cells[f"lat_ms_{device}"].to_list(), strict=True)),
            Cost("latency_ms", device),
        )
        for data_set, accuracy, device in (
            ("CIFAR-10", "test_acc_cifar10", "pixel3"),
            ("CIFAR-100", "test_acc_cifar100", "samsung_a50"),
            ("CIFAR-100", "test_acc_cifar100", "silver_4114"),
        )
    ]
    macro = pl.read_csv(data / "nasbench_macro.csv.gz", schema_overrides={"arch": pl.String})
    layers = tuple(Choice(f"layer_{n}", "architecture", "0", options=("0", "1", "2")) for n in range(8))
    macro_keys = [tuple(arch) for arch in macro["arch"]]
    errors = dict(zip(macro_keys, (100.0 - macro["mean_acc"]).to_list(), strict=True))
    for column, cost in (("params", Cost("weight_bytes")), ("flops", Cost("macs"))):
        costs = dict(zip(macro_keys, macro[column].cast(pl.Float64).to_list(), strict=True))
        found.append(Problem(f"NAS-Bench-Macro, {column}", layers, errors, costs, cost))
    return found


def kept(path: Path, made: Callable[[], list[float]]) -> list[float]:
    """Return what a file holds; made where it isn't there."""
    if not path.is_file():
        started = time.process_time()
        found = made()
        write_atomically(path, json.dumps({"reached": found, "seconds": time.process_time() - started}).encode())
    reached: list[float] = json.loads(path.read_text("utf-8"))["reached"]
    return reached


def mark_of(problem: Problem, folder: Path) -> float:
    """Return what TPE has after 100 trials."""
    name = _file_name(problem)
    runs = [
        kept(folder / f"{name}-mark-{seed}.json", lambda seed=seed: problem.run(TPE(), 1000 + seed, MARK_TRIALS))  # type: ignore[misc]
        for seed in range(SEEDS)
    ]
    return float(np.median([run[-1] for run in runs]))


def _file_name(problem: Problem) -> str:
    return problem.name.replace(", ", "_").replace(" ", "_").lower()


def make(folder: Path, data: Path, names: Sequence[str], part: str) -> None:
    """Do what runs there are to be done, of problems that have a text in their name."""
    folder.mkdir(parents=True, exist_ok=True)
    for problem in problems(data):
        if part not in problem.name:
            continue
        mark = mark_of(problem, folder)
        for name in names:
            for seed in range(SEEDS):
                path = folder / f"{_file_name(problem)}-{name}-{seed}.json"
                kept(path, lambda: problem.run(STRATEGIES[name](), FRESH.get(name, 0) + seed, MOST_TRIALS, mark))  # noqa: B023 - called at once
            needed = [_needed(run, mark) for run in runs_of(folder, problem, name)]
            print(f"{problem.name:32s} {name:10s} {np.median(needed):6.1f} {sorted(needed)}", flush=True)


def runs_of(folder: Path, problem: Problem, name: str) -> list[list[float]]:
    """Return the finished runs of a strategy."""
    paths = sorted(folder.glob(f"{_file_name(problem)}-{name}-*.json"))
    return [json.loads(path.read_text("utf-8"))["reached"] for path in paths]


def _needed(run: Sequence[float], mark: float) -> int:
    """Return the trials that a run needed, one more than there were where it didn't reach the mark."""
    if run[-1] < mark and len(run) < MOST_TRIALS:
        raise SystemExit(
            f"a run ended after {len(run)} trials, at a lower mark than {mark:.3f}: remove the runs' folder"
        )
    return next((number for number, reached in enumerate(run, 1) if reached >= mark), MOST_TRIALS + 1)


def interval(needed: Sequence[int]) -> tuple[float, float]:
    """Return the 95 % interval of the median, by 10,000 bootstrap samples."""
    drawn = np.random.default_rng(0).choice(needed, (10_000, len(needed)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(low), float(high)


def write(folder: Path, data: Path, place: Path) -> None:
    """Write the tables."""
    rows: dict[str, dict[str, dict[str, object]]] = {}
    marks = {}
    for problem in problems(data):
        if len(list(folder.glob(f"{_file_name(problem)}-mark-*.json"))) < SEEDS:
            continue  # not begun
        marks[problem.name] = mark_of(problem, folder)
        for name in STRATEGIES:
            needed = [_needed(run, marks[problem.name]) for run in runs_of(folder, problem, name)]
            if len(needed) == SEEDS:
                rows.setdefault(name, {})[problem.name] = {
                    "median": float(np.median(needed)), "interval": interval(needed), "needed": needed,
                }  # fmt: skip
    place.with_suffix(".json").write_text(json.dumps({"marks": marks, "strategies": rows}, indent=1) + "\n", "utf-8")
    lines = ["| | " + " | ".join(marks) + " |", "|---" + "|--:" * len(marks) + "|"]
    lines.append("| hypervolume of TPE after 100 | " + " | ".join(f"{mark:.3f}" for mark in marks.values()) + " |")
    for name, found in rows.items():
        lines.append(f"| `{name}` | " + " | ".join(_cell(found.get(problem)) for problem in marks) + " |")
    print("\n".join(lines))


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    low, high = found["interval"]
    told = [f"> {MOST_TRIALS}" if value > MOST_TRIALS else f"{value:.0f}" for value in (found["median"], low, high)]
    return f"{told[0]} ({told[1]} to {told[2]})"


def main() -> None:
    """Make the runs, or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--problems", default="", help="only those that have this in their name")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if arguments.write is not None:
        write(arguments.folder, arguments.data, arguments.write)
        return
    make(arguments.folder, arguments.data, arguments.strategies, arguments.problems)


if __name__ == "__main__":
    main()
