"""Which rounding sets a block's scores apart from torch's fake quantization.

    python benchmarks/table_roundings.py runs/camvid_bwnas_int8 --out docs/results/table_roundings.json

Protocol: teacher and supernets of a finished block-wise run, features of its validation images, rows drawn at random.
Each side is fake quantization with other roundings: torch's, then torch's with one of the kernels', then the kernels'
with one of torch's (in float64 but for those that are torch's own). Printed is how far a row's mean score is from
the table's, relative to it, and the share of the values at the block's end that are on another code.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blockwise_table import CALIBRATION_SAMPLES, CASES, Run
from qanas.core.run_folder import RunFolder
from qanas.performance_estimation.block_table.layers import ScoredSamples
from qanas.performance_estimation.block_table.table import TableBuilder, TableSettings
from qanas.performance_estimation.block_table.walk import PrefixStatistics
from qanas.quantization.numbers.affine import WeightBits
from qanas.testing import block_scores as roundings
from qanas.testing.block_scores import KERNELS, TORCH, Roundings, fake_quantized_values, integer_codes

ONCE_TIES_TO_EVEN = partial(roundings.once, ties=roundings.to_even)
IN_FLOAT64 = Roundings(
    torch.float64,
    roundings.fake_quantized,
    roundings.float64_weights,
    roundings.left_alone,
    ONCE_TIES_TO_EVEN,
    roundings.directly,
)
SIDES: Mapping[str, Roundings] = {
    "torch": TORCH,
    "torch, sums and weights in float64": IN_FLOAT64,
    "torch, but the kernels' input": replace(TORCH, given=roundings.divided_in_float32),
    "torch, but the kernels' weights": replace(TORCH, weights=roundings.float64_weights),
    "torch, but the kernels' biases": replace(TORCH, bias=roundings.in_steps),
    "torch, but the kernels' sums": replace(TORCH, dtype=torch.float64, sums=roundings.twice),
    "torch, but the kernels' additions": replace(TORCH, addition=roundings.over_a_fine_grid),
    "torch, but the kernels' biases and sums": replace(
        TORCH, dtype=torch.float64, bias=roundings.in_steps, sums=roundings.twice
    ),
    "kernels, but torch's input": replace(KERNELS, given=roundings.fake_quantized),
    "kernels, but torch's weights": replace(KERNELS, weights=roundings.fake_quantized_weights),
    "kernels, but real biases": replace(KERNELS, bias=roundings.left_alone),
    "kernels, but sums rounded once": replace(KERNELS, sums=roundings.once),
    "kernels, but sums rounded once, ties to even": replace(KERNELS, sums=ONCE_TIES_TO_EVEN),
    "kernels, but additions rounded once": replace(KERNELS, addition=roundings.directly),
    "kernels": KERNELS,
}


def measure(run: Run, block: int, bits: tuple[WeightBits, ...], sampled: int) -> dict[str, Any]:
    """Return how far each side is from the table's scores and codes."""
    layers, features = run.layers(block), (run.train[block], run.val[block])
    made = TableBuilder([layers], *features, TableSettings(bits, calibration_samples=CALIBRATION_SAMPLES), 0)
    rows, samples = made.rows(), ScoredSamples.of(features[1], made.noise)
    chosen = [rows[i] for i in np.random.default_rng(0).choice(len(rows), sampled, replace=False)]
    distances: dict[str, list[float]] = {name: [] for name in SIDES}
    shares: dict[str, list[float]] = {name: [] for name in SIDES}
    for row in chosen:
        own = PrefixStatistics(layers, made.calibration)
        table = integer_codes(own, samples, row)
        score, values = samples.ratios(table.dequantized()).mean(), torch.cat(table.dequantized())
        for name, side in SIDES.items():
            chunks = fake_quantized_values(own, samples, row, side)
            distances[name].append(abs(float(samples.ratios(chunks).mean() / score) - 1.0))
            off = (torch.cat(chunks) - values).abs() > table.affine.scale / 2
            shares[name].append(float(off.double().mean()))
    return {
        "block": run.blocks[block].name,
        "bits": list(bits),
        "rows": [{"bits": row.bits[0], "path": list(row.path)} for row in chosen],
        "images": len(features[1]),
        "relative_difference_of_scores": distances,
        "share_of_other_codes": {name: statistics.mean(values) for name, values in shares.items()},
    }


def main() -> None:
    """Print a table, and write every case as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sampled", type=int, default=8)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = Run(RunFolder(arguments.run))
    cases = []
    for block, bits, _ in CASES:
        case = measure(run, block, bits, arguments.sampled)
        cases.append(case)
        print(case["block"], "bits", *bits)
        for name, values in case["relative_difference_of_scores"].items():
            share = case["share_of_other_codes"][name]
            print(f"  {name:45s} median {statistics.median(values):.1e}  most {max(values):.1e}  codes {share:.1e}")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(cases, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
