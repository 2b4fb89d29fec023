"""A table of fully trained candidates, the truth that estimators and strategies are held against without training.

    python benchmarks/trained_table.py runs/table_fd001 --candidates 120
    python benchmarks/trained_table.py runs/table_fd001 --write benchmarks/data/trained_fd001.csv.gz
    python benchmarks/trained_table.py runs/table_cifar10 --recipe benchmarks/estimators_cifar10.toml
    python benchmarks/trained_table.py runs/grid_fd001 --recipe benchmarks/trained_grid_fd001.toml --grid

Protocol: C-MAPSS FD001, all windows of four fifths of the training engines, LSTMs of 1 to 3 layers of 1 to 64
units (log), architecture, training and quantization free. Candidates are drawn at random from seeds 0, 1, ...; each is
trained for the recipe's epochs, 30 here, and quantized (INT8) as `estimation.name = "training"` does, and scored in
FP32 and quantized on all validation windows and on the test engines; after every epoch of this first round the FP32
network (moving average of the weights) is scored on all validation windows. A second round trains each for a third of
the epochs with schedules of their own, a third one in full with another seed, which tells what of a ranking is noise.
Each training is a file: everything goes on where it was left, and `--write` takes what is there.

With `--grid` candidates aren't drawn: they are all that `GRID` names, so that a strategy can ask for any of them.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from qanas.core.candidate import Candidate, Value
from qanas.core.errors import TrainingFailed
from qanas.core.events import Event
from qanas.core.run_folder import write_atomically
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.scoring import float_outputs, metrics_of
from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.search_space.space import SearchSpace
from qanas.search_space.start import RANDOM

RECIPE = Path(__file__).parents[1] / "recipes" / "turbofan_fd001.toml"
SETTINGS = ("space.max_units=64", "estimation.epochs=30", "estimation.jobs=1")


@dataclass(frozen=True)
class Round:
    """One training of every candidate.

    Attributes:
        name: of its columns.
        part: one of so many epochs of the recipe's is trained.
        repetition: 0 is the first seed.
    """

    name: str
    part: int = 1
    repetition: int = 0

    @property
    def looked_at(self) -> bool:
        """Whether its curve is kept, which takes longer than the training of a small network does."""
        return self.name == "full"


SHORTER = 3
"""How many times as long a full training is."""

ROUNDS = (Round("full"), Round("short", SHORTER), Round("again", repetition=1))


def table_plan(recipe: Path | None = None) -> Plan:
    """Return what candidates are measured on and how: FD001, or a recipe as it is."""
    plan = load_plan(RECIPE, SETTINGS) if recipe is None else load_plan(recipe)
    plan.check()
    return plan


UNITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
GRID: Mapping[str, Sequence[Value]] = {
    "layers": (1, 2),
    "units_1": UNITS,
    "units_2": UNITS,
    "learning_rate": (0.001, 0.003, 0.01, 0.03),
    "scheduler": ("none", "cosine"),
}
"""What the settings can be, by name; others stay at the reference's."""


def drawn(space: SearchSpace, candidates: int) -> list[Candidate]:
    """Return the candidates of a table that is drawn."""
    return [space.random(np.random.default_rng(derive_seed(0, "trained table", n))) for n in range(candidates)]


def grid(space: SearchSpace, values: Mapping[str, Sequence[Value]] = GRID) -> list[Candidate]:
    """Return every candidate of a grid, once."""
    reference = {setting.name: setting.reference for setting in space.settings}
    found: dict[str, Candidate] = {}
    for chosen in itertools.product(*values.values()):
        named = reference | dict(zip(values, chosen, strict=True))
        candidate = space.sample(lambda name, _, named=named: named[name])  # type: ignore[misc]
        found.setdefault(candidate.key, candidate)  # the units of a layer that isn't there tell nothing apart
    return list(found.values())


