"""The lecture's case study whole: persons in photos on a microcontroller, from the reference's training to finalists.

    R="python benchmarks/person_detection.py recipes/person_voc.toml runs/person --size small"
    $R --forecast                                    # every piece with the CPU time that it will take; trains nothing
    $R --steps training schemes profile              # then, in any order and any number of sessions:
    $R --pieces head-0 all-0
    $R --steps rivals
    $R --hours 8                                     # whatever is left, no piece begun after 8 hours
    $R --write docs/results/person_detection         # .json and .md of what there is so far, after any session
    $R --known docs/results/person_detection.json    # on another machine: what that tells isn't done again

training    the reference trained for several numbers of epochs, each from several seeds: where is the same AP had
schemes     the trained reference under every scheme: AP on validation and test data, latency by device
profile     layer by layer
search      MOTPE over AP as quantized and latency: the head and the input alone, and everything, from two seeds each
rivals      NXP's released head at its share of the width, 220 of 320, trained as finalists are; the first search of
            everything trains the reference with 1/4, 1/8 and 1/16 of its backbone's width so, too

Every piece is kept in the folder as it is done, and a search that was killed goes on where it was. Figures: AP50 with
its interval over pictures, MACs, latency, and the cheapest model of each search that validation pictures don't tell to
be worse than the reference of the first search. CPU seconds are of trainings. Weights are random at first, none of
known origin is at hand; --set pretraining.epochs=20 --set 'pretraining.classes=[]' has every candidate learn the
photos' 20 classes first, at the cost of so many epochs more.

Sizes: "full", 256 x 320 as published; "small", 128 x 160 with fewer epochs and trials, searched with trainings as long
as finalists'; "short", the same with a quarter of their epochs; "tiny", only to see it run, with
recipes/person_quick.toml. An epoch of the reference over 752 photos took 6 s of CPU at 128 x 160 and 48 s at 256 x 320
on another machine; --forecast times three steps where it is run.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qanas
from pages import write_page
from person_detection_tables import METRIC, written
from qanas.core.card import Card, SplitName
from qanas.core.errors import InputError
from qanas.core.maps import fitting_side
from qanas.core.measures import parse_cost
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.core.seeds import derive_seed
from qanas.hardware.costs import cost_models
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import TrainedNetwork
from qanas.planning.plan import Plan
from qanas.planning.scheme_sweep import swept_schemes
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.recipe import load_plan
from qanas.search_space.start import RANDOM
from qanas.shipping.verdict import draws_in
from qanas.tasks.detection import Detection
from qanas.tasks.resampling import interval_of, resampled_metrics, units_of

NXP_SHARE = 220 / 320
DEVICES = ("imxrt1170", "imxrt1060", "stm32h743", "imx93-a55")
"""Whose latency the schemes are given by: those with a formula."""


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
        keys: of the recipe that differ.
    """

    epochs: tuple[int, ...] = (15, 30, 60)
    repetitions: int = 3
    trials: int = 40
    search_epochs: int = 12
    finalist_epochs: int = 60
    finalist_seeds: int = 3
    search_seeds: int = 2
    keys: tuple[str, ...] = ()


SMALL = Size((8, 32, 80), 1, 12, 40, 40, 3, 2, ("task.width=160", "task.widths=[]", "finalists.count=2"))
SIZES = {
    "full": Size(),
    "small": SMALL,
    "short": replace(SMALL, search_epochs=10, trials=20),
    "tiny": Size((1, 2), 1, 2, 1, 1, 1, 1, ("finalists.count=1",)),
}


@dataclass(frozen=True)
class Piece:
    """A part of the study that is done at once and kept.

    Attributes:
        step: that it belongs to.
        make: does it, or reads what was done, and returns its figures.
        done: tells whether it was done before.
        trainings: how many epochs each of its trainings has.
    """

    step: str
    make: Callable[[], dict[str, Any]]
    done: Callable[[], bool]
    trainings: Sequence[int] = ()


