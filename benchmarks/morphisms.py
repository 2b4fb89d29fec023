"""Strategies that grow networks, and those that don't, for equal CPU time on part of CIFAR-10.

    python benchmarks/task_folders.py $QANAS_DATA runs cifar10
    python benchmarks/morphisms.py runs/morphisms --budget 1800 --seeds 3
    python benchmarks/morphisms.py runs/morphisms --as-is --write docs/results/morphisms

Protocol: recipes/growing_cifar10.toml. A search ends when its trials have been trained for the budget of CPU seconds
(the last one is finished). Its best network within the limits, by INT8 accuracy on validation pictures, is then trained
for `FINAL_EPOCHS`, from what its trial had learnt where children inherit, else from scratch, and scored as quantized on
validation and on test pictures, which nothing else sees. What NASH found is trained from scratch for as long, and for
four times as long, too. Trials and final trainings are kept: the script goes on where it was stopped; `--as-is` tells
what is there.

| arm | how |
|---|---|
| nash | hill_climbing, 6 children a generation, 3 morphisms each, 6 epochs from the parent's weights |
| nash_from_scratch | the same, each child from random weights |
| random_morphisms | one generation: random networks of 12 morphisms, 18 epochs from scratch (the paper's own control) |
| morphism_bo | 1 to 3 morphisms of any network, 6 epochs from its weights |
| lemonade | 1 to 3 morphisms of a network of the front, 6 epochs from its weights |
| tpe_chain | TPE over chains, 18 epochs from scratch |
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import tomli_w

from qanas.core.run_folder import RunFolder, write_atomically
from qanas.core.seeds import derive_seed
from qanas.core.trials import TrialRecord
from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.search_space.growth import last_weights
from qanas.search_space.start import RANDOM, KeptStart
from qanas.workflows.search import Search

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "qanas"

RECIPE = Path(__file__).parents[1] / "recipes" / "growing_cifar10.toml"
FINAL_EPOCHS = 30
AT_ONCE = 4
"""Trials between two looks at the budget."""

ACCURACY = "accuracy_quantized"


@dataclass(frozen=True)
class Arm:
    """What of the recipe is another.

    Attributes:
        strategy: its table.
        epochs: of a trial.
        inherits: whether networks start from others' weights, the final one from its trial's.
    """

    strategy: Mapping[str, Any]
    epochs: int = 6
    inherits: bool = True


CLIMBING = {"name": "hill_climbing", "morphisms": 3, "neighbours": 6}
ARMS: Mapping[str, Arm] = {
    "nash": Arm(CLIMBING),
    "nash_from_scratch": Arm({**CLIMBING, "inherit": False}, inherits=False),
    "random_morphisms": Arm(
        {"name": "hill_climbing", "morphisms": 12, "neighbours": 10**6, "inherit": False}, 18, inherits=False
    ),
    "morphism_bo": Arm({"name": "morphism_bo", "morphisms": 3}),
    "lemonade": Arm({"name": "lemonade", "morphisms": 3}),
    "tpe_chain": Arm({"name": "tpe"}, 18, inherits=False),
}


def plan_of(options: argparse.Namespace, arm: str, seed: int, trials: int) -> Plan:
    """Return an arm's plan for so many trials."""
    content = tomllib.loads(options.recipe.read_text("utf-8"))
    content["task"]["data"] = str((options.recipe.parent / content["task"]["data"]).resolve())
    content["strategy"] = {**ARMS[arm].strategy, "trials": trials}
    content["estimation"]["epochs"] = ARMS[arm].epochs
    content["finalists"]["start"] = "search" if ARMS[arm].inherits else "scratch"
    content["run"]["seed"] = seed
    path = options.out / f"{arm}-{seed}.toml"
    path.write_text(tomli_w.dumps(content), "utf-8")
    return load_plan(path, options.settings)


