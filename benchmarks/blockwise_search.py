"""Exact search over tables of blocks: its time, against brute force, and against the traversal that DNA publishes.

    python benchmarks/blockwise_search.py --out docs/results/blockwise_search.json

Protocol: blocks, channels and operators are those of QA-BWNAS (Lu et al. 2023, Table I): six blocks of 3, 3, 4, 4, 3, 1
inverted bottlenecks with kernels 3, 5, 7 and expansions 3, 6, and with 8 bits or with 4, 6, 8, a bit-width a block or a
layer. Costs are counted (parameters x bits); scores and the third column, a latency, are synthetic: larger operators
and more bits score better, with noise. Both sides of a ratio run in one process and thread, one after the other;
milliseconds are of the processor, medians where a side is repeated. They hold nothing but the search itself.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from qanas.core.pareto import Points, non_dominated
from qanas.search_strategy.solvers import ExactSearch, traverse

T = TypeVar("T")

CHANNELS = (16, 24, 32, 64, 96, 160, 320)
LAYERS = (3, 3, 4, 4, 3, 1)
OPERATORS = tuple((kernel, expansion) for kernel in (3, 5, 7) for expansion in (3, 6))
ROUNDING_NOISE = {8: 0.02, 6: 0.15, 4: 1.0}
"""By how much a score grows with fewer bits; made up."""
BUDGETS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Space:
    """Which networks there are."""

    name: str
    bits: tuple[int, ...]
    bits_per_layer: bool = False
    latency: bool = False

    def tables(self) -> list[Points]:
        """Return a table a block: score, parameters x bits, and the latency in microseconds where asked for."""
        generator = np.random.default_rng(0)
        return [self._table(generator, block) for block in range(len(LAYERS))]

    def _table(self, generator: np.random.Generator, block: int) -> Points:
        score, parameters = np.zeros(1), np.zeros(1)
        per_layer = self.bits if self.bits_per_layer else (1,)
        for layer in range(LAYERS[block]):
            inputs = CHANNELS[block] if layer == 0 else CHANNELS[block + 1]
            weights = np.array([e * inputs * (inputs + k * k + CHANNELS[block + 1]) for k, e in OPERATORS], np.float64)
            errors = generator.uniform(0.05, 0.3, len(OPERATORS)) / [e**0.5 * k**0.3 for k, e in OPERATORS]
            noise = [1 + ROUNDING_NOISE.get(bits, 0.0) for bits in per_layer]
            parameters = np.add.outer(parameters, np.outer(per_layer, weights)).ravel()
            score = np.add.outer(score, np.outer(noise, errors)).ravel()
        if not self.bits_per_layer:
            score = np.concatenate([score * (1 + ROUNDING_NOISE[bits]) for bits in self.bits])
            parameters = np.concatenate([parameters * bits for bits in self.bits])
        score = score * generator.lognormal(0.0, 0.1, len(score))
        latency = [np.rint(parameters * generator.uniform(0.5, 1.5, len(parameters)) / 50)] if self.latency else []
        return np.column_stack([score, parameters, *latency])


INT8 = Space("INT8", (8,))
MIXED = Space("4, 6, 8 bits a block", (4, 6, 8))
SPACES = (
    INT8,
    MIXED,
    Space("4, 6, 8 bits a layer", (4, 6, 8), bits_per_layer=True),
    Space("INT8, latency too", (8,), latency=True),
    Space("4, 6, 8 bits a block, latency too", (4, 6, 8), latency=True),
)


def timed(call: Callable[[], T], repeats: int) -> tuple[T, float]:
    """Return what the last call returned and the median milliseconds."""
    milliseconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        milliseconds.append((time.process_time() - start) * 1e3)
    return result, statistics.median(milliseconds)


def networks(tables: Sequence[Points]) -> float:
    """Return how many networks the tables hold."""
    return float(math.prod(len(table) for table in tables))


def all_sums(tables: Sequence[Points]) -> Points:
    """Return the totals of every network."""
    sums = np.zeros((1, tables[0].shape[1]))
    for table in tables:
        sums = (sums[:, None] + table).reshape(-1, table.shape[1])
    return sums


def score_of(tables: Sequence[Points], rows: NDArray[np.intp]) -> float:
    """Return a network's score, added in the order of the blocks as everywhere."""
    score = 0.0
    for table, row in zip(tables, rows, strict=True):
        score += float(table[row, 0])
    return score


