"""A whole run with the compiled trainers against the same run with torch's: search, finalists, export.

    python benchmarks/whole_run.py recipes/turbofan_quick.toml --set task.data=/data/cmapss
    python benchmarks/whole_run.py recipes/turbofan_fd001.toml --keep runs/fd001 --out docs/results/whole_run_fd001.json

Protocol: one job a side, one thread, each side in a process of its own on a core of its own, at the same time; the same
seeds, so that the same candidates are proposed as long as scores agree. Seconds are of the processor, from the loaded
data to the shipped models; the kernels are loaded before, so that their compilation, once a machine, doesn't count.

With ``--keep DIR`` the sides' run folders stay, as ``DIR/compiled`` and ``DIR/torch``: ``benchmarks/results.py`` takes
the first one. The same command goes on where a killed one stopped. Seconds are kept whenever a trial or a finalist's
training is finished; what a killed session had only begun is lost, done again, and counted once.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch

from qanas.core.run_folder import RunFolder, write_atomically
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.training.compiled import lstm, tcn
from qanas.workflows.run import run_search

Side = Literal["compiled", "torch"]
SIDES: tuple[Side, ...] = ("compiled", "torch")
LOADED = (lstm, tcn)
"""Imported for their compilation."""


@dataclass(frozen=True)
class SideFiles:
    """Where a side keeps what it has done.

    Attributes:
        folder: of both sides.
        side: this one.
    """

    folder: Path
    side: Side

    @property
    def run(self) -> RunFolder:
        """The side's run."""
        return RunFolder(self.folder / self.side)

    @property
    def _seconds(self) -> Path:
        return self.folder / f"{self.side}.json"

    def read(self) -> dict[str, float]:
        """Return the seconds so far and, once the run is done, what came out."""
        found: dict[str, float] = {"cpu_seconds": 0.0}
        if self._seconds.is_file():
            found |= json.loads(self._seconds.read_text("utf-8"))
        return found

    def write(self, content: Mapping[str, float]) -> None:
        """Keep it."""
        write_atomically(self._seconds, json.dumps(content).encode())

    def done(self, recipe: Mapping[str, Any]) -> bool:
        """Return whether the side has done all that a resolved recipe asks for."""
        return "shipped" in self.read() and self.run.read_recipe() == recipe


class MeteredDisplay(LiveDisplay):
    """Shows a run, and keeps its processor seconds whenever something of it is finished.

    Args:
        files: where the seconds of earlier sessions are, and of this one go.
    """

    def __init__(self, files: SideFiles) -> None:
        """Start counting."""
        super().__init__()
        self._files = files
        self._before = files.read()["cpu_seconds"]
        self._start = time.process_time()

    def keep(self, **results: float) -> None:
        """Keep the seconds so far, and results."""
        seconds = self._before + time.process_time() - self._start
        self._files.write({"cpu_seconds": seconds, **results})

    def trial_finished(self, index: int, outcome: str, values: Mapping[str, float] | None, reason: str) -> None:
        """Show it; it is in the store already."""
        super().trial_finished(index, outcome, values, reason)
        self.keep()

    def unit_finished(self, label: str) -> None:
        """Show it; its files are written already."""
        super().unit_finished(label)
        self.keep()


def run(files: SideFiles, recipe: Path, settings: list[str]) -> None:
    """Run one side, or go on with it."""
    torch.set_num_threads(1)
    plan = load_plan(recipe, settings)
    if files.done(plan.recipe):
        return
    plan.check()
    reason = "the benchmark's other side" if files.side == "torch" else None
    why = mock.patch("qanas.training.choice.why_not_compiled", return_value=reason) if reason else mock.MagicMock()
    with why, MeteredDisplay(files) as display:
        result = run_search(plan, files.run, display)
        display.keep(shipped=result.shipped, front=len(result.front))


def compare(folder: Path, recipe: Path, settings: list[str]) -> dict[str, Any]:
    """Run both sides at once and return what each came to, and their ratio.

    Raises:
        SystemExit: a side ended early; the same command goes on with it if its folder is kept.
    """
    context = multiprocessing.get_context("spawn")
    sides = [SideFiles(folder, side) for side in SIDES]
    processes = [context.Process(target=run, args=(files, recipe, settings)) for files in sides]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    early = [files.side for files, process in zip(sides, processes, strict=True) if process.exitcode]
    if early:
        raise SystemExit(f"ended early: {', '.join(early)}")
    found = {files.side: files.read() for files in sides}
    ratio = found["torch"]["cpu_seconds"] / found["compiled"]["cpu_seconds"]
    return {"recipe": recipe.name, "sides": found, "ratio": ratio}


def main() -> None:
    """Print both sides and their ratio as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the run folders stay; without it none does")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    settings = [*arguments.settings, "estimation.jobs=1"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(compare(folder, arguments.recipe, settings), indent=1)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