class Study:
    """The pieces of the five steps over one recipe.

    Args:
        recipe: names task, space, device and objectives.
        out: where all is kept.
        size: how much is done.
        keys: of the recipe that are changed in every step.
    """

    def __init__(self, recipe: Path, out: Path, size: Size, keys: Sequence[str] = ()) -> None:
        """Read the recipe."""
        self.recipe, self.out, self.size, self.keys = recipe, out, size, [*size.keys, *keys]
        out.mkdir(parents=True, exist_ok=True)

    def pieces(self) -> dict[str, Piece]:
        """Return all pieces by name, in the order in which they are done."""
        plan, size = self.plan(), self.size
        task, count = plan.bench.task, plan.finalists.count
        assert isinstance(task, Detection)
        found: dict[str, Piece] = {}
        for epochs, repetition in itertools.product(size.epochs, range(size.repetitions)):
            name, make = f"training-{epochs}-{repetition}", functools.partial(self._trained, epochs, repetition)
            found[name] = self._kept("training", name, make, [epochs])
        found["schemes"] = self._kept("schemes", "schemes", self._schemes)
        found["profile"] = self._kept("profile", "profile", self._profile)
        trainings = [*[size.search_epochs] * size.trials, *[size.finalist_epochs] * ((count + 1) * size.finalist_seeds)]
        for seed, parts in itertools.product(range(size.search_seeds), ("head", "all")):
            name = f"{parts}-{seed}"
            first = parts == "all" and seed == 0
            more = ('baselines.names=["constant", "narrowed"]',) if first else ()
            found[name] = self._searched("search", name, parts, seed, size.trials, trainings, *more)
        width = fitting_side(round(NXP_SHARE * task.width))
        keys = (
            'space.reference="nxp"', f"task.width={width}", f"task.widths=[{width}]", "task.aspect=1.0",
            "task.aspects=[1.0]", 'space.search=["architecture"]',
        )  # fmt: skip
        once = [size.search_epochs, *[size.finalist_epochs] * (2 * size.finalist_seeds)]
        found["nxp"] = self._searched("rivals", "nxp", "head", 0, 1, once, *keys)
        return found

    def forecast(self) -> dict[str, float]:
        """Return the CPU hours of every piece that isn't done, at most: as if all its networks were the reference.

        Timed are a few steps of its training.
        """
        plan = self.plan()
        procedure = plan.estimator.procedure.with_settings(epochs=1)
        whole = procedure.forecast(plan.bench, plan.bench.reference)
        epoch = procedure.alone().forecast(plan.bench, plan.bench.reference)
        print(f"an epoch of the reference: {epoch:.1f} s; in front of each training {max(0.0, whole - epoch):.0f} s")
        return {
            name: sum(whole + (epochs - 1) * epoch for epochs in piece.trainings) / 3600
            for name, piece in self.pieces().items()
            if not piece.done()
        }

    def _kept(self, step: str, name: str, make: Callable[[], dict[str, Any]], trainings: Sequence[int] = ()) -> Piece:
        return Piece(step, lambda: self.kept(name, make), (self.out / f"{name}.json").is_file, trainings)

    def _searched(
        self, step: str, name: str, parts: str, seed: int, trials: int, trainings: Sequence[int], *keys: str
    ) -> Piece:
        make = functools.partial(self._run, name, parts, seed, trials, *keys)
        return Piece(step, make, lambda: RunFolder(self.out / name).done, trainings)

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

    def _schemes(self) -> dict[str, Any]:
        epochs = self.size.epochs[-1]
        self.kept(f"training-{epochs}-0", lambda: self._trained(epochs, 0))
        plan = self.plan()
        bench, found = plan.bench, dict[str, Any]()
        network = bench.build(bench.reference, 0)
        network.load_state_dict(torch.load(self._weights(epochs, 0), weights_only=True))
        data = bench.data_of(bench.reference)
        for name in swept_schemes():
            own = replace(bench, scheme=replace(plan.scheme, name=name).scheme)
            quantized: QuantizedGraph = plan.estimator.procedure.quantize(own, bench.reference, network.eval(), 0)
            shipped = TrainedNetwork(network, quantized, 0.0)
            scores: dict[str, Any] = {
                split: shipped.evaluate(bench.task, getattr(data, split))[f"{METRIC}_quantized"]
                for split in ("val", "test")
            }
            found[name] = scores | {"latency_ms": {device: _latency(own, device) for device in DEVICES}}
            outputs = shipped.float_outputs(data.test)
        drawn = resampled_metrics(bench.task, outputs, data.test)[METRIC]
        units = int(units_of(bench.task, data.test).max()) + 1
        interval = interval_of(drawn, units)
        floats = bench.task.evaluate(outputs, data.test)[METRIC]
        return {**found, "float": {"test": floats, "low": interval.low, "high": interval.high}}

    # 3. Where its time goes

    def _profile(self) -> dict[str, Any]:
        return {"layers": [asdict(layer) for layer in qanas.profile(self.recipe, self.keys).layers]}

    # 4. The searches, and 5. who they are held against

    def _run(self, name: str, parts: str, seed: int, trials: int, *overrides: str) -> dict[str, Any]:
        size, folder = self.size, self.out / name
        keys = [
            *self.keys, f'space.parts="{parts}"', f"run.seed={seed}", f"strategy.trials={trials}",
            f"estimation.epochs={size.search_epochs}", f"finalists.epochs={size.finalist_epochs}",
            f"finalists.seeds={size.finalist_seeds}", "reference.tune=0", 'baselines.names=["constant"]', *overrides,
        ]  # fmt: skip
        if not RunFolder(folder).done:
            qanas.run(self.recipe, keys, folder)
        first = self.out / "head-0"
        return figures(RunFolder(folder), RunFolder(first if RunFolder(first).done else folder))


SPLITS: tuple[SplitName, ...] = ("val", "test")


