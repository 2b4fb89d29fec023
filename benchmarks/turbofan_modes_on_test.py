"""The ratios of `turbofan_modes_result.py` once more, of the same finalists, on test engines beside validation engines.

    python benchmarks/turbofan_modes_on_test.py docs/results/turbofan_modes.json docs/results/turbofan_modes_on_test.md

Finalists were chosen on validation engines; a ratio on these flatters whoever searched them the longest. Networks,
sizes, trainings, the range of MAE and the bootstrap over three trainings are those of the other script.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from turbofan_modes_result import AFTERWARDS, COMPARISONS, Points, compared, deployed, shipped_as

SPLITS = ("val", "test")


def points(finalists: Sequence[dict[str, Any]], precision: str, cost: str, split: str, drawn: Sequence[int]) -> Points:
    """Return size and mean MAE on a split of finalists over some of their trainings, shape (finalists, 2)."""
    rows = [
        (finalist["costs"][cost], np.mean([finalist["mae"][f"{precision}_{split}"][index] for index in drawn]))
        for finalist in finalists
    ]
    return np.array(rows)


def ratio(modes: dict[str, Any], larger: str, smaller: str, split: str) -> dict[str, Any]:
    """Return a comparison on a split; of what is quantized afterwards the larger one is the FP32 mode's finalists."""
    afterwards = larger == AFTERWARDS[0]
    mode = larger.removesuffix(", quantized afterwards")
    sides = (
        (modes[mode]["finalists"], *(deployed() if afterwards else shipped_as(mode))),
        (modes[smaller]["finalists"], *shipped_as(smaller)),
    )

    def of(drawn: Sequence[int]) -> tuple[Points, Points]:
        large, small = (points(*side, split, drawn) for side in sides)
        return large, small

    return compared((larger, smaller), of, range(3))


def cell(found: dict[str, Any] | None) -> str:
    """Return a ratio with its interval."""
    if found is None:
        return "no common range"
    spread = found["interval"]
    return f"{found['mean']:.2f}" + ("" if spread is None else f" ({spread[0]:.2f} to {spread[1]:.2f})")


def lines(results: dict[str, Any]) -> list[str]:
    """Return the page."""
    told = [
        "# FD001: the ratios of the five ways to search, on test engines",
        "",
        "How much smaller, at equal MAE, of the finalists of [turbofan_modes.json](turbofan_modes.json), by",
        "[benchmarks/turbofan_modes_on_test.py](../../benchmarks/turbofan_modes_on_test.py);",
        "in brackets 95 % over three trainings, which is not over engines.",
    ]
    for family, result in results.items():
        told += ["", f"| {family.upper()}: larger / smaller | validation engines | test engines |", "|---|---:|---:|"]
        for larger, smaller in (*COMPARISONS, AFTERWARDS):
            find = functools.partial(ratio, result["modes"], larger, smaller)
            both = [cell(find(split)["whole"]) for split in SPLITS]
            told.append(f"| {larger} / {smaller} | {both[0]} | {both[1]} |")
    return told


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args()
    text = "\n".join(lines(json.loads(arguments.results.read_text("utf-8")))) + "\n"
    arguments.page.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
