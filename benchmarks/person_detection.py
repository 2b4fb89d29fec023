"""The lecture's case study whole: persons in photos on a microcontroller, from the reference's training to finalists.

    python benchmarks/person_detection.py recipes/person_voc.toml OUT                # all five steps
    python benchmarks/person_detection.py recipes/person_voc.toml OUT --steps training schemes
    python benchmarks/person_detection.py recipes/person_quick.toml OUT --tiny       # minutes: only to see it run

training    the reference trained for several numbers of epochs, each from several seeds: where is the same AP had
schemes     the trained reference under every scheme: AP on validation and test data (the recipe's device says latency)
profile     layer by layer
search      MOTPE over AP as quantized and latency: the head and the input alone, and everything, from two seeds each
rivals      the reference, and NXP's released head at its input of 220 x 220, trained as finalists are

Every part is kept in OUT as it is done, and goes on where it was stopped; OUT/person_detection.json has the figures:
AP50 with its interval over test pictures, MACs, latency, and the cheapest model of each search that can't be told from
the reference of the first search. CPU seconds are of trainings. Weights are random at first: none of known origin is at
hand. At 256 x 320 all of it takes about 45 CPU hours: an epoch of the reference 48 s, by the steps' epochs and trials.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qanas
from qanas.core.card import Card
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.procedure import TrainedNetwork
from qanas.planning.plan import Plan
from qanas.planning.scheme_sweep import swept_schemes
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.recipe import load_plan
from qanas.search_space.start import RANDOM
from qanas.tasks.resampling import interval_of, resampled_metrics, units_of

METRIC = "ap50"
NXP_WIDTH = 220


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        epochs: of the reference's trainings that are held against each other.
        repetitions: of each.
        trials: of a search.
        search_epochs: of each of its trainings.
        finalist_epochs: of finalists, the reference and its rivals.
        finalist_seeds: trainings of each.
        search_seeds: searches of each kind.
    """

    epochs: tuple[int, ...] = (15, 30, 60)
    repetitions: int = 3
    trials: int = 40
    search_epochs: int = 12
    finalist_epochs: int = 60
    finalist_seeds: int = 3
    search_seeds: int = 2


TINY = Size((1, 2), 1, 2, 1, 1, 1, 1)


class Study:
    """The five steps over one recipe.

    Args:
        recipe: names task, space, device and objectives.
        out: where all is kept.
        size: how much is done.
        keys: of the recipe that are changed in every step.
    """

    def __init__(self, recipe: Path, out: Path, size: Size, keys: Sequence[str] = ()) -> None:
        """Read the recipe."""
        self.recipe, self.out, self.size, self.keys = recipe, out, size, list(keys)
        out.mkdir(parents=True, exist_ok=True)

    def plan(self) -> Plan:
        """Return the recipe's plan."""
        return load_plan(self.recipe, self.keys)

    def kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what was made before, or make it and keep it."""
        path = self.out / f"{name}.json"
        if not path.is_file():
            started = time.process_time()
            found = make() | {"cpu_seconds": time.process_time() - started}
            write_atomically(path, json.dumps(found, indent=1).encode())
            print(f"{name}: {found['cpu_seconds']:.0f} s of CPU", flush=True)
        read: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return read

    # 1. How long the reference has to be trained

    def training(self) -> dict[str, Any]:
        """Train the reference for several numbers of epochs."""
        found: dict[str, Any] = {}
        for epochs in self.size.epochs:
            for repetition in range(self.size.repetitions):
                name = f"training-{epochs}-{repetition}"
                found[name] = self.kept(name, lambda e=epochs, r=repetition: self._trained(e, r))  # type: ignore[misc]  # mypy knows no defaults of lambdas
        return found

    def _weights(self, epochs: int, repetition: int) -> Path:
        return self.out / f"reference-{epochs}-{repetition}.pt"

    def _trained(self, epochs: int, repetition: int) -> dict[str, Any]:
        plan = self.plan()
        bench, procedure = plan.bench, plan.estimator.procedure.with_settings(epochs=epochs)
        seed = derive_seed(repetition, "reference", epochs)
        trained = procedure.make(bench, bench.reference, RANDOM, seed)
        data = bench.data_of(bench.reference)
        torch.save(trained.network.state_dict(), self._weights(epochs, repetition))
        scores = {name: trained.evaluate(bench.task, split) for name, split in (("val", data.val), ("test", data.test))}
        return {"epochs": epochs, **scores, "curve": list(trained.curve), "train_seconds": trained.train_seconds}

    # 2. What the schemes make of it

    def schemes(self) -> dict[str, Any]:
        """Quantize the longest trained reference by every scheme of 8 bits."""
        return {"schemes": self.kept("schemes", self._schemes)}

    def _schemes(self) -> dict[str, Any]:
        epochs = self.size.epochs[-1]
        self.kept(f"training-{epochs}-0", lambda: self._trained(epochs, 0))
        plan = self.plan()
        bench, found = plan.bench, {}
        network = bench.build(bench.reference, 0)
        network.load_state_dict(torch.load(self._weights(epochs, 0), weights_only=True))
        data = bench.data_of(bench.reference)
        for name in swept_schemes():
            own = replace(bench, scheme=replace(plan.scheme, name=name).scheme)
            quantized: QuantizedGraph = plan.estimator.procedure.quantize(own, bench.reference, network.eval(), 0)
            shipped = TrainedNetwork(network, quantized, 0.0)
            found[name] = {
                split: shipped.evaluate(bench.task, getattr(data, split))[f"{METRIC}_quantized"]
                for split in ("val", "test")
            }
            outputs = shipped.float_outputs(data.test)
        drawn = resampled_metrics(bench.task, outputs, data.test)[METRIC]
        units = int(units_of(bench.task, data.test).max()) + 1
        interval = interval_of(drawn, units)
        floats = bench.task.evaluate(outputs, data.test)[METRIC]
        return {**found, "float": {"test": floats, "low": interval.low, "high": interval.high}}

    # 3. Where its time goes

    def profile(self) -> dict[str, Any]:
        """Cost the reference layer by layer."""
        return {
            "profile": self.kept(
                "profile", lambda: {"layers": [asdict(layer) for layer in qanas.profile(self.recipe, self.keys).layers]}
            )
        }

    # 4. The searches, and 5. who they are held against

    def search(self) -> dict[str, Any]:
        """Search head and input, and everything, from several seeds; finalists are trained and shipped."""
        runs = [(parts, seed) for seed in range(self.size.search_seeds) for parts in ("head", "all")]
        return {f"{parts}-{seed}": self._run(f"{parts}-{seed}", parts, seed, self.size.trials) for parts, seed in runs}

    def rivals(self) -> dict[str, Any]:
        """Train NXP's head as finalists are; the reference itself is in every search."""
        keys = (
            'space.reference="nxp"', f"task.width={NXP_WIDTH}", f"task.widths=[{NXP_WIDTH}]", "task.aspect=1.0",
            "task.aspects=[1.0]", 'space.search=["architecture"]',
        )  # fmt: skip
        return {"nxp": self._run("nxp", "head", 0, 1, *keys)}

    def _run(self, name: str, parts: str, seed: int, trials: int, *overrides: str) -> dict[str, Any]:
        size, folder = self.size, self.out / name
        keys = [
            *self.keys, f'space.parts="{parts}"', f"run.seed={seed}", f"strategy.trials={trials}",
            f"estimation.epochs={size.search_epochs}", f"finalists.epochs={size.finalist_epochs}",
            f"finalists.seeds={size.finalist_seeds}", "reference.tune=0", 'baselines.names=["constant"]', *overrides,
        ]  # fmt: skip
        if not (folder / "report.html").is_file():
            qanas.run(self.recipe, keys, folder)
        first = self.out / "head-0"
        return figures(RunFolder(folder), RunFolder(first if first.is_dir() else folder))


