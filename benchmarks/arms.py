"""Runs by recipe that are held against each other: the arms of a comparison, and what is kept of each that has run.

Everything that a page tells of a run, its models, their draws on test data and its effort, is kept in the result's own
JSON. So a comparison of many hours goes on from what was committed of it, on any machine, without the runs' folders;
a run that was killed goes on in its folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tomli_w
from filelock import FileLock

import qanas
from qanas.core.pareto import hypervolume
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.hardware.device import Device
from qanas.shipping.verdict import draws_in
from qanas.tasks.resampling import difference

RECIPES = Path(__file__).parents[1] / "recipes"

Overrides = Mapping[str, Any]
Record = Mapping[str, Any]
"""What is kept of a run: "asked", "models", "effort_cpu_seconds", "trials", "units" and "drawn"."""

Runs = dict[str, dict[str, Record]]
"""What is kept, by the arm's name and the seed."""


@dataclass(frozen=True)
class Arm:
    """One way to search.

    Attributes:
        name: of it.
        recipe: that it starts from, a name of `recipes/`.
        costs: objectives beside the metric.
        more: keys that differ.
        without: tables of the recipe that are left out, such as a strategy whose keys another one doesn't know.
        after: the arm whose supernets and trainings it may take; files are named by all that they depend on, so that
            only what would be the same is. Its effort counts them as if it had made them.
    """

    name: str
    recipe: str
    costs: tuple[str, ...]
    more: Overrides = field(default_factory=dict)
    without: tuple[str, ...] = ()
    after: str = ""


@dataclass(frozen=True)
class Comparison:
    """Where runs lie, and what is kept of them.

    Attributes:
        home: of all runs.
        result: what is told, without .json and .md.
        metric: that is held against costs; more of it is better.
        devices: whose latency of each shipped file is kept.
    """

    home: Path
    result: Path
    metric: str
    devices: tuple[str, ...] = ()

    def kept(self) -> Runs:
        """Return what is kept, by the arm's name and the seed."""
        path = self.result.with_suffix(".json")
        found: Runs = json.loads(path.read_text("utf-8"))["runs"] if path.is_file() else {}
        return found

    def all(
        self,
        arms: Sequence[Arm],
        asked: argparse.Namespace,
        overrides: Callable[[Arm, Mapping[str, Record]], Overrides],
        written: Callable[[Runs], str],
    ) -> None:
        """Run what is asked for and not kept yet; write the page after each run.

        Args:
            arms: in the order in which they are run.
            asked: what `parser_of` read.
            overrides: of an arm, given what is kept of the same seed by the arm's name.
            written: the page.
        """
        for seed in asked.seeds:
            for arm in (arm for arm in arms if arm.name in asked.arms):
                known = {name: seeds[str(seed)] for name, seeds in self.kept().items() if str(seed) in seeds}
                wanted = self.asked(arm, overrides(arm, known))
                if arm.name not in known:
                    self._keep(arm, seed, {"asked": wanted, **self._run(arm, seed, wanted)})
                elif known[arm.name]["asked"] != wanted:
                    raise SystemExit(
                        f"{self.result}.json: {arm.name}, seed {seed}, was asked for with other settings; write to "
                        "another file, or take it out of that one"
                    )
                write_atomically(self.result.with_suffix(".md"), written(self.kept()).encode())

    def _keep(self, arm: Arm, seed: int, record: Record) -> None:
        """Add a run to what is kept; another process may have done so meanwhile."""
        path = self.result.with_suffix(".json")
        with FileLock(self.home / "result.lock"):
            runs = self.kept()
            runs.setdefault(arm.name, {})[str(seed)] = record
            write_atomically(path, (json.dumps({"runs": runs}) + "\n").encode())

    def folder(self, name: str, seed: int) -> Path:
        """Return where a run of an arm lies."""
        return self.home / f"{name.replace(', ', '-').replace(' ', '_')}-s{seed}"

    def asked(self, arm: Arm, overrides: Overrides) -> dict[str, Any]:
        """Return the recipe of an arm and its overrides, as JSON has them: what a run follows from, but for its seed.

        Args:
            arm: which.
            overrides: of its recipe, beside its own.
        """
        content = tomllib.loads((RECIPES / f"{arm.recipe}.toml").read_text("utf-8"))
        left = {name: table for name, table in content.items() if name not in arm.without}
        left["objectives"] = {f"{self.metric}_quantized": "maximize", **dict.fromkeys(arm.costs, "minimize")}
        # The reference is that of all arms of a seed.
        shared = {"reference.tune": 0, "baselines.enabled": False}
        found: dict[str, Any] = json.loads(
            json.dumps({"recipe": left, "overrides": {**shared, **overrides, **arm.more}})
        )
        return found

    def _run(self, arm: Arm, seed: int, wanted: Mapping[str, Any]) -> Record:
        """Run an arm to its end, or go on with it; return what is to be kept.

        Args:
            arm: which.
            seed: of the run.
            wanted: as `asked` returns it.
        """
        folder = self.folder(arm.name, seed)
        if arm.after and not folder.exists():
            self._take(self.folder(arm.after, seed), folder)
        path = self.home / "recipes" / f"{folder.name}.toml"
        write_atomically(path, tomli_w.dumps(wanted["recipe"]).encode())
        own = {"run.seed": seed, "estimation.cache": str(self.home.resolve() / "trainings")}
        qanas.run(path, {**own, **wanted["overrides"]}, folder)
        return self._record(RunFolder(folder))

    @staticmethod
    def _take(source: Path, folder: Path) -> None:
        for part in ("blocks", "features", "trainings"):
            if (source / part).is_dir():
                # Files are replaced as a whole, never written into.
                shutil.copytree(source / part, folder / part, copy_function=os.link)

    def _record(self, folder: RunFolder) -> Record:
        summary = folder.read_summary()
        models = [self._model(folder, row) for row in pl.read_csv(folder.finalists).to_dicts() if _shipped(row)]
        found = [own["model"] for own in models if own["kind"] == "found"]
        card = folder.cards()[found[0]]
        assert card.intervals is not None
        files = [(folder.model(name) / "predictions.npz").read_bytes() for name in found]
        drawn = np.mean([draws_in(file, "test")[self.metric] for file in files], axis=0)
        gates = {"scored": len({tuple(row["options"]) for row in summary["gates"]})} if "gates" in summary else {}
        return {
            "models": models,
            "effort_cpu_seconds": summary["effort_cpu_seconds"],
            "trials": summary["trials"]["measured"],
            "trials_cpu_seconds": summary["train_cpu_seconds"],
            "units": card.intervals.units["test"],
            "drawn": [round(float(value), 5) for value in drawn],
            **gates,
        }

    def _model(self, folder: RunFolder, row: Mapping[str, Any]) -> dict[str, Any]:
        content = (folder.model(row["candidate"]) / "model.tflite").read_bytes()
        latency = {f"latency_ms@{name}": Device.named(name).figure("latency_ms", [content])[0] for name in self.devices}
        return {
            "model": row["candidate"],
            "kind": row["kind"],
            **{name: row[name] for name in ("macs", "weight_bytes", "packed_weight_bytes")},
            **{split: row[f"{self.metric}_deployed_{split}_mean"] for split in ("val", "test")},
            **latency,
        }


