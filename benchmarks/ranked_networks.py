"""Networks of a finished block-wise run that are retrained alike: what a score's ranking is held against.

    python benchmarks/ranked_networks.py runs/camvid_s0 --networks 20 --epochs 15 --again 5

Half of them lie on the front of score and bytes, evenly spread over the bytes, half are drawn at random at the same
bytes. Each is trained once, from the teacher's stem and head and its distilled blocks, as finalists are but for the
epochs; some of them once more: how well two trainings of the same networks agree is what no score can surpass.
Trainings lie in the run's folder with the others, and none is done again. `ranking.py` reads them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from blockwise_control_kinds import FinishedRun, random_rows
from blockwise_controls import opened, told
from qanas.core.candidate import Candidate
from qanas.core.even_spread import evenly_spread
from qanas.core.seeds import derive_seed
from qanas.search_space.additive import AdditiveScores
from qanas.search_strategy.solvers import ExactSearch
from qanas.shipping.finalists import FinalistUnit, variant_of
from qanas.shipping.trainings import Finalist

ROOM = 0.02
"""Of its bytes: how far a random network may be from those wanted."""


def front(run: FinishedRun, count: int) -> list[Candidate]:
    """Return networks of the front of score and bytes, evenly spread over the bytes, the smallest first."""
    additive = run.scored.offer(AdditiveScores)
    found = ExactSearch().solve([table.losses([run.size]) for table in additive.tables])
    sizes = found.losses[:, 1]
    wanted = np.linspace(sizes.min(), sizes.max(), count)
    nearest = {int(np.abs(sizes - size).argmin()) for size in wanted}
    return [additive.candidate(found.rows[place].tolist()) for place in sorted(nearest, key=lambda n: sizes[n])]


def drawn(run: FinishedRun, like: list[Candidate]) -> Iterator[Candidate]:
    """Yield a random network of 8 bits with about the bytes of each."""
    bench, tables = run.plan.bench, run.scored.block_tables
    costs = [table.costs[run.size].astype(np.int64) for table in tables]
    for number, candidate in enumerate(like):
        rows = run.scored.rows_of(candidate)
        total = sum(int(cost[row]) for cost, row in zip(costs, rows, strict=True))
        room = round(ROOM * bench.costs_of(candidate)[run.size])
        generator = np.random.default_rng(derive_seed(bench.seed, "ranked network", number))
        picked = random_rows(costs, (total - room, total + room), generator)
        bits, paths = zip(*(table.rows[row] for table, row in zip(tables, picked, strict=True)), strict=True)
        yield run.space.candidate(bench.shape, bench.reference, paths, bits)


def ranked(run: FinishedRun, count: int) -> list[Candidate]:
    """Return the networks: one of the front and one at random in turn, in an order that any beginning is spread in."""
    found = front(run, count // 2)
    others = list(drawn(run, found))
    # The ends first, then ever finer.
    order = list(dict.fromkeys(n for parts in range(2, len(found) + 1) for n in evenly_spread(len(found), parts)))
    return [pair[number] for number in order for pair in (found, others)]


def unit_of(run: FinishedRun, candidate: Candidate, epochs: int, repetition: int) -> FinalistUnit:
    """Return a training of a network."""
    procedure = run.plan.finalists.procedure.with_settings(epochs=epochs)
    start = run.scored.finalist_start(run.plan.bench, candidate, run.plan.finalists.start)
    finalist = Finalist(candidate.key, candidate, start, procedure, variant_of(run.plan, procedure))
    return FinalistUnit.of(run.folder, finalist, repetition)


def main() -> None:
    """Train what is lacking, each network once before any is trained again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--again", type=int, default=5, help="networks that are trained a second time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = opened(arguments.run, 1)
    networks = ranked(run, arguments.networks)
    twice = [networks[place] for place in evenly_spread(len(networks), arguments.again)]
    for repetition, candidates in enumerate((networks, twice)):
        for number, candidate in enumerate(candidates, 1):
            unit = unit_of(run, candidate, arguments.epochs, repetition)
            training = unit.files.read()
            if training is None:
                print(f"{number} of {len(candidates)}, training {repetition + 1}: {candidate.key}", flush=True)
                training = unit.run(run.plan.bench, told)
            quantized = training.metrics["quantized"]
            print(candidate.key, {split: scores["miou"] for split, scores in quantized.items()}, flush=True)


if __name__ == "__main__":
    main()
