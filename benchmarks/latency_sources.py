"""The same small search with the emulated board in the loop, with its table, and with its surrogate.

    python benchmarks/latency_sources.py docs/results/latency_sources.md

The search is examples/board_in_the_loop (LSTMs for the turbofan's synthetic engines, NSGA-II, one seed). The loop asks
the board of every candidate by the command; table and surrogate are of operators that the board took one by one
(`qanas table`, as many candidates as the search has trials). What each search found is then taken on the board itself:
hypervolumes are of those figures, over the box from 0 to the worst of all fronts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from qanas.core.pareto import non_dominated
from qanas.hardware.latency.emulator import Emulator
from qanas.recipe import load_plan

EXAMPLE = Path(__file__).parents[1] / "examples" / "board_in_the_loop"
TRIALS = 16
SOURCES = ("command", "table", "surrogate")


def qanas(folder: Path, *arguments: str) -> float:
    """Run a command of qanas in a folder; return the seconds of all processes' CPU that it took."""
    before = os.times()
    command = [sys.executable, "-c", "from qanas.cli import main; main()", *arguments]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, "PATH": path}, stdout=sys.stderr)  # noqa: S603
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def hypervolume(points: list[tuple[float, float]], worst: tuple[float, float]) -> float:
    """Return the share of the box from (0, 0) to the worst that some points leave undominated by others' rest."""
    area, best = 0.0, worst[1]
    for x, y in sorted(points):
        if y < best and x < worst[0]:
            area += (worst[0] - x) * (best - y)
            best = y
    return area / (worst[0] * worst[1])


def main() -> None:
    """Search thrice and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "example"
        shutil.copytree(EXAMPLE, folder)
        board = (folder / "board.toml").read_text()
        head = board.partition("[latency]")[0]
        for kind in SOURCES[1:]:
            text = f'{head}[latency]\nmethod = "{kind}"\npath = "table.json"\n'
            (folder / f"{kind}.toml").write_text(text.replace('"board"', f'"{kind}"'))
        started = time.perf_counter()
        seconds = {"making": qanas(folder, "table", "search.toml", "--out", "table.json", "--samples", str(TRIALS))}
        wall = {"making": time.perf_counter() - started}
        for kind in SOURCES:
            device = "board.toml" if kind == "command" else f"{kind}.toml"
            started = time.perf_counter()
            seconds[kind] = qanas(folder, "run", "search.toml", "--set", f"device.name={device}", "--out", kind)
            wall[kind] = time.perf_counter() - started
        write(out, folder, seconds, wall)


def write(out: Path, folder: Path, seconds: dict[str, float], wall: dict[str, float]) -> None:
    """Take the fronts on the board and write the page."""
    plan = load_plan(folder / "search.toml", [])
    emulator = Emulator(method="emulator", core="Cortex-M7")
    fronts, errors = {}, {}
    for kind in SOURCES:
        trials = pl.read_parquet(folder / kind / "trials.parquet").filter(pl.col("mae_quantized").is_not_null())
        print(kind, trials["outcome"].value_counts().to_dicts())
        points = []
        for row in trials.iter_rows(named=True):
            blueprint = plan.bench.blueprint(plan.bench.space.candidate_of(json.loads(row["candidate"])))
            points.append((emulator.of([blueprint.file])[0], row["mae_quantized"], row["instructions"]))
        taken, said = np.array([p[0] for p in points]), np.array([p[2] for p in points])
        errors[kind] = float(np.abs(said / taken - 1).mean())
        kept = non_dominated([(x, y) for _, y, x in points])
        fronts[kind] = [points[at][:2] for at in kept]
    worst = (max(x for f in fronts.values() for x, _ in f) * 1.01, max(y for f in fronts.values() for _, y in f) * 1.01)
    out.write_text(json.dumps([fronts, errors, worst, seconds, wall]), "utf-8")


if __name__ == "__main__":
    main()
