"""How well a surrogate tells operators and networks that it hasn't seen: cycles of Ethos-U, and emulated instructions.

    PYTHONPATH=benchmarks python benchmarks/surrogate.py docs/results/surrogate.md

A surrogate is fitted to the operators of 30 random networks of the space `mobilenet` (at 64, 80 and 112 pixels), each
taken by itself; it predicts 24 whole networks at 96 pixels, none of whose operators with a map is in its table.
Held-out operators are a tenth of the table at a time, predicted from the rest. Figures are Vela's cycles, of which sums
and wholes are one estimate, and instructions: of TFLite Micro with CMSIS-NN on an emulated Cortex-M55, and of C without
an interpreter on a Cortex-M7 on eight of the networks, operators of 12 for both. All are the same in every run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from host_latency import files
from pages import write_page
from qanas.core.errors import InputError
from qanas.hardware.device import Device
from qanas.hardware.latency.surrogate import Surrogate
from qanas.hardware.latency.table import make_table

SIZE, OTHER_SIZES = 96, (64, 80, 112)
NETWORKS = {
    "ethos-u55-128": (24, 10),
    "ethos-u55-256": (24, 10),
    "imx93-npu": (24, 10),
    "cortex-m55": (24, 4),
    "cortex-m7": (8, 4),
}
"""By device: networks that are predicted, and networks of each other size whose operators are taken."""


def row(name: str, wholes: Sequence[bytes], others: Sequence[bytes], folder: Path) -> str:
    """Return the table's row of one device."""
    source = Device.named(name).latency
    path = folder / f"{name}.json"
    made = make_table(name, source, others, path)
    surrogate = Surrogate(method="surrogate", path=str(path), least_rank=0.0)
    predicted, truth = surrogate.of(wholes), source.of(wholes)
    ratio = np.array(predicted) / np.array(truth)
    held_out = surrogate.described.partition("operators: ")[2]
    told = f"{spearmanr(predicted, truth).statistic:.3f} | {np.abs(ratio / np.median(ratio) - 1).mean():.1%}"
    cells = [name, source.figure, len(made.values), held_out, len(wholes), told, f"{np.median(ratio):.2f}"]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--devices", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    arguments = parser.parse_args()
    table: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        count, each = (max(sizes) for sizes in zip(*NETWORKS.values(), strict=True))
        wholes = files(folder, SIZE, count)
        others = [files(folder, size, each) for size in OTHER_SIZES]
        for name in arguments.devices:
            first, second = NETWORKS[name]
            try:
                table.append(row(name, wholes[:first], [c for some in others for c in some[:second]], folder))
                print(table[-1], flush=True)
            except InputError as refusal:
                print(f"{name}: {refusal}", file=sys.stderr)
    text = (__doc__ or "").partition("\n\n    PYTHON")[2].partition("\n\n")[2].strip()
    lines = [
        "# Surrogates: operators and networks that they haven't seen", "", text, "",
        "| device | | operators | held-out operators | networks | Spearman | error, scale apart | predicted / whole |",
        "|---|---|---:|---|---:|---:|---:|---:|", *table, "",
        "`PYTHONPATH=benchmarks python benchmarks/surrogate.py docs/results/surrogate.md`", "",
    ]  # fmt: skip
    write_page(arguments.out, "\n".join(lines))


if __name__ == "__main__":
    main()