def figures(folder: RunFolder, against: RunFolder) -> dict[str, Any]:
    """Return the models of a finished run, and the cheapest that validation pictures don't tell to be worse.

    Args:
        folder: of the run.
        against: of that whose reference they are held against, over the same draws of pictures.
    """
    models = {name: _model(card) for name, card in folder.cards().items()}
    reference = _model(against.cards()["seed"])
    intervals = folder.cards()["seed"].intervals
    assert intervals is not None
    latency = "latency_ms" if reference["latency_ms"] else "macs"
    for name, model in models.items():
        model["saved"] = 1 - model[latency] / reference[latency]
        for split in SPLITS:
            gap = interval_of(_drawn(folder, name, split) - _drawn(against, "seed", split), intervals.units[split])
            model["against_reference"] |= {split: [gap.low, gap.high]}
    equal = [name for name, model in models.items() if model["against_reference"]["val"][1] >= 0]
    cheapest = min(equal, key=lambda name: models[name][latency], default=None)
    summary = folder.read_summary()
    trained = [summary[part]["cpu_seconds"] for part in ("finalists", "baselines") if part in summary]
    return {
        "models": models,
        "cheapest": cheapest,
        "saved": models[cheapest]["saved"] if cheapest else 0.0,
        "search_cpu_seconds": summary["train_cpu_seconds"],
        "train_cpu_seconds": summary["train_cpu_seconds"] + sum(trained),
    }


def _model(card: Card) -> dict[str, Any]:
    latency = card.latency_ms
    scores = {split: card.metric("deployed", split, METRIC) for split in SPLITS}
    return {
        "kind": card.kind,
        "described": card.described,
        "macs": card.macs,
        "file_bytes": card.file_bytes,
        "arena_bytes": card.arena_bytes,
        "latency_ms": next((entry.ms for entry in latency.values()), None),
        **{
            split: {"mean": score.mean, "std": score.std, "n": score.n, "shipped": score.shipped}
            for split, score in scores.items()
        },
        "float": card.metric("float", "test", METRIC).mean,
        "parity_steps": card.parity_steps.max,
        "against_reference": {},
    }


def _drawn(folder: RunFolder, name: str, split: SplitName) -> np.ndarray[Any, np.dtype[np.float64]]:
    return draws_in((folder.model(name) / "predictions.npz").read_bytes(), split)[METRIC]


def _latency(bench: Bench, device: str) -> float | None:
    """Return the milliseconds of the reference, None where the device has no kernels for its scheme."""
    try:
        asked = cost_models([parse_cost(f"latency_ms@{device}")], bench.device)
        return replace(bench, costs=asked).costs_of(bench.reference)[f"latency_ms@{device}"]
    except InputError:
        return None


STEPS = ("training", "schemes", "profile", "search", "rivals")


def main() -> None:
    """Do the pieces that are asked for, and write what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--pieces", nargs="+", default=[], help="some of them alone, by name, see --forecast")
    parser.add_argument("--hours", type=float, default=float("inf"), help="no piece is begun after so many")
    parser.add_argument("--forecast", action="store_true", help="say how long each piece will take, and do nothing")
    parser.add_argument("--write", type=Path, help="write .json and .md of what there is, and do nothing")
    parser.add_argument("--known", type=Path, help="a written .json, whose pieces are not done again")
    parser.add_argument("--set", action="append", default=[], help="a key of the recipe, in every step")
    asked = parser.parse_args()
    study = Study(asked.recipe, asked.out, SIZES[asked.size], asked.set)
    if asked.forecast:
        hours = study.forecast()
        for name, own in hours.items():
            print(f"{name:16} {60 * own:7.0f} min of CPU at most")
        print(f"all              {sum(hours.values()):7.1f} h of CPU at most")
        return
    pieces = study.pieces()
    known = json.loads(asked.known.read_text("utf-8")) if asked.known else {}
    unknown = sorted(set(asked.pieces) - pieces.keys())
    if unknown:
        parser.error(f"no piece is called {unknown[0]}; there are {', '.join(pieces)}")
    started = time.monotonic()
    for name, piece in pieces.items():
        wanted = name in asked.pieces if asked.pieces else piece.step in asked.steps
        if asked.write or name in known or piece.done() or not wanted:
            continue
        if time.monotonic() - started > 3600 * asked.hours:
            print(f"{name} and what follows: not begun, the time is up")
            break
        piece.make()
    made = {name: piece.make() for name, piece in pieces.items() if piece.done()}
    every = known | made
    found = {name: every[name] for name in pieces if name in every}
    write_atomically(asked.out / "person_detection.json", json.dumps(found, indent=1).encode())
    if asked.write:
        keys = "".join(f" --set {key}" for key in asked.set)
        told = f"`benchmarks/person_detection.py {asked.recipe.name} --size {asked.size}{keys}`; {len(found)} of "
        told += f"{len(pieces)} pieces are done. {asdict(study.size)}"
        asked.write.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(asked.write.with_suffix(".json"), json.dumps(found, indent=1).encode())
        write_page(asked.write.with_suffix(".md"), written(found, told))


if __name__ == "__main__":
    main()
