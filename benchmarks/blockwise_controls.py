"""What the finalists of a finished block-wise run are worth: every control, trained and measured as they are.

    python benchmarks/blockwise_controls.py runs/nuclei_s0 --trainings 2

- `trained_on`: the teacher, trained on from its own weights for the finalists' epochs;
- `narrowed`: the teacher with all widths scaled, as near to each finalist's bytes as that comes; from scratch, for the
  epochs of teacher and finalist together;
- `random`: random networks of each finalist's bytes within 5 %, from the same distilled blocks, trained as finalists
  are; as many networks as others have trainings, each trained once;
- `four_bits`, `six_bits`: the teacher with so many bits in its blocks; quantization-aware training from its own weights
  for the finalists' epochs;
- `scratch`: the finalists' networks from scratch, for the epochs of teacher and finalist together;
- `narrowed_long`: as `narrowed`, with as many epochs more as distillation's samples are.

Trainings stay in the run's folder with the others and aren't done again; `controls.json` beside them is written after
each. Differences between a finalist and a control are of means over trainings, deployed; their intervals are paired:
both sides are scored on the same draws of test units.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from qanas.core.candidate import Candidate
from qanas.core.card import SplitName
from qanas.core.events import Event
from qanas.core.measures import Cost
from qanas.core.run_folder import SEED_ID, RunFolder, write_atomically
from qanas.core.seeds import derive_seed
from qanas.networks.deeplabv3 import DeepLabV3Space
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.block_tables import ScoredBlocks
from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.search_space.network_space import TaskShape
from qanas.search_space.start import RANDOM, Start
from qanas.shipping.finalists import RESAMPLED, Finalist, FinalistUnit, Training, reference_finalist, variant_of
from qanas.tasks.resampling import difference
from qanas.training.pretrained import FileStart
from qanas.workflows.stages import RunStages

TRAINED_ON = "trained_on"
TEACHER = "teacher"
SAME_BYTES = 0.05
INT4_BITS = 4
"""Such weights are stored two to a byte."""

SHARES = (0.4, 1.7, 0.02)
"""Of the teacher's width, from, to and step: what is looked through for a width of some bytes."""

LEAST_WIDTH = 0.1
COSTS = ("weight_bytes", "packed_weight_bytes", "file_bytes", "peak_ram_bytes", "macs")

Integers = NDArray[np.intp]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TeachersOwnStart(Start):
    """The teacher's weights for all of the network.

    Attributes:
        teacher: where they are.
    """

    teacher: Path

    @property
    def digest(self) -> str:
        """Name what is made from them: there is one teacher in a run's folder."""
        return "teacher_trained_on"

    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        """Load them."""
        del candidate, shape
        network.load_state_dict(load_file(self.teacher))


@dataclass(frozen=True)
class Control:
    """One training of what a finalist is held against.

    Attributes:
        kind: of the table above.
        against: the finalist; empty where it is every one.
        finalist: how it is made.
        bench: what it is measured on.
        repetition: the training's number.
    """

    kind: str
    against: str
    finalist: Finalist
    bench: Bench
    repetition: int = 0


# ------------------------------------------------ random networks of a size


def random_rows(costs: Sequence[Integers], bounds: tuple[int, int], generator: np.random.Generator) -> list[int]:
    """Return one row a table, drawn uniformly from all choices whose costs' sum lies within bounds.

    Few of all networks are as small as the smallest of a front: drawing until one is would take for ever. Choices are
    counted from the last table on, by their sums.

    Args:
        costs: of the rows of every table, each of shape (rows,).
        bounds: lowest and highest sum, both allowed.
        generator: of the draw.

    >>> random_rows([np.array([1, 2]), np.array([10, 20])], (21, 21), np.random.default_rng(0))
    [0, 1]
    """
    sums: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
    counts: list[Floats] = [np.ones(1)]
    for table in reversed(costs[1:]):
        found, places = np.unique((table[:, None] + sums[0]).reshape(-1), return_inverse=True)
        ways = np.bincount(places.reshape(-1), np.broadcast_to(counts[0], (len(table), len(counts[0]))).reshape(-1))
        sums, counts = [found, *sums], [ways.astype(np.float64), *counts]
    rows = []
    left = np.array(bounds, np.int64)
    for table, rest, completions in zip(costs, sums, counts, strict=True):
        below = np.concatenate([[0.0], np.cumsum(completions)])
        low = np.searchsorted(rest, left[0] - table, side="left")
        high = np.searchsorted(rest, left[1] - table, side="right")
        weights = below[high] - below[low]
        if not weights.any():
            raise SystemExit(f"no network has from {bounds[0]:,} to {bounds[1]:,} bytes in its blocks")
        rows.append(int(generator.choice(len(table), p=weights / weights.sum())))
        left -= int(table[rows[-1]])
    return rows


