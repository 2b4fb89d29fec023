"""How well this machine's latency agrees with itself, and sums of operators with whole networks.

    python benchmarks/host_latency.py docs/results/host_latency.md

24 random networks of the space `mobilenet` (96 x 96, two classes, INT8) are measured twice, in processes of their own
(`method = "measured"`: the least of 60 invocations in 20 shuffled rounds), as are all their operators, each a file of
its own (`qanas table`). A surrogate is fitted to the operators of 60 other networks, at 64, 80 and 112 pixels, and
predicts the 24: none of their operators with a map is in its table. Beside them: what was done before, the median of
20 in a row, one file after the other, twice; and Vela's cycles where it is installed, whose sums and wholes are of one
estimate.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau, spearmanr

from pages import write_page
from qanas.core.errors import InputError
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite_reader import read_tflite
from qanas.hardware.device import Device
from qanas.hardware.latency.base import LatencySource
from qanas.hardware.latency.measured import MeasuredHere
from qanas.hardware.latency.surrogate import Surrogate
from qanas.hardware.latency.table import Table, make_table
from qanas.hardware.work import macs_by_kind
from qanas.planning.space_quality import drawn
from qanas.recipe import load_plan

NETWORKS = 24
HEADINGS = (
    "| source | two rounds: tau | mean difference | sum of operators and whole: tau | sum / whole | operators "
    "| MACs: tau | surrogate, held-out operators | surrogate, whole: Spearman | ms a network |"
)
SIZE, OTHER_SIZES, OTHERS = 96, (64, 80, 112), 20
RECIPE = """
[task]
name = "images"
data = "synthetic"
size = {size}

[space]
name = "mobilenet"
reference = "mobilenet_v2_0.35"

[strategy]
name = "random"
trials = 1

[objectives]
accuracy_quantized = "maximize"
"""


def tau(one: Sequence[float], other: Sequence[float]) -> str:
    """Return Kendall's tau of two sides, written."""
    return f"{kendalltau(one, other).statistic:.3f}"


def error(one: Sequence[float], other: Sequence[float]) -> str:
    """Return the mean relative difference of two sides, written."""
    return f"{np.mean(np.abs(np.array(one) / np.array(other) - 1)):.1%}"


def files(folder: Path, size: int, count: int) -> list[bytes]:
    """Return the files of random networks for images of so many pixels a side."""
    recipe = folder / f"recipe{size}.toml"
    recipe.write_text(RECIPE.format(size=size))
    plan = load_plan(recipe, [])
    blueprints = (blueprint for blueprint in drawn(plan.bench, 10 * count) if blueprint is not None)
    return [blueprint.file for blueprint in itertools.islice(blueprints, count)]


def row(name: str, source: LatencySource, contents: Sequence[bytes], others: Sequence[bytes], folder: Path) -> str:
    """Return the table's row of one source."""
    started = time.perf_counter()
    first = source.of(contents)
    seconds = time.perf_counter() - started
    second = source.of(contents)
    path = folder / f"{name.replace(' ', '_')}.json"
    made = make_table(name, source, contents, path)
    summed = Table(method="table", path=str(path)).of(contents)
    others_path = folder / f"{name.replace(' ', '_')}_others.json"
    make_table(name, source, others, others_path)
    surrogate = Surrogate(method="surrogate", path=str(others_path), least_rank=0.0)
    predicted = surrogate.of(contents)
    macs = [float(sum(macs_by_kind(read_tflite(content)).values())) for content in contents]
    ratio = np.array(summed) / np.array(first)
    cells = [name, tau(first, second), error(first, second), tau(summed, first),
             f"{ratio.mean():.2f} +- {ratio.std(ddof=1):.2f}", f"{len(made.values)}", tau(macs, first),
             surrogate.described.partition("operators: ")[2], f"{spearmanr(predicted, first).statistic:.3f}",
             f"{1e3 * seconds / len(contents):,.0f}"]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents = files(folder, SIZE, NETWORKS)
        others = [content for size in OTHER_SIZES for content in files(folder, size, OTHERS)]
        table: list[str] = []
        for kernels in ("optimized", "xnnpack"):
            source = MeasuredHere(method="measured", kernels=kernels)
            table += [row(f"LiteRT {kernels}", source, contents, others, folder)]
        for device in ("ethos-u55-128", "ethos-u55-256", "imx93-npu"):
            try:
                table += [row(f"Vela {device}", Device.named(device).latency, contents, others, folder)]
            except InputError as refusal:
                print(json.dumps({device: str(refusal)}))
        before = [[LiteRTModel(content, "optimized").latency_ms(20) for content in contents] for _ in range(2)]
    lines = [
        "# Latency: does it agree with itself, and with the sum of its operators", "",
        *(__doc__ or "").partition("\n\n    python")[2].partition("\n\n")[2].strip().splitlines(), "",
        HEADINGS,
        "|---|---:|---:|---:|---:|---:|---:|---|---:|---:|", *table, "",
        f"The median of 20 in a row, twice: tau {tau(*before)}, {error(*before)} apart.", "",
        "`python benchmarks/host_latency.py docs/results/host_latency.md`", "",
    ]  # fmt: skip
    write_page(out, "\n".join(lines))


if __name__ == "__main__":
    main()
