"""A whole run with the compiled trainers against the same run with torch's: search, finalists, export.

    python benchmarks/whole_run.py recipes/turbofan_quick.toml --set task.data=/data/cmapss

Protocol: one job a side, one thread, each side in a process of its own on a core of its own, at the same time; the same
seeds, so that the same candidates are proposed as long as scores agree. Seconds are of the processor.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Literal
from unittest import mock

import torch

from qanas.core.run_folder import RunFolder
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.workflows.plan import Setup
from qanas.workflows.run import run_search

Side = Literal["compiled", "torch"]


def run(side: Side, recipe: Path, settings: list[str], results: Queue[tuple[Side, dict[str, float]]]) -> None:
    """Run a recipe once and put its processor seconds into ``results``."""
    torch.set_num_threads(1)
    setup = Setup.load(load_plan(recipe, [*settings, "estimation.jobs=1"]))
    reason = "the benchmark's other side" if side == "torch" else None
    why = mock.patch("qanas.training.fit._why_not_fused", return_value=reason) if reason else mock.MagicMock()
    with tempfile.TemporaryDirectory() as folder, why, LiveDisplay() as display:
        start = time.process_time()
        result = run_search(setup, RunFolder(Path(folder) / side), display)
        seconds = time.process_time() - start
    results.put((side, {"cpu_seconds": seconds, "shipped": result.shipped, "front": len(result.front)}))


def main() -> None:
    """Print both sides and their ratio as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    results: Queue[tuple[Side, dict[str, float]]] = context.Queue()
    sides: tuple[Side, ...] = ("compiled", "torch")
    for side in sides:
        context.Process(target=run, args=(side, arguments.recipe, arguments.settings, results)).start()
    found = dict(results.get() for _ in sides)
    ratio = found["torch"]["cpu_seconds"] / found["compiled"]["cpu_seconds"]
    text = json.dumps({"recipe": arguments.recipe.name, "sides": found, "ratio": ratio}, indent=1)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
