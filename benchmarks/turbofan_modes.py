"""The five ways to search of van de Waterlaat et al. 2023 on C-MAPSS, over five splits of the engines, with controls.

    python benchmarks/turbofan_modes.py runs/modes --subset FD001 --splits 5
    python benchmarks/turbofan_modes.py runs/modes --subset FD003 --splits 5
    python benchmarks/turbofan_modes_result.py runs/modes docs/results/turbofan_modes_splits

Protocol (`turbofan_modes.toml` has the numbers): for each split another fifth of the training engines is held out, and
every mode searches once, with the split's number as the run's seed, training on every third window, the reference being
the first trial. Finalists spread over a mode's front are trained twice on every window, and scored in FP32 and,
quantized, in LiteRT, so that each FP32 mode is there as it ships and as it is when it is quantized afterwards. Random
search doesn't look at scores: NAS & HPO (RS) and QA-NAS & HPO (RS) read the same trials, each by its own objectives.
Beside them stand, trained and scored as often: the reference, for as long as is best on the validation engines
(`reference.tune`), the reference narrowed, and dense networks of 4 and 12 units on means and slopes of the sensors. A
network that is a finalist of several modes is trained once for all of them. Test engines are scored, and nothing is
chosen by them. Everything is resumed where it was left.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from qanas.core.candidate import Group
from qanas.core.measures import Cost, Measure, Metric
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.core.trials import front_of
from qanas.performance_estimation.bench import Bench
from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.shipping.baselines import baselines_of, train_baselines
from qanas.shipping.choice import choose_finalists
from qanas.shipping.finalists import reference_finalist, train_finalists
from qanas.shipping.reference import tuned_reference
from qanas.shipping.trainings import Finalist, Training, training_files
from qanas.workflows.search import Search
from qanas.workflows.trial_store import TrialStore

RECIPE = Path(__file__).with_suffix(".toml")

FLOAT = (Metric("mae", "float"), Cost("weight_bytes", float_=True))
QUANTIZED = (Metric("mae"), Cost("weight_bytes"))

ARCHITECTURE: tuple[Group, ...] = ("architecture",)
WITH_HPO: tuple[Group, ...] = ("architecture", "training")


@dataclass(frozen=True)
class Mode:
    """One curve.

    Attributes:
        search: the name of its search; modes of one name share it.
        strategy: proposes candidates.
        groups: that are free.
        objectives: that the search is told, and the front is made of.
        overrides: of the recipe.
    """

    search: str
    strategy: Literal["random", "tpe"]
    groups: tuple[Group, ...]
    objectives: tuple[Measure, ...]
    overrides: tuple[str, ...] = ()


MODES = {
    # As in the paper: units drawn evenly from 1 to 100.
    "NAS (RS), linear units": Mode("nas_rs_linear", "random", ARCHITECTURE, FLOAT, ("space.units_scale=linear",)),
    "NAS (RS)": Mode("nas_rs", "random", ARCHITECTURE, FLOAT),
    "NAS & HPO (RS)": Mode("hpo_rs", "random", WITH_HPO, FLOAT),
    "NAS & HPO (TPE)": Mode("hpo_tpe", "tpe", WITH_HPO, FLOAT),
    "QA-NAS & HPO (RS)": Mode("hpo_rs", "random", WITH_HPO, QUANTIZED),
    "QA-NAS & HPO (TPE)": Mode("qa_hpo_tpe", "tpe", WITH_HPO, QUANTIZED),
}

RESULT = "result.json"
"""In the folder of a split, once it is complete."""


def split_folder(folder: Path, subset: str, split: int) -> Path:
    """Return where everything of one split is kept."""
    return folder / subset / f"split_{split}"


class SplitExperiment:
    """All searches and finalists of one split of the engines.

    Args:
        folder: where everything is kept.
        subset: of C-MAPSS.
        split: its number.
        settings: of the recipe, for a trial of the script itself.
    """

    def __init__(self, folder: Path, subset: str, split: int, settings: list[str]) -> None:
        """Load the data, once for the searches and once for the finalists."""
        self.folder = split_folder(folder, subset, split)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.base = [f"task.subset={subset}", f"task.split_seed={split}", f"run.seed={split}", *settings]
        self.searched = load_plan(RECIPE, self.base)
        self.every_window = load_plan(RECIPE, [*self.base, "task.stride=1"])
        for plan in (self.searched, self.every_window):
            plan.check()

    def plan(self, mode: Mode) -> Plan:
        """Return the plan of one search; the data is shared."""
        plan = load_plan(RECIPE, [*self.base, f"strategy.name={mode.strategy}", *mode.overrides])
        bench = replace(plan.bench, data=self.searched.bench.data, search=mode.groups)
        return replace(plan, bench=bench, objectives=mode.objectives)

    def run_folder(self, mode: Mode) -> RunFolder:
        """Return the folder of one search, made where it wasn't."""
        path = self.folder / mode.search
        path.mkdir(exist_ok=True)
        return RunFolder(path)

    def search(self, mode: Mode) -> None:
        """Do the trials of one search that are missing."""
        with LiveDisplay() as display:
            Search(self.plan(mode), self.run_folder(mode), display).run()

    def finalists(self, mode: Mode) -> list[Finalist]:
        """Return the finalists of a mode from the front of its search, without the reference."""
        owner = next(other for other in MODES.values() if other.search == mode.search)
        records = TrialStore(self.run_folder(mode).study, owner.objectives, ()).records
        plan = self.plan(mode)
        chosen = choose_finalists(plan, plan.estimator, front_of(records, plan.axes))
        return [finalist for finalist in chosen if finalist.candidate != plan.bench.reference]

    def run(self) -> None:
        """Search in every mode, then train every finalist and every control."""
        for mode in {mode.search: mode for mode in reversed(MODES.values())}.values():
            self.search(mode)
        of_modes = {name: self.finalists(mode) for name, mode in MODES.items()}
        distinct = {finalist.identity: finalist for finalists in of_modes.values() for finalist in finalists}
        here, plan = RunFolder(self.folder), self.every_window
        with LiveDisplay() as display:
            tuned = tuned_reference(plan, here, display)
            plan = replace(plan, finalists=replace(plan.finalists, tuned=tuned.procedure))
            reference = reference_finalist(plan, plan.finalists.of_reference)
            networks = {finalist.identity: (finalist, plan.bench) for finalist in [reference, *distinct.values()]}
            trainings, _ = train_finalists(plan, here, [finalist for finalist, _ in networks.values()], display)
            baselines = baselines_of(plan)
            controls, _ = train_baselines(plan, here, baselines, reference, display)
        networks |= {baseline.finalist.identity: (baseline.finalist, baseline.bench) for baseline in baselines}
        content = {
            "recipe": _portable(self.searched.recipe),
            "modes": {name: [finalist.identity for finalist in finalists] for name, finalists in of_modes.items()},
            "tuned_epochs": tuned.procedure.epochs,
            "networks": {
                name: _described(*networks[name]) | {
                    "predictions": [self._predictions(networks[name][0], training) for training in made],
                    "metrics": [training.metrics for training in made],
                    "failures": [training.failure for training in made],
                    "parity_steps_max": max(training.parity.max for training in made),
                }
                for name, made in (trainings | controls).items()
            },
        }  # fmt: skip
        write_atomically(self.folder / RESULT, json.dumps(content, indent=1).encode())

    def _predictions(self, finalist: Finalist, training: Training) -> str:
        """Return the file with a training's outputs, within the folder."""
        files = training_files(RunFolder(self.folder), finalist, training.repetition)
        return str(files.predictions.relative_to(self.folder))


def _described(finalist: Finalist, bench: Bench) -> dict[str, Any]:
    return {"config": finalist.candidate.config, "costs": bench.costs_of(finalist.candidate)}


def _portable(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved recipe without the paths of the machine that ran it."""
    kept = {name: value for name, value in recipe.items() if name != "source"}
    return kept | {"task": kept["task"] | {"data": Path(kept["task"]["data"]).name}}


def main() -> None:
    """Do what is missing of the experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subset", choices=("FD001", "FD002", "FD003", "FD004"), default="FD001")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for split in range(arguments.splits):
        folder = split_folder(arguments.out, arguments.subset, split)
        if (folder / RESULT).is_file():
            continue
        started = time.process_time()
        try:
            SplitExperiment(arguments.out, arguments.subset, split, arguments.settings).run()
        finally:
            with (folder / "cpu_seconds.txt").open("a", encoding="ascii") as file:
                file.write(f"{time.process_time() - started:.0f}\n")


if __name__ == "__main__":
    main()
