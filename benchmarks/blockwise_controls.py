"""What the finalists of a finished block-wise run are worth: every control, trained and measured as they are.

    python benchmarks/blockwise_controls.py runs/nuclei_s0 --trainings 2

What they are, `blockwise_control_kinds.py` says. Trainings stay in the run's folder with the others and aren't done
again; `controls.json` beside them is written after each. Differences between a finalist and a control are of means over
trainings, deployed; their intervals are paired: both sides are scored on the same draws of test units.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from blockwise_control_kinds import KINDS, TEACHER, FinishedRun
from qanas.core.card import SplitName
from qanas.core.events import Event
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.scored_blocks import ScoredBlocks
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.shipping.finalists import FinalistUnit, reference_finalist
from qanas.shipping.trainings import Finalist, Training
from qanas.shipping.verdict import draws_in
from qanas.tasks.resampling import difference
from qanas.workflows.stages import RunStages

COSTS = ("weight_bytes", "packed_weight_bytes", "file_bytes", "peak_ram_bytes", "macs")

Floats = NDArray[np.float64]


def controls_path(folder: RunFolder) -> Path:
    """Return where the results of a run lie."""
    return folder.path / "controls.json"


def drawn(run: FinishedRun, finalist: Finalist, repetition: int, split: SplitName, metric: str) -> Floats:
    """Return a training's deployed score over each draw of a split's units, shape (draws,)."""
    path = FinalistUnit.of(run.folder, finalist, repetition).files.predictions
    return draws_in(path.read_bytes(), split)[metric]


@dataclass(frozen=True)
class Side:
    """One side of a comparison: trainings whose scores are averaged.

    Attributes:
        run: that they are of.
        networks: what was trained, and which trainings of it.
    """

    run: FinishedRun
    networks: Sequence[tuple[Finalist, Training]]

    def values(self, split: SplitName, metric: str) -> Floats:
        """Return each training's deployed score, shape (trainings,)."""
        return np.array([training.metrics["deployed"][split][metric] for _, training in self.networks])

    def draws(self, split: SplitName, metric: str) -> Floats:
        """Return the mean score over each draw, shape (draws,)."""
        each = [drawn(self.run, finalist, training.repetition, split, metric) for finalist, training in self.networks]
        return cast("Floats", np.mean(each, axis=0))


def compared(one: Side, other: Side, metric: str) -> dict[str, Any]:
    """Return the difference of two sides by split, with its paired interval."""
    found: dict[str, Any] = {"trainings": [len(one.networks), len(other.networks)]}
    units = one.networks[0][1].units
    for split in ("val", "test"):
        interval = difference(one.draws(split, metric), other.draws(split, metric), units[split])
        values = [side.values(split, metric) for side in (one, other)]
        found[split] = {
            "finalist": round(float(values[0].mean()), 5),
            "control": round(float(values[1].mean()), 5),
            "difference": round(float(values[0].mean() - values[1].mean()), 5),
            "interval": [round(interval.low, 5), round(interval.high, 5)],
            "sd_of_trainings": [round(float(v.std(ddof=1)), 5) if len(v) > 1 else None for v in values],
        }
    return found


def record_of(
    run: FinishedRun, kind: str, against: str, finalist: Finalist, bench: Bench, training: Training
) -> dict[str, Any]:
    """Return what the JSON holds of a training."""
    costs = bench.costs_of(finalist.candidate)
    epochs = 0 if finalist.start.trained else finalist.procedure.epochs
    return {
        "kind": kind,
        "against": against,
        "network": finalist.identity,
        "key": finalist.candidate.key,
        "repetition": training.repetition,
        "epochs": epochs + (run.epochs[1] if finalist.start.trained else 0),
        **{name: round(costs[name]) for name in COSTS},
        "parity_steps": training.parity.max,
        "failure": training.failure,
        "cpu_seconds": round(training.cpu_seconds, 1),
        "metrics": {
            precision: {split: {name: round(v, 5) for name, v in found.items()} for split, found in splits.items()}
            for precision, splits in training.metrics.items()
            if precision != "quantized"
        },
    }