def searched(options: argparse.Namespace, arm: str, seed: int) -> tuple[Plan, RunFolder, list[TrialRecord]]:
    """Search until the budget is spent; return the trials."""
    folder = RunFolder(options.out / f"{arm}-{seed}")
    folder.path.mkdir(parents=True, exist_ok=True)
    trials = AT_ONCE
    while True:
        plan = plan_of(options, arm, seed, trials)
        plan.check()
        with LiveDisplay() as display:
            search = Search(plan, folder, display)
            if _counted(search.store.records) < trials:
                search.run()
        records = search.store.records
        if sum(record.train_seconds for record in records) >= options.budget or search.exhausted:
            return plan, folder, [record for record in records if record.outcome != "rejected"]
        trials = max(trials, _counted(records)) + AT_ONCE


def _counted(records: list[TrialRecord]) -> int:
    return sum(record.outcome != "rejected" for record in records)


def within(records: list[TrialRecord], budget: float) -> list[TrialRecord]:
    """Return the trials that were begun before so many CPU seconds of training had been spent."""
    spent = np.cumsum([0.0, *(record.train_seconds for record in records)])
    return [record for record, before in zip(records, spent[:-1], strict=True) if before < budget]


def best_of(records: list[TrialRecord]) -> TrialRecord:
    """Return the trial with the best accuracy within the limits."""
    sound = [record for record in records if record.outcome == "measured" and record.feasible]
    return max(sound, key=lambda record: (record.metrics[ACCURACY], -record.index))


def final(plan: Plan, folder: RunFolder, record: TrialRecord, kind: str, epochs: int) -> dict[str, float]:
    """Train a trial's network to the end and score it; kept in the folder."""
    place = folder.path / f"final-{record.index}-{kind}-{epochs}.json"
    if not place.is_file():
        path = last_weights(folder.trained, record.candidate) if kind == "search" else None
        start = RANDOM if path is None else KeptStart(path)
        procedure = plan.estimator.procedure.with_settings(epochs=epochs)
        seed = derive_seed(plan.bench.seed, "final", kind, epochs)
        trained = procedure.make(plan.bench, record.candidate, start, seed)
        task, data = plan.bench.task_of(record.candidate), plan.bench.data_of(record.candidate)
        splits = {"val": data.val, "test": data.test}
        found = {part: trained.evaluate(task, split)[ACCURACY] for part, split in splits.items()}
        found |= {"train_seconds": trained.train_seconds, **{c: record.costs[c] for c in ("weight_bytes", "macs")}}
        write_atomically(place, json.dumps(found).encode())
    result: dict[str, float] = json.loads(place.read_text("utf-8"))
    return result


def finished(options: argparse.Namespace, arm: str, seed: int) -> bool:
    """Whether an arm's last training of a seed is there."""
    last = f"final-*-scratch-{4 * options.final_epochs}.json" if arm == "nash" else "final-*.json"
    return any((options.out / f"{arm}-{seed}").glob(last))


def measured(options: argparse.Namespace, arm: str, seed: int) -> dict[str, Any]:
    """Return all that is told of an arm and a seed."""
    plan, folder, records = searched(options, arm, seed)
    records = within(records, options.budget)
    seconds, trajectory = 0.0, []
    for record in records:
        seconds += record.train_seconds
        if record.outcome == "measured" and record.feasible:
            trajectory.append([round(seconds, 2), record.metrics[ACCURACY], record.costs["weight_bytes"]])
    best = best_of(records)
    kind = "search" if ARMS[arm].inherits else "scratch"
    found: dict[str, Any] = {"trials": len(records), "seconds": seconds, "trajectory": trajectory,
                             "final": final(plan, folder, best, kind, options.final_epochs)}  # fmt: skip
    if arm == "nash":
        for times in (1, 4):
            found[f"scratch_{times}"] = final(plan, folder, best, "scratch", times * options.final_epochs)
    return found


def time_to(trajectory: list[list[float]], accuracy: float) -> float:
    """Return the CPU seconds after which a search had an accuracy; infinite where it never had."""
    return next((seconds for seconds, found, _ in trajectory if found >= accuracy), float("inf"))


