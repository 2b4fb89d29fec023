"""What the chance below which learnt stopping ends a training is worth, on tables that nobody chose it by.

    python benchmarks/stopping_chance.py --write docs/results/stopping_chance

Protocol: Replays as in benchmarks/estimators.py, over 58 LSTMs and 119 TCNs on FD001 and 60 ResNets on CIFAR-10,
by validation scores; the pictures are written by `python benchmarks/task_folders.py $QANAS_DATA runs cifar10`. The rule
and its chance of 0.1 were developed on a grid of LSTMs, by scores of FD001's test engines: the LSTMs here are others,
of the same engines; TCNs and ResNets are other networks. Ten orders of the candidates each; a front is worth what a
training with another seed says of it, relative to full training's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from estimators import DRAWS, Table, read_table, stopped
from qanas.core.run_folder import write_atomically
from qanas.performance_estimation.stopping import LearnedEnd
from trained_table import table_plan

CHANCES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
DATA = Path(__file__).parent / "data"
TABLES = {
    "LSTMs, FD001": ("trained_fd001.csv.gz", None, False),
    "TCNs, FD001": ("trained_tcn.csv.gz", "estimators_tcn.toml", False),
    "ResNets, CIFAR-10": ("trained_cifar10.csv.gz", "estimators_cifar10.toml", True),
}
"""File, recipe, and whether candidates that were trained once are taken, too."""


def row_of(table: Table, chance: float) -> dict[str, Any]:
    """Return what a chance keeps of the hypervolume and of the trainings' time, over the orders."""
    whole, seconds = table.worth(table.front(table.full)), float(table.seconds.sum())
    kept, taken = [], []
    for draw in range(DRAWS):
        said = stopped(LearnedEnd(table.encoding.groups, chance))(table, draw)
        kept.append(table.worth(table.front(said.losses)) / whole)
        taken.append(said.seconds / seconds)
    return {"chance": chance, "hypervolume": kept, "time": taken}


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def written(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the page."""
    protocol = (__doc__ or "").split("Protocol: ")[1].strip().splitlines()
    lines = ["# Learnt stopping by its chance, where it wasn't chosen", "", *protocol, ""]
    lines += ["    python benchmarks/stopping_chance.py --write docs/results/stopping_chance", ""]
    lines += ["Mean over the orders, in brackets the least and the most; `chance` is 0.1 where nothing is said.", ""]
    lines += ["| candidates | chance | hypervolume kept | share of the time |", "|---|--:|---|---|"]
    for name, rows in found.items():
        for row in rows:
            lines.append(f"| {name} | {row['chance']:g} | {_spread(row['hypervolume'])} | {_spread(row['time'])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Replay every chance on every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, required=True, help="of the result, without .json and .md")
    arguments = parser.parse_args()
    found = {}
    for name, (file, recipe, every) in TABLES.items():
        plan = table_plan(None if recipe is None else Path(__file__).parent / recipe)
        table = read_table(DATA / file, plan, every=every)
        found[name] = [row_of(table, chance) for chance in CHANCES]
        print(name, len(table.candidates), "candidates", flush=True)
    write_atomically(arguments.write.with_suffix(".json"), (json.dumps(found) + "\n").encode())
    write_atomically(arguments.write.with_suffix(".md"), written(found).encode())


if __name__ == "__main__":
    main()
