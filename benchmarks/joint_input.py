"""Search input and network together, or the network alone at the input given, at equal CPU time.

    python benchmarks/joint_input.py benchmarks/folders/keywords.toml FOLDER OUT --seeds 3

Both ways have the same recipe but for the group `input`, objectives are the recipe's metric and MACs. The joint
search has `--trials`; the other goes on, two trials at a time, until its trainings took as much CPU time. Then each
ends as any run does: four finalists, trained twice, on test data. Told is the hypervolume between a constant answer and
the reference's MACs, in units of log10 of MACs times the metric: of the search's front on validation data, and of what
ships on test data. Goes on where it was stopped; OUT/joint_input.json has the figures.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tomli_w

import qanas
from qanas.core.pareto import hypervolume
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.workflows.search import Search

MOST_TRIALS = 400
WAYS = ("joint", "network")


def recipe_of(path: Path, data: Path, way: str, seed: int, out: Path) -> Path:
    """Write the recipe of one way of searching, and return its path."""
    recipe = tomllib.loads(path.read_text("utf-8"))
    metric = next(name for name in recipe["objectives"] if name.endswith("_quantized"))
    recipe["objectives"] = {metric: recipe["objectives"][metric], "macs": "minimize"}
    recipe["task"]["data"] = str(data.resolve())
    if way == "network":
        recipe["space"]["search"] = [group for group in recipe["space"]["search"] if group != "input"]
    recipe |= {
        "finalists": {"count": 4, "seeds": 2},
        "reference": {"tune": 0},
        "baselines": {"names": ["constant"]},
        "run": {"seed": seed},
    }
    written = out / f"{way}-{seed}.toml"
    written.write_text(tomli_w.dumps(recipe), "utf-8")
    return written


def searched(recipe: Path, folder: Path, trials: int) -> float:
    """Search up to a number of trials, and return the CPU seconds that all trainings took."""
    plan = load_plan(recipe, [f"strategy.trials={trials}"])
    plan.check()
    folder.mkdir(parents=True, exist_ok=True)
    with LiveDisplay() as display:
        search = Search(plan, RunFolder(folder), display)
        search.run()
        return float(search.summary()["train_cpu_seconds"])


def volume(points: list[tuple[float, float]], worst: tuple[float, float]) -> float:
    """Return the hypervolume of (loss, MACs) below the worst ones, MACs by log10."""
    losses = np.array([(loss, np.log10(macs)) for loss, macs in points])
    return hypervolume(losses, [worst[0], float(np.log10(worst[1]))])


def figures(folder: Path) -> dict[str, Any]:
    """Return what a finished run has come to."""
    result = qanas.load(folder)
    axis = next(name for name in result.recipe["objectives"] if name.endswith("_quantized"))
    metric = axis.removesuffix("_quantized")
    sign = -1.0 if result.recipe["objectives"][axis] == "maximize" else 1.0
    models = pl.read_csv(folder / "finalists.csv")
    macs = float(models.filter(pl.col("kind") == "reference")["macs"][0])
    constant = models.filter(pl.col("candidate") == "baseline-constant")
    worst = {split: sign * float(constant[f"{metric}_float_{split}_mean"][0]) for split in ("val", "test")}
    front = [(sign * row[axis], row["macs"]) for row in result.front.iter_rows(named=True)]
    shipped = models.filter((pl.col("kind") != "baseline") & (pl.col("status") == "shipped"))
    column = f"{metric}_deployed_test_mean"
    tested = [(sign * row[column], row["macs"]) for row in shipped.iter_rows(named=True)]
    return {
        "trials": int(result.summary["trials"]["measured"]),
        "cpu_seconds": round(float(result.summary["train_cpu_seconds"]), 1),
        "reference_macs": macs,
        "constant": worst,
        "validation_volume": volume(front, (worst["val"], macs)),
        "test_volume": volume(tested, (worst["test"], macs)),
        "front": front,
        "test": tested,
    }


def main() -> None:
    """Run both ways for each seed, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=20)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    told: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        trials, budget = given.trials, 0.0
        for way in WAYS:
            recipe = recipe_of(given.recipe, given.data, way, seed, given.out)
            folder = given.out / f"{way}-{seed}"
            if way == "joint":
                budget = searched(recipe, folder, trials)
            else:
                trials = 2
                while searched(recipe, folder, trials) < budget and trials < MOST_TRIALS:
                    trials += 2
            qanas.run(recipe, {"strategy.trials": trials}, folder)
            told.append({"seed": seed, "way": way, **figures(folder)})
            write_atomically(given.out / "joint_input.json", json.dumps(told, indent=1).encode())
            one = told[-1]
            print(
                f"seed {seed}, {way}: {one['trials']} trials, {one['cpu_seconds']} s, volume on validation "
                f"{one['validation_volume']:.4f}, test {one['test_volume']:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
