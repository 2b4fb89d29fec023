"""A block's table, step by step, against the naive ways, and whether a race finds the whole table's front.

    python benchmarks/blockwise_table.py runs/camvid_bwnas_int8 --out docs/results/blockwise_table.json

Protocol: teacher and supernets of a finished block-wise run; features of its validation images; one thread; seconds of
the processor; all sides in one run, on the same images in the same chunks. Naive means every path by itself, from its
calibration to its score: once in torch's fake quantization, once on integer codes. Naive sides are timed on some rows
drawn at random, in turn with each other, and scaled to all rows; the tree and the race are timed whole. The race's
front is compared with the full table's for several orders of the images. Scores are compared with those of fake
quantization in torch's roundings and, not timed, in the kernels' (table_roundings.py tells which of them matter).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from qanas.core.pareto import non_dominated
from qanas.core.run_folder import RunFolder
from qanas.performance_estimation.block_table.files import blocks_of
from qanas.performance_estimation.block_table.layers import BlockLayers, ScoredSamples
from qanas.performance_estimation.block_table.table import BlockTable, TableBuilder, TableSettings
from qanas.performance_estimation.block_table.walk import PrefixStatistics
from qanas.performance_estimation.scored_blocks import ScoredBlocks
from qanas.quantization.numbers.affine import WeightBits
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.search_space.quantization_group import BitsPer
from qanas.supernet.block_supernet import BlockSupernet
from qanas.supernet.teacher_features import features_of
from qanas.testing.block_scores import KERNELS, score_alone, score_fake_quantized
from qanas.workflows.stages import RunStages

COST = "packed_weight_bytes"
CALIBRATION_SAMPLES = 32
ALL_BITS: tuple[WeightBits, ...] = (4, 6, 8)
CASES: tuple[tuple[int, tuple[WeightBits, ...], BitsPer], ...] = ((1, (8,), "block"), (2, ALL_BITS, "block"))
"""Position of the block, the bits of its weights, and what has its own: a block of three layers in INT8, one of four
with three widths."""

BY_LAYER: tuple[tuple[int, tuple[WeightBits, ...], BitsPer], ...] = ((1, ALL_BITS, "layer"),)
"""The same for bits by layer: 5,832 rows; the whole table of the 104,976 rows of a block of four would take an hour."""


class Run:
    """A finished block-wise run.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        """Load data and teacher, and compute the features."""
        plan = load_plan(folder.recipe)
        plan.check()
        self.bench = plan.bench
        self.blocks = blocks_of(self.bench)
        # Nothing is left to be done in a finished run: teacher and tables are where they were left.
        scored = plan.estimator.prepare(self.bench, RunStages(plan, folder, LiveDisplay()), plan.measures)
        assert isinstance(scored, ScoredBlocks)
        self.files = scored.files
        teacher, data = self.bench.build(self.bench.reference, 0), self.bench.data_of(self.bench.reference)
        teacher.eval().load_state_dict(load_file(scored.teacher))
        splits = data.train, data.val
        self.train, self.val = (features_of(teacher, self.blocks, torch.from_numpy(s.inputs)) for s in splits)

    def layers(self, block: int) -> BlockLayers:
        """Return a block's first supernet."""
        supernet = BlockSupernet(self.blocks[block]).eval()
        supernet.load_state_dict(load_file(self.files[block].supernets[0].path))
        return BlockLayers.of(supernet, tuple(self.train[block].inputs.shape[1:]), self.bench.scheme)


def timed_table(made: TableBuilder) -> tuple[BlockTable, float]:
    """Return a table and the processor seconds that it took."""
    start = time.process_time()
    table = made.build([COST])
    return table, time.process_time() - start


def front(table: BlockTable) -> set[object]:
    """Return the rows on the front."""
    rows = table.exact_rows()
    return {table.rows[rows[position]] for position in non_dominated(table.losses(rows, [COST]))}


def relative_differences(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return how far scores are from others, relative to those."""
    return [abs(one / other - 1.0) for one, other in zip(ours, theirs, strict=True)]


def measure(
    run: Run, block: int, bits: tuple[WeightBits, ...], per: BitsPer, sampled: int, orders: int
) -> dict[str, Any]:
    """Return the seconds of each side, and how often the race found the front."""
    layers, features = run.layers(block), (run.train[block], run.val[block])
    settings = TableSettings(bits, per, calibration_samples=CALIBRATION_SAMPLES)
    made = TableBuilder([layers], *features, settings, 0)
    rows = made.rows()
    samples = ScoredSamples.of(features[1], made.noise)
    chosen = [rows[i] for i in np.random.default_rng(0).choice(len(rows), sampled, replace=False)]
    sides = {"fake quantization": score_fake_quantized, "integer codes": score_alone}
    naive: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for row in chosen:
        for name, score in sides.items():
            own = PrefixStatistics(layers, made.calibration)
            start = time.process_time()
            found[name].append(float(score(own, samples, row).mean()))
            naive[name].append(time.process_time() - start)
    own = PrefixStatistics(layers, made.calibration)
    found["kernels' roundings"] = [float(score_fake_quantized(own, samples, row, KERNELS).mean()) for row in chosen]
    full, tree = timed_table(TableBuilder([layers], *features, replace(settings, full=True), 0))
    races = [timed_table(TableBuilder([layers], *features, settings, seed)) for seed in range(orders)]
    raced = [table for table, _ in races]
    of_tree = [full.scores[full.rows.index(row)] for row in chosen]
    seconds = {name: statistics.mean(times) * len(rows) for name, times in naive.items()}
    seconds |= {"tree": tree, "race": statistics.median(seconds for _, seconds in races)}
    return {
        "block": run.blocks[block].name,
        "bits": list(bits),
        "per": per,
        "rows": len(rows),
        "images": len(features[1]),
        "images_of_a_chunk": len(samples.chunks[0]),
        "seconds": seconds,
        "race_against": {name: value / seconds["race"] for name, value in seconds.items() if name != "race"},
        "tree_equals_integer_codes": of_tree == found["integer codes"],
        "relative_difference_to_fake_quantization": relative_differences(of_tree, found["fake quantization"]),
        "relative_difference_to_it_in_the_kernels_roundings": relative_differences(
            of_tree, found["kernels' roundings"]
        ),
        "front": len(front(full)),
        "rows_left_by_the_race": [int(table.exact.sum()) for table in raced],
        "orders": orders,
        "orders_with_the_same_front": sum(front(table) == front(full) for table in raced),
    }


def main() -> None:
    """Print every case as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sampled", type=int, default=12)
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--by-layer", action="store_true", help="the block whose layers have bits of their own")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = Run(RunFolder(arguments.run))
    chosen = BY_LAYER if arguments.by_layer else CASES
    cases = [measure(run, *case, arguments.sampled, arguments.orders) for case in chosen]
    text = json.dumps(cases, indent=1)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
