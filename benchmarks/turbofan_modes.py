"""The five curves of van de Waterlaat et al. 2023, and two more, on C-MAPSS FD001: LSTM and TCN references.

    python benchmarks/turbofan_modes.py runs/turbofan_modes --network lstm
    python benchmarks/turbofan_modes.py runs/turbofan_modes --network tcn
    python benchmarks/turbofan_modes_result.py runs/turbofan_modes docs/results/turbofan_modes

Protocol (`turbofan_modes.toml` has the numbers): each mode searches three times, with run seeds 0, 1 and 2, training on
every third window, the reference being the first trial. The three searches of a mode are merged; finalists spread
over the merged front are trained three times on every window, and scored in FP32 and, quantized, in LiteRT. Random
search doesn't look at scores: NAS & HPO (RS) and QA-NAS & HPO (RS) read the same trials, each by its own objectives.
A network that is a finalist of several modes is trained once for all of them. Everything is resumed where it was left.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from qanas.core.candidate import Group
from qanas.core.measures import Cost, Measure, Metric
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.core.trials import front_of
from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.shipping.choice import choose_finalists
from qanas.shipping.finalists import Finalist, train_finalists
from qanas.workflows.search import Search
from qanas.workflows.trial_store import TrialStore

RECIPE = Path(__file__).with_suffix(".toml")
SEEDS = (0, 1, 2)

FLOAT = (Metric("mae", "float"), Cost("weight_bytes", float_=True))
QUANTIZED = (Metric("mae"), Cost("weight_bytes"))

ARCHITECTURE: tuple[Group, ...] = ("architecture",)
WITH_HPO: tuple[Group, ...] = ("architecture", "training")


@dataclass(frozen=True)
class Mode:
    """One curve.

    Attributes:
        search: the name of its searches; modes of one name share them.
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


NOT_BY_LAYER = ("space.per_layer_training=false",)

MODES = {
    "NAS (RS)": Mode("nas_rs", "random", ARCHITECTURE, FLOAT),
    "NAS & HPO (RS)": Mode("hpo_rs", "random", WITH_HPO, FLOAT),
    "NAS & HPO (TPE)": Mode("hpo_tpe", "tpe", WITH_HPO, FLOAT),
    "QA-NAS & HPO (RS)": Mode("hpo_rs", "random", WITH_HPO, QUANTIZED),
    "QA-NAS & HPO (TPE)": Mode("qa_hpo_tpe", "tpe", WITH_HPO, QUANTIZED),
    # Not the paper's: without initializers and penalties of each layer, 40 trials explore a quarter of the axes.
    "NAS & small HPO (TPE)": Mode("small_hpo_tpe", "tpe", WITH_HPO, FLOAT, NOT_BY_LAYER),
    "QA-NAS & small HPO (TPE)": Mode("qa_small_hpo_tpe", "tpe", WITH_HPO, QUANTIZED, NOT_BY_LAYER),
}


def owner_of(mode: Mode) -> Mode:
    """Return the mode whose objectives a search is told; the trials of a search hold all values."""
    return next(other for other in MODES.values() if other.search == mode.search)


def folder_of(folder: Path, mode: Mode, seed: int) -> RunFolder:
    """Return the folder of one search, made where it wasn't."""
    path = folder / f"{mode.search}_{seed}"
    path.mkdir(parents=True, exist_ok=True)
    return RunFolder(path)


def store_of(folder: Path, mode: Mode, seed: int) -> TrialStore:
    """Return the trials of one search."""
    return TrialStore(folder_of(folder, mode, seed).study, owner_of(mode).objectives, ())


class Experiment:
    """All searches and finalists of one family of networks.

    Args:
        folder: where everything is kept.
        network: the name of the space.
        overrides: of the recipe, for a trial of the script itself.
    """

    def __init__(self, folder: Path, network: str, overrides: list[str]) -> None:
        """Load the data, once for the searches and once for the finalists."""
        self.folder = folder / network
        self.base = [f"space.name={network}", *overrides]
        self.searched = load_plan(RECIPE, self.base)
        self.every_window = load_plan(RECIPE, [*self.base, "task.stride=1"])
        for plan in (self.searched, self.every_window):
            plan.check()

    def plan(self, mode: Mode, seed: int) -> Plan:
        """Return the plan of one search; the data is shared."""
        choices = [f"strategy.name={mode.strategy}", f"run.seed={seed}", *mode.overrides]
        plan = load_plan(RECIPE, [*self.base, *choices])
        bench = replace(plan.bench, data=self.searched.bench.data, search=mode.groups)
        return replace(plan, bench=bench, objectives=mode.objectives)

    def search(self, mode: Mode, seed: int) -> None:
        """Do the trials of one search that are missing."""
        with LiveDisplay() as display:
            Search(self.plan(owner_of(mode), seed), folder_of(self.folder, mode, seed), display).run()

    def finalists(self, name: str, mode: Mode) -> list[Finalist]:
        """Return the finalists of a mode, the reference in front, from its searches' merged front."""
        merged = [record for seed in SEEDS for record in store_of(self.folder, mode, seed).records]
        plan = self.plan(mode, SEEDS[0])
        chosen = choose_finalists(plan, plan.estimator, front_of(merged, plan.axes))
        content = {
            "mode": name,
            "objectives": [objective.column for objective in mode.objectives],
            "finalists": [
                {
                    "key": finalist.candidate.key,
                    "is_seed": finalist.candidate == plan.bench.reference,
                    "config": finalist.candidate.config,
                    "costs": plan.bench.costs_of(finalist.candidate),
                }
                for finalist in chosen
            ],
        }
        write_atomically(self.folder / f"mode_{list(MODES).index(name)}.json", json.dumps(content, indent=1).encode())
        return chosen

    def run(self) -> None:
        """Search in every mode, then train every finalist."""
        for seed in SEEDS:
            for mode in {mode.search: mode for mode in MODES.values()}.values():
                self.search(mode, seed)
        distinct: dict[str, Finalist] = {}
        for name, mode in MODES.items():
            distinct |= {finalist.candidate.key: finalist for finalist in self.finalists(name, mode)}
        named = [replace(finalist, identity=key) for key, finalist in distinct.items()]
        with LiveDisplay() as display:
            train_finalists(self.every_window, RunFolder(self.folder), named, display)
        (self.folder / "recipe.json").write_text(json.dumps(self.searched.recipe, indent=1), "utf-8")


def main() -> None:
    """Do what is missing of one family's experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--network", choices=("lstm", "tcn"), required=True)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    experiment = Experiment(arguments.out, arguments.network, arguments.settings)
    try:
        experiment.run()
    finally:
        with (experiment.folder / "cpu_seconds.txt").open("a", encoding="ascii") as file:
            file.write(f"{time.process_time() - started:.0f}\n")


if __name__ == "__main__":
    main()