def train(plan: Plan, number: int, candidate: Candidate, made: Round) -> dict[str, Any]:
    """Train a candidate and return all that is worth keeping of it."""
    bench = plan.bench
    task, data = bench.task_of(candidate), bench.data_of(candidate)
    curve: list[float] = []
    losses: list[float] = []
    looked = [0.0]

    def look(event: Event, snapshot: Callable[[], nn.Module]) -> bool:
        started = time.process_time()
        losses.append(event.loss)
        if not made.looked_at:
            return True
        curve.append(metrics_of(task, float_outputs(snapshot(), data.val), data.val)[plan.main_metric.name])
        looked[0] += time.process_time() - started
        return True

    seed = derive_seed(bench.seed, "trial", number, made.repetition)
    procedure = plan.estimator.procedure
    procedure = procedure.with_settings(epochs=procedure.epochs // made.part)
    kept: dict[str, Any] = {"key": candidate.key, "config": candidate.config, "costs": bench.costs_of(candidate)}
    started = time.process_time()
    try:
        trained = procedure.make_looking(bench, candidate, RANDOM, seed, look)
        for name, split in (("val", data.val), ("test", data.test)):
            kept |= {f"{name}_{column}": value for column, value in trained.evaluate(task, split).items()}
    except TrainingFailed as error:
        kept["failed"] = str(error)
    # What was scored for the curve's sake is no part of a training.
    kept |= {"curve": curve, "losses": losses, "seconds": time.process_time() - started - looked[0]}
    return kept


def make(plan: Plan, folder: Path, candidates: Mapping[int, Candidate], rounds: Sequence[Round]) -> None:
    """Train what isn't there yet, by size."""
    folder.mkdir(parents=True, exist_ok=True)
    for made in rounds:
        for number in candidates:
            path = folder / f"{made.name}_{number:04d}.json"
            if not path.is_file():
                kept = train(plan, number, candidates[number], made)
                write_atomically(path, json.dumps(kept).encode())
                scored = kept.get(f"val_{plan.main_metric.name}_quantized", kept.get("failed"))
                print(f"{path.name} {scored} {kept['seconds']:.1f} s", flush=True)


def table_of(folder: Path, metric: str) -> pl.DataFrame:
    """Return what is there, one row a candidate that was trained in full; what is not there is null."""
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("full_*.json")):
        number = path.stem.removeprefix("full_")
        full = json.loads(path.read_text("utf-8"))
        row = {"number": int(number), "config": json.dumps(full["config"], sort_keys=True), **full["costs"]}
        for made in ROUNDS:
            place = folder / f"{made.name}_{number}.json"
            kept = json.loads(place.read_text("utf-8")) if place.is_file() else {}
            row |= {f"{made.name}_{name}": kept.get(column) for name, column in _scores(metric).items()}
            row |= {f"{made.name}_{name}": _joined(kept.get(name)) for name in ("curve", "losses")}
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _scores(metric: str) -> dict[str, str]:
    """Return what is kept of a training, by column of the table."""
    return {
        "val_float": f"val_{metric}_float",
        "val": f"val_{metric}_quantized",
        "test": f"test_{metric}_quantized",
        "seconds": "seconds",
    }


def _joined(values: Sequence[float] | None) -> str | None:
    return None if values is None else " ".join(f"{value:.5g}" for value in values)


def write(folder: Path, metric: str, path: Path) -> None:
    """Write the table, small and the same each time."""
    text = table_of(folder, metric).write_csv(float_precision=5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{path}: {text.count(chr(10)) - 1} candidates, {path.stat().st_size} bytes")


def main() -> None:
    """Make the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--candidates", type=int, default=120)
    parser.add_argument("--grid", action="store_true", help="not drawn: all of a grid")
    parser.add_argument("--rounds", nargs="+", default=[made.name for made in ROUNDS])
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--first", type=int, help="only so many, those with the fewest MACs")
    parser.add_argument("--only", type=Path, help="only candidates whose numbers are in this file")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan = table_plan(arguments.recipe)
    if arguments.write is not None:
        write(arguments.folder, plan.main_metric.name, arguments.write)
        return
    rounds = {made.name: made for made in ROUNDS}
    space = plan.bench.space
    candidates = grid(space) if arguments.grid else drawn(space, arguments.candidates)
    costs = [plan.bench.costs_of(candidate)["macs"] for candidate in candidates]
    chosen = np.argsort(costs, kind="stable")[: arguments.first].tolist()  # the large ones take longest
    if arguments.only is not None:
        wanted = set(map(int, arguments.only.read_text("utf-8").split()))
        chosen = [number for number in chosen if number in wanted]
    make(
        plan,
        arguments.folder,
        {n: candidates[n] for n in chosen},
        [rounds[name] for name in arguments.rounds],
    )


if __name__ == "__main__":
    main()