# ------------------------------------------------ the run, and its controls


@dataclass(frozen=True)
class FinishedRun:
    """A finished block-wise run.

    Attributes:
        plan: its recipe's.
        folder: its files.
        scored: its tables.
        trainings: how many each control gets.
    """

    plan: Plan
    folder: RunFolder
    scored: ScoredBlocks
    trainings: int

    @cached_property
    def teacher(self) -> Path:
        """The weights of the teacher that taught."""
        return self.scored.teacher

    @cached_property
    def size(self) -> str:
        """The column of the cost that finalists were chosen by."""
        costs = (measure for measure in self.plan.objectives if isinstance(measure, Cost))
        return next((cost.column for cost in costs), "weight_bytes")

    @property
    def space(self) -> DeepLabV3Space:
        """The networks, whose width a control changes."""
        return cast("DeepLabV3Space", self.plan.bench.networks)

    @cached_property
    def sizes_by_width(self) -> Mapping[float, float]:
        """That cost of the teacher at several widths."""
        bench = self.plan.bench
        widths = [round(share * self.space.width, 5) for share in np.arange(*SHARES)]
        others = {
            width: replace(bench, networks=replace(self.space, width=width)) for width in widths if width >= LEAST_WIDTH
        }
        return {width: other.costs_of(other.reference)[self.size] for width, other in others.items()}

    @cached_property
    def finalists(self) -> Mapping[str, Finalist]:
        """What was found, by identity, the smallest first."""
        procedure, bench = self.plan.finalists.procedure, self.plan.bench
        found = {}
        for identity, card in self.folder.cards().items():
            if identity != SEED_ID and card.kind in {None, "found"}:  # cards of early runs don't say
                candidate = Candidate(**card.config)
                start = self.scored.finalist_start(bench, candidate, self.plan.finalists.start)
                found[identity] = Finalist(identity, candidate, start, procedure, variant_of(self.plan, procedure))
        return found

    def finished(self, finalist: Finalist) -> Iterator[Training]:
        """Yield the trainings that the run has of a finalist."""
        for repetition in itertools.count():
            training = FinalistUnit.of(self.folder, finalist, repetition).files.read()
            if training is None:
                return
            yield training

    @property
    def epochs(self) -> tuple[int, int, int]:
        """Passes over the data of the teacher, of a finalist, and what distillation took, in such passes."""
        distillation = self.scored.settings.distillation
        samples = distillation.steps * distillation.batch_size * distillation.seeds
        passes = samples / len(self.plan.bench.data_of(self.plan.bench.reference).train)
        return self.plan.estimator.procedure.epochs, self.plan.finalists.procedure.epochs, round(passes)

    def again(self, kind: str, against: str, finalist: Finalist, bench: Bench | None = None) -> Iterator[Control]:
        """Yield as many trainings of a network as are wanted."""
        for repetition in range(self.trainings):
            yield Control(kind, against, finalist, bench or self.plan.bench, repetition)


def trained_on(run: FinishedRun) -> Iterator[Control]:
    """Yield the teacher, trained on; its bits spelled out make it another candidate, with seeds of its own."""
    reference, procedure = run.plan.bench.reference, run.plan.finalists.procedure
    candidate = replace(reference, quantization={**reference.quantization, "weight_bits": 8})
    start = TeachersOwnStart(run.teacher)
    yield from run.again(
        TRAINED_ON, "", Finalist(TRAINED_ON, candidate, start, procedure, variant_of(run.plan, procedure))
    )


def narrowed_bench(run: FinishedRun, wanted: float) -> Bench:
    """Return a bench whose reference has a cost near that wanted, all widths scaled by the same."""
    width = min(run.sizes_by_width, key=lambda other: abs(np.log(run.sizes_by_width[other] / wanted)))
    return replace(run.plan.bench, networks=replace(run.space, width=width))


def _narrowed(run: FinishedRun, kind: str, epochs: int) -> Iterator[Control]:
    procedure = run.plan.finalists.procedure.with_settings(epochs=epochs)
    for identity, finalist in run.finalists.items():
        bench = narrowed_bench(run, run.plan.bench.costs_of(finalist.candidate)[run.size])
        width = cast("DeepLabV3Space", bench.networks).width
        variant = f"width_{width:g}-{variant_of(run.plan, procedure)}"
        yield from run.again(
            kind, identity, Finalist(f"width {width:g}", bench.reference, RANDOM, procedure, variant), bench
        )


