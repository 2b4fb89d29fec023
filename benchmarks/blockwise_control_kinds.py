"""What the finalists of a finished block-wise run are held against, and how each of these controls is made.

- `trained_on`: the teacher, trained on from its own weights for the finalists' epochs;
- `narrowed`: the teacher with all widths scaled, as near to each finalist's bytes as that comes; from scratch, for the
  epochs of teacher and finalist together;
- `random`: random networks of each finalist's bytes within 5 %, from the same distilled blocks, trained as finalists
  are; as many networks as others have trainings, each trained once;
- `four_bits`, `six_bits`: the teacher with so many bits in its blocks; quantization-aware training from its own weights
  for the finalists' epochs;
- `scratch`: the finalists' networks from scratch, for the epochs of teacher and finalist together;
- `narrowed_long`: as `narrowed`, with as many epochs more as distillation's samples are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from qanas.core.candidate import Candidate
from qanas.core.measures import Cost
from qanas.core.run_folder import SEED_ID, RunFolder
from qanas.core.seeds import derive_seed
from qanas.networks.deeplabv3 import DeepLabV3Space
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.block_tables import BlockTables
from qanas.performance_estimation.scored_blocks import ScoredBlocks
from qanas.planning.plan import Plan
from qanas.search_space.network_space import TaskShape
from qanas.search_space.start import RANDOM, Start
from qanas.shipping.finalists import FinalistUnit, variant_of
from qanas.shipping.trainings import Finalist, Training
from qanas.training.pretrained import FileStart

TRAINED_ON = "trained_on"
TEACHER = "teacher"
SAME_BYTES = 0.05
INT4_BITS = 4
"""Such weights are stored two to a byte."""

SHARES = (0.4, 1.7, 0.02)
"""Of the teacher's width, from, to and step: what is looked through for a width of some bytes."""

LEAST_WIDTH = 0.1
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
        distillation = cast("BlockTables", self.plan.estimator).distillation
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