def measure_front(space: Space, repeats: int) -> dict[str, Any]:
    """Time the whole front of a space."""
    tables = space.tables()
    front, milliseconds = timed(lambda: ExactSearch().solve(tables), repeats)
    return {
        "space": space.name,
        "networks": networks(tables),
        "objectives": tables[0].shape[1],
        "front": len(front.losses),
        "milliseconds": milliseconds,
    }


def against_brute_force(space: Space, blocks: Sequence[int]) -> dict[str, Any]:
    """Compare with the front of all networks of some of the blocks, which brute force can do."""
    tables = [space.tables()[block] for block in blocks]

    def brute_force() -> Points:
        sums = all_sums(tables)
        return sums[non_dominated(sums)]

    expected, brute = timed(brute_force, 1)
    front, exact = timed(lambda: ExactSearch().solve(tables), 5)
    return {
        "space": space.name,
        "blocks": [block + 1 for block in blocks],
        "networks": networks(tables),
        "objectives": tables[0].shape[1],
        "identical": bool(np.array_equal(front.losses, expected)),
        "brute_force_milliseconds": brute,
        "milliseconds": exact,
        "ratio": brute / exact,
    }


def against_dna(space: Space, blocks: int, *, filtered: bool) -> list[dict[str, Any]]:
    """Compare with DNA's traversal at three budgets: what points of the front cost, at these shares from its small end.

    With all their rows four blocks took it up to 69 s a budget; of six it is given the rows on each block's front.
    """
    tables = space.tables()[:blocks]
    if filtered:
        tables = [table[non_dominated(table)] for table in tables]
    front, exact = timed(lambda: ExactSearch().solve(tables), 5)
    results = []
    for share in BUDGETS:
        best = int(len(front.losses) * (1 - share))
        rows, dna = timed(partial(traverse, tables, float(front.losses[best, 1])), 1)
        results.append(
            {
                "space": space.name,
                "blocks": blocks,
                "only_rows_on_a_block_front": filtered,
                "networks": networks(tables),
                "budget_at_share_of_front": share,
                "score": front.losses[best, 0],
                "dna_score": None if rows is None else score_of(tables, rows),
                "whole_front_milliseconds": exact,
                "dna_milliseconds": dna,
            }
        )
    return results


def on_random_instances(blocks: int, rows: int, count: int) -> dict[str, Any]:
    """Count on how many instances each side misses the score that brute force finds within a budget.

    Scores are uniform in [0, 1), costs whole numbers up to 1000, the budget uniform between the cheapest and the
    dearest network.
    """
    generator = np.random.default_rng(0)
    missed = {"exact": 0, "dna": 0}
    excess: list[float] = []
    nothing = 0
    for _ in range(count):
        tables = [np.column_stack([generator.random(rows), generator.integers(1, 1001, rows)]) for _ in range(blocks)]
        sums = all_sums(tables)
        budget = float(np.rint(generator.uniform(sums[:, 1].min(), sums[:, 1].max())))
        best = sums[sums[:, 1] <= budget, 0].min()
        front = ExactSearch().solve(tables)
        missed["exact"] += bool(front.losses[front.best_within(1, budget), 0] != best)
        found = traverse(tables, budget)
        nothing += found is None
        if found is None or score_of(tables, found) > best:
            missed["dna"] += 1
            excess += [] if found is None else [score_of(tables, found) / best - 1]
    return {
        "blocks": blocks,
        "rows": rows,
        "instances": count,
        "missed_by_exact_search": missed["exact"],
        "missed_by_dna": missed["dna"],
        "dna_found_nothing": nothing,
        "excess_score_where_missed": {"median": statistics.median(excess), "max": max(excess)} if excess else None,
    }


def main() -> None:
    """Print the result as JSON, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--instances", type=int, default=2000)
    arguments = parser.parse_args()
    result = {
        "conditions": {"python": platform.python_version(), "numpy": np.__version__, "repeats": arguments.repeats},
        "whole_front": [measure_front(space, arguments.repeats) for space in SPACES],
        "against_brute_force": [
            against_brute_force(INT8, (0, 1, 4)),
            against_brute_force(MIXED, (0, 1, 5)),
            against_brute_force(SPACES[-1], (0, 1, 5)),
        ],
        "against_dna": [
            *against_dna(INT8, 3, filtered=False),
            *against_dna(INT8, 6, filtered=True),
            *against_dna(MIXED, 6, filtered=True),
        ],
        "random_instances": [
            on_random_instances(blocks, rows, arguments.instances) for blocks, rows in ((3, 8), (3, 30), (5, 8))
        ],
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