@dataclass
class Results:
    """What is known so far.

    Attributes:
        run: that it is of.
        metrics: that sides are compared by.
        sides: networks and trainings, by kind and finalist.
        records: for the JSON.
    """

    run: FinishedRun
    metrics: Sequence[str]
    sides: dict[tuple[str, str], list[tuple[Finalist, Training]]]
    records: list[dict[str, Any]]

    @classmethod
    def of(cls, run: FinishedRun, metrics: Sequence[str]) -> Results:
        """Begin with teacher and finalists, which the run has."""
        results = cls(run, metrics, {}, [])
        teacher = reference_finalist(run.plan, run.plan.finalists.of_reference)
        for kind, against, finalist in [
            (TEACHER, "", teacher),
            *(("finalist", identity, finalist) for identity, finalist in run.finalists.items()),
        ]:
            for training in run.finished(finalist):
                results.add(kind, against, finalist, run.plan.bench, training)
        return results

    def add(self, kind: str, against: str, finalist: Finalist, bench: Bench, training: Training) -> None:
        """Take a training; one that failed has no place in means."""
        self.records.append(record_of(self.run, kind, against, finalist, bench, training))
        if training.metrics:
            self.sides.setdefault((kind, against), []).append((finalist, training))

    def comparisons(self) -> list[dict[str, Any]]:
        """Return every finalist against every control that there is."""
        found = []
        for identity in self.run.finalists:
            one = Side(self.run, self.sides["finalist", identity])
            for kind in (TEACHER, *KINDS):
                networks = self.sides.get((kind, identity)) or self.sides.get((kind, ""))
                if networks:
                    other = Side(self.run, networks)
                    told = {metric: compared(one, other, metric) for metric in self.metrics}
                    found.append({"finalist": identity, "control": kind, **told})
        return found

    def write(self) -> None:
        """Write all of it beside the run's files."""
        teacher, finalist, distillation = self.run.epochs
        content = {
            "run": self.run.folder.path.name,
            "epochs": {TEACHER: teacher, "finalist": finalist, "distillation": distillation},
            "size": self.run.size,
            "networks": self.records,
            "comparisons": self.comparisons(),
        }
        write_atomically(controls_path(self.run.folder), f"{json.dumps(content, indent=1)}\n".encode())


def told(event: Event) -> bool:
    """Print how far the training has come."""
    print(f"  epoch {event.done}, loss {event.loss:.4f}", flush=True)
    return True


def opened(path: Path, trainings: int) -> FinishedRun:
    """Return a finished run; nothing of it is made anew."""
    folder = RunFolder(path)
    folder.require()
    plan = load_plan(folder.recipe)
    plan.check()
    with LiveDisplay() as display:
        scored = plan.estimator.prepare(plan.bench, RunStages(plan, folder, display), plan.measures)
    if not isinstance(scored, ScoredBlocks):
        raise SystemExit(f"{path}: no block-wise run")
    return FinishedRun(plan, folder, scored, trainings)


def main() -> None:
    """Train what is lacking, the first training of all controls first, and write what there is after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--trainings", type=int, default=3, help="of each control (default: 3)")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), help="default: all")
    parser.add_argument("--metric", nargs="*", default=[], help="compared beside the run's own")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = opened(arguments.run, arguments.trainings)
    results = Results.of(run, [run.plan.main_metric.name, *arguments.metric])
    rounds = [list(KINDS[kind](run)) for kind in KINDS if kind in arguments.kinds]
    # Networks of equal place among those of their kind and finalist come in the same round.
    order = [(number % run.trainings, control) for of_kind in rounds for number, control in enumerate(of_kind)]
    for _, control in sorted(order, key=lambda entry: entry[0]):
        unit = FinalistUnit.of(run.folder, control.finalist, control.repetition)
        training = unit.files.read()
        if training is None:
            print(f"{control.kind} {control.against} {control.finalist.identity}, {control.repetition}", flush=True)
            training = unit.run(control.bench, told)
        results.add(control.kind, control.against, control.finalist, control.bench, training)
        results.write()
    for entry in results.comparisons():
        found = entry[run.plan.main_metric.name]["test"]
        low, high = found["interval"]
        print(f"{entry['finalist']} - {entry['control']}: {found['difference']:+.4f} ({low:+.4f} to {high:+.4f})")


if __name__ == "__main__":
    main()
