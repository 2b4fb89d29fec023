"""The same search with an emulated board in the loop, with its table, and with its surrogate.

    python benchmarks/latency_sources.py --seeds 3 --write docs/results/latency_sources.json

The search is examples/board_in_the_loop: LSTMs for the turbofan's synthetic engines, NSGA-II (here 48 trials, 12 a
generation), error and instructions of an emulated Cortex-M7. In the loop the board is asked for every candidate, by the
command; table and surrogate are made of the operators of 16 random candidates, which the board takes one by one (`qanas
table`). Each search's front is then taken on the board itself: hypervolumes are of those figures, over the logarithm of
instructions from 10,000 to the reference's 12 million, and the error from 0 to 36.3, the constant answer. Seconds are
of the processor, with those of the processes that were started.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qanas.core.measures import Cost, Metric
from qanas.core.pareto import hypervolume
from qanas.core.run_folder import RunFolder
from qanas.hardware.latency.emulator import Emulator
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.workflows.run import run_search

EXAMPLE = Path(__file__).parents[1] / "examples" / "board_in_the_loop"
SAMPLES = 16
TRIALS, POPULATION = 48, 12
FEWEST_INSTRUCTIONS, MOST_INSTRUCTIONS, MOST_ERROR = 1e4, 1.2e7, 36.3
SOURCES = ("command", "table", "surrogate")


def cpu_seconds() -> float:
    """Return the seconds of the processor so far, of this process and of those that it started and that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def devices(folder: Path) -> None:
    """Write a device beside the board for its table and one for its surrogate, both of the same operators."""
    board = (folder / "board.toml").read_text("utf-8").partition("[latency]")[0]
    for kind in SOURCES[1:]:
        text = f'{board}[latency]\nmethod = "{kind}"\npath = "table.json"\n'
        (folder / f"{kind}.toml").write_text(text.replace('"board"', f'"{kind}"'), "utf-8")


def searched(folder: Path, kind: str, seed: int) -> dict[str, Any]:
    """Search by one source, and take what was found on the board: points of (instructions, error)."""
    device = folder / ("board.toml" if kind == "command" else f"{kind}.toml")
    started = cpu_seconds()
    settings = [f"device.name={device}", f"run.seed={seed}", f"strategy.trials={TRIALS}"]
    settings += [f"strategy.population_size={POPULATION}", "baselines.enabled=false"]
    plan = load_plan(folder / "search.toml", settings)
    plan.check()
    with LiveDisplay() as display:
        found = run_search(plan, RunFolder(folder / f"{kind}_{seed}"), display)
    seconds = cpu_seconds() - started
    emulator = Emulator(method="emulator", core="Cortex-M7")
    error, instructions = Metric("mae", "quantized"), Cost("instructions")
    points = []
    for point in found.front:
        taken = emulator.of([plan.bench.blueprint(point.candidate).file])[0]
        points.append([taken, point.measurement.value(error), point.measurement.value(instructions)])
    off = [said / taken - 1.0 for taken, _, said in points]
    return {"points": points, "cpu_seconds": round(seconds, 1), "mean_error": float(np.abs(off).mean())}


def worth(points: Sequence[Sequence[float]]) -> float:
    """Return the hypervolume of a front, on one scale for all seeds and sources.

    Args:
        points: instructions and error first.
    """
    front = np.array([point[:2] for point in points])
    sizes = np.log(front[:, 0] / FEWEST_INSTRUCTIONS) / np.log(MOST_INSTRUCTIONS / FEWEST_INSTRUCTIONS)
    return float(hypervolume(np.stack([sizes, front[:, 1] / MOST_ERROR], axis=1), (1.0, 1.0)))


def main() -> None:
    """Make the table, search by every source and seed, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out = arguments.write and arguments.write.resolve()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    content: dict[str, Any] = {"seeds": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "example"
        shutil.copytree(EXAMPLE, folder)
        devices(folder)
        os.chdir(folder)  # where the board's command is
        started = cpu_seconds()
        command = [sys.executable, "-c", "from qanas.cli import main; main()", "table", "search.toml"]
        subprocess.run([*command, "--out", "table.json", "--samples", str(SAMPLES)], check=True)  # noqa: S603 - our own
        content["table_cpu_seconds"] = round(cpu_seconds() - started, 1)
        for seed in range(arguments.seeds):
            found = {kind: searched(folder, kind, seed) for kind in SOURCES}
            for entry in found.values():
                entry["hypervolume"] = round(worth(entry["points"]), 4)
            content["seeds"].append(found)
            print(seed, {kind: (e["hypervolume"], e["mean_error"], e["cpu_seconds"]) for kind, e in found.items()})
            if out is not None:
                out.write_text(f"{json.dumps(content, indent=1)}\n", "utf-8")


if __name__ == "__main__":
    main()