def _shipped(row: Mapping[str, Any]) -> bool:
    return bool(row["status"] == "shipped")


def parser_of(told: str, arms: Sequence[Arm], seeds: Sequence[int]) -> argparse.ArgumentParser:
    """Return the options of a comparison's script.

    Args:
        told: the script's docstring, whose first line says what it does.
        arms: that there are.
        seeds: that are run where none is asked for.
    """
    parser = argparse.ArgumentParser(description=told.splitlines()[0])
    names = [arm.name for arm in arms]
    parser.add_argument("home", type=Path, help="of all runs")
    parser.add_argument("--write", type=Path, required=True, help="of the result, without .json and .md")
    parser.add_argument("--seeds", type=int, nargs="+", default=seeds)
    parser.add_argument("--arms", nargs="+", choices=names, default=names)
    parser.add_argument("--tiny", action="store_true", help="minutes, tells nothing")
    return parser


def protocol_of(told: str) -> list[str]:
    """Return the lines of a script's docstring behind "Protocol: "."""
    return [line for line in told.split("Protocol: ")[1].splitlines() if line]


def hours_of(records: Sequence[Record]) -> dict[str, float]:
    """Return the CPU hours of each stage of a search, and of its trials, means over runs of one arm."""
    each = [{**own["effort_cpu_seconds"], "trials": own["trials_cpu_seconds"]} for own in records]
    return {stage: statistics.mean(own.get(stage, 0.0) for own in each) / 3600 for stage in each[0]}


def points_ahead(gap: float, one: Sequence[float], other: Sequence[float], units: int) -> str:
    """Return a gap between scores in points, with 95 % over the same draws of units on both sides.

    Args:
        gap: between the scores.
        one: side's score over every draw, shape (draws,).
        other: side's, likewise.
        units: that each draw has.
    """
    found = difference(np.array(one), np.array(other), units)
    return f"{100 * gap:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


@dataclass(frozen=True)
class Pair:
    """One search beside another one, of the same seed.

    Attributes:
        seed: of both.
        one: a search's record.
        other: the other's.
    """

    seed: str
    one: Record
    other: Record

    @classmethod
    def of(cls, runs: Runs, one: str, other: str) -> list[Pair]:
        """Return two arms by seed, as far as both have run."""
        seeds = sorted(runs.get(one, {}).keys() & runs.get(other, {}).keys(), key=int)
        return [cls(seed, runs[one][seed], runs[other][seed]) for seed in seeds]

    def means(self, column: str) -> tuple[float, float]:
        """Return the means of a column over what each search found."""
        one, other = (float(np.mean([own[column] for own in found_of(r)])) for r in (self.one, self.other))
        return one, other

    @property
    def ahead(self) -> str:
        """By how many points the one's mean score on test data is ahead, with 95 % over the same draws of its units."""
        one, other = self.means("test")
        return points_ahead(one - other, self.one["drawn"], self.other["drawn"], self.one["units"])


def volume_ratio(one: Record, other: Record, cost: str) -> float:
    """Return one search's hypervolume relative to another's, of 1 - metric on test data and a cost.

    Below the worst of both, references included.
    """
    models = [row for record in (one, other) for row in record["models"]]
    beyond = [max(1 - row["test"] for row in models) * 1.01, max(row[cost] for row in models) * 1.01]
    volumes = [hypervolume(np.array([[1 - r["test"], r[cost]] for r in found_of(o)]), beyond) for o in (one, other)]
    return volumes[0] / volumes[1] if volumes[1] else float("inf")


def found_of(record: Record) -> Sequence[Mapping[str, Any]]:
    """Return the models of a run that its search found."""
    return [own for own in record["models"] if own["kind"] == "found"]