def narrowed(run: FinishedRun) -> Iterator[Control]:
    """Yield the teacher narrowed to each finalist's bytes."""
    teacher, finalist, _ = run.epochs
    yield from _narrowed(run, "narrowed", teacher + finalist)


def narrowed_long(run: FinishedRun) -> Iterator[Control]:
    """Yield the same, trained on as many samples as teacher, distillation and finalist together."""
    yield from _narrowed(run, "narrowed_long", sum(run.epochs))


def random(run: FinishedRun) -> Iterator[Control]:
    """Yield random networks of each finalist's bytes, as many as there are trainings, each trained once."""
    bench, procedure = run.plan.bench, run.plan.finalists.procedure
    tables = run.scored.block_tables
    for identity, finalist in run.finalists.items():
        own = run.scored.rows_of(finalist.candidate)
        bits = [table.rows[row][0] for table, row in zip(tables, own, strict=True)]
        rows = [
            np.array([n for n, row in enumerate(table.rows) if row[0] == b])
            for table, b in zip(tables, bits, strict=True)
        ]
        costs = [table.costs[run.size][kept].astype(np.int64) for table, kept in zip(tables, rows, strict=True)]
        total = sum(int(table.costs[run.size][row]) for table, row in zip(tables, own, strict=True))
        room = round(SAME_BYTES * bench.costs_of(finalist.candidate)[run.size])
        for number in range(run.trainings):
            generator = np.random.default_rng(derive_seed(bench.seed, "random network", identity, number))
            picked = random_rows(costs, (total - room, total + room), generator)
            chosen = [table.rows[kept[row]][1] for table, kept, row in zip(tables, rows, picked, strict=True)]
            candidate = run.space.candidate(bench.shape, bench.reference, chosen, bits)
            start = run.scored.finalist_start(bench, candidate, run.plan.finalists.start)
            found = Finalist(candidate.key, candidate, start, procedure, variant_of(run.plan, procedure))
            yield Control("random", identity, found, bench)


def _fewer_bits(run: FinishedRun, kind: str, bits: int) -> Iterator[Control]:
    reference, epochs = run.plan.bench.reference, run.epochs[1]
    own = [name for name in reference.quantization if name.startswith("weight_bits_")]
    candidate = replace(reference, quantization={**reference.quantization, **dict.fromkeys(own, bits)})
    procedure = run.plan.finalists.procedure.with_settings(qat_epochs=epochs)
    finalist = Finalist(f"{bits} bits", candidate, FileStart(run.teacher), procedure, variant_of(run.plan, procedure))
    bench = (
        run.plan.bench
        if bits != INT4_BITS
        else replace(run.plan.bench, scheme=replace(run.plan.bench.scheme, container="int4"))
    )
    yield from run.again(kind, "", finalist, bench)


def four_bits(run: FinishedRun) -> Iterator[Control]:
    """Yield the teacher with 4 bits."""
    yield from _fewer_bits(run, "four_bits", 4)


def six_bits(run: FinishedRun) -> Iterator[Control]:
    """Yield the teacher with 6 bits."""
    yield from _fewer_bits(run, "six_bits", 6)


def scratch(run: FinishedRun) -> Iterator[Control]:
    """Yield the finalists' networks from random weights."""
    teacher, epochs, _ = run.epochs
    procedure = run.plan.finalists.procedure.with_settings(epochs=teacher + epochs)
    for identity, finalist in run.finalists.items():
        variant = variant_of(run.plan, procedure)
        yield from run.again("scratch", identity, replace(finalist, start=RANDOM, procedure=procedure, variant=variant))


KINDS: Mapping[str, Callable[[FinishedRun], Iterator[Control]]] = {
    TRAINED_ON: trained_on,
    "narrowed": narrowed,
    "random": random,
    "four_bits": four_bits,
    "six_bits": six_bits,
    "scratch": scratch,
    "narrowed_long": narrowed_long,
}
"""In the order in which they are trained."""


# ------------------------------------------------ what comes out


def controls_path(folder: RunFolder) -> Path:
    """Return where the results of a run lie."""
    return folder.path / "controls.json"


def drawn(run: FinishedRun, finalist: Finalist, repetition: int, split: SplitName, metric: str) -> Floats:
    """Return a training's deployed score over each draw of a split's units, shape (draws,)."""
    path = FinalistUnit.of(run.folder, finalist, repetition).files.predictions
    with np.load(path) as arrays:
        return np.asarray(arrays[f"{split}_{RESAMPLED}{metric}"], np.float64)


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