def told(results: dict[str, dict[str, Any]], arms: list[str], seeds: int) -> str:
    """Return the tables as Markdown, of those seeds that are there."""
    lines = [
        "| arm | seeds | trials | best val INT8, search | final val INT8 | final test INT8 | weight bytes | CPU s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for arm in arms:
        own = [results[f"{arm}-{seed}"] for seed in range(seeds) if f"{arm}-{seed}" in results]
        if not own:
            continue
        top = [max(accuracy for _, accuracy, _ in each["trajectory"]) for each in own]
        finals = [each["final"] for each in own]
        sizes, seconds = ([each[name] for each in finals] for name in ("weight_bytes", "train_seconds"))
        lines.append(
            f"| `{arm}` | {len(own)} | {np.mean([each['trials'] for each in own]):.0f} | {_spread(top)} | "
            f"{_spread([f['val'] for f in finals])} | {_spread([f['test'] for f in finals])} | "
            f"{np.mean(sizes):,.0f} | {np.mean(seconds):.0f} |"
        )
    if "nash" in arms and "nash_from_scratch" in arms:
        lines += ["", "CPU seconds to the best accuracy that the search from scratch had:", ""]
        for seed in range(seeds):
            if not {f"nash-{seed}", f"nash_from_scratch-{seed}"} <= results.keys():
                continue
            scratch = results[f"nash_from_scratch-{seed}"]["trajectory"]
            mark = max(accuracy for _, accuracy, _ in scratch)
            taken, other = (time_to(path, mark) for path in (results[f"nash-{seed}"]["trajectory"], scratch))
            ratio = f"ratio {other / taken:.2f}"
            lines.append(f"- seed {seed}, {mark:.3f}: inherited {taken:.0f}, from scratch {other:.0f}, {ratio}")
    if "nash" in arms:
        lines += ["", "NASH's network, trained from scratch (test INT8, CPU s):", ""]
        for seed in (seed for seed in range(seeds) if f"nash-{seed}" in results):
            one = results[f"nash-{seed}"]
            parts = [
                f"{name} {one[name]['test']:.3f}, {one[name]['train_seconds']:.0f} s"
                for name in ("final", "scratch_1", "scratch_4")
            ]
            lines.append(f"- seed {seed}: {'; '.join(parts)}; the search took {one['seconds']:.0f} s")
    return "\n".join(lines)


def draw(results: dict[str, dict[str, Any]], arms: list[str], path: Path) -> None:
    """Draw the best accuracy so far over CPU time, a line a seed, and all networks by size, a dot each."""
    figure, (over_time, over_size) = plt.subplots(1, 2, figsize=(12, 4.4), layout="constrained", sharey=True)
    for number, arm in enumerate(arms):
        own = [found["trajectory"] for name, found in results.items() if name.rpartition("-")[0] == arm]
        for place, points in enumerate(own):
            seconds, accuracy, sizes = np.array(points).T
            label = arm if place == 0 else None
            over_time.step(
                seconds, np.maximum.accumulate(accuracy), where="post", color=f"C{number}", lw=1, label=label
            )
            over_size.plot(sizes, accuracy, ".", ms=4, alpha=0.6, color=f"C{number}")
    over_time.set(
        xlabel="CPU seconds of training", ylabel="INT8 accuracy on validation, as searched", ylim=(0.35, None)
    )
    over_size.set(xlabel="weight bytes", xscale="log")
    over_time.legend(fontsize=8, frameon=False)
    for place in (over_time, over_size):
        place.grid(visible=True, which="both", alpha=0.2)
    figure.savefig(path, metadata={"Date": None})


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Run what is missing and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget", type=float, default=1800, help="CPU seconds of training a search")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--final-epochs", type=int, default=FINAL_EPOCHS)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--as-is", action="store_true", help="run nothing: tell what is finished")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--write", type=Path, help="where the results go, as .json")
    options = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    for seed in range(options.seeds):
        for arm in options.arms:
            if options.as_is and not finished(options, arm, seed):
                continue
            results[f"{arm}-{seed}"] = measured(options, arm, seed)
            print(f"{arm}, seed {seed}: {results[f'{arm}-{seed}']['final']}", flush=True)
    print(told(results, options.arms, options.seeds))
    if options.write:
        facts = {"budget": options.budget, "seeds": options.seeds, "final_epochs": options.final_epochs}
        content = json.dumps({"protocol": facts, "results": results}, indent=1) + "\n"
        write_atomically(options.write.with_suffix(".json"), content.encode())
        draw(results, options.arms, options.write.with_suffix(".svg"))


if __name__ == "__main__":
    main()