def figures(folder: RunFolder, against: RunFolder) -> dict[str, Any]:
    """Return the models of a finished run, and the cheapest that can't be told to be worse on test data.

    Args:
        folder: of the run.
        against: of that whose reference they are held against, over the same draws of test pictures.
    """
    models = {name: _model(card) for name, card in folder.cards().items()}
    drawn = {name: _drawn(folder, name) for name in models}
    reference, own = _model(against.cards()["seed"]), _drawn(against, "seed")
    intervals = folder.cards()["seed"].intervals
    assert intervals is not None
    pictures = intervals.units["test"]
    latency = "latency_ms" if reference["latency_ms"] else "macs"
    for name, model in models.items():
        gap = interval_of(drawn[name] - own, pictures)
        model["against_reference"] = [gap.low, gap.high]
        model["saved"] = 1 - model[latency] / reference[latency]
    equal = [name for name, model in models.items() if model["against_reference"][1] >= 0]
    cheapest = min(equal, key=lambda name: models[name][latency], default="seed")
    summary = json.loads(folder.summary.read_text("utf-8"))
    return {
        "models": models,
        "cheapest": cheapest,
        "saved": models[cheapest]["saved"],
        "train_cpu_seconds": summary.get("train_cpu_seconds"),
    }


def _model(card: Card) -> dict[str, Any]:
    latency = card.latency_ms
    found = card.metric("deployed", "test", METRIC)
    return {
        "described": card.described,
        "macs": card.macs,
        "file_bytes": card.file_bytes,
        "arena_bytes": card.arena_bytes,
        "latency_ms": next((entry.ms for entry in latency.values()), None),
        METRIC: {"mean": found.mean, "std": found.std, "n": found.n, "shipped": found.shipped},
        "float": card.metric("float", "test", METRIC).mean,
        "parity_steps": card.parity_steps.max,
    }


def _drawn(folder: RunFolder, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    with np.load(folder.model(name) / "predictions.npz") as kept:
        return np.asarray(kept[f"test_resampled_{METRIC}"], np.float64)


STEPS = ("training", "schemes", "profile", "search", "rivals")


def main() -> None:
    """Take the steps that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--tiny", action="store_true", help="next to nothing of everything")
    parser.add_argument("--set", action="append", default=[], help="a key of the recipe, in every step")
    asked = parser.parse_args()
    study = Study(asked.recipe, asked.out, TINY if asked.tiny else Size(), asked.set)
    path = asked.out / "person_detection.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for step in asked.steps:
        found[step] = getattr(study, step)()
        write_atomically(path, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main()
