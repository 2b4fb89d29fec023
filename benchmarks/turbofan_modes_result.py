"""The figures of `turbofan_modes.py`: how much smaller one mode's networks are than another's at equal error.

    python benchmarks/turbofan_modes_result.py runs/modes docs/results/turbofan_modes_splits

Everything is read from the experiment's folder; nothing is measured here, and splits that aren't complete are left out.

The ratio at an MAE m is the size of the smallest network of the one side that reaches m, over that of the other. It is
averaged geometrically over the range of m that both sides cover: from the worse of the two best values to the better of
the two values at the small end, up to 15 cycles; then over the splits. Networks were chosen on validation engines.
Its interval is a bootstrap (400 draws) over splits, trainings and engines at once, widened for few splits (Hesterberg
2015); engines that are drawn are the same for all networks. An FP32 network's score over drawn engines is that of its
INT8 form plus the difference of the two over all engines.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

import turbofan_modes
from pages import write_page
from qanas.core.run_folder import SEED_ID
from qanas.core.seeds import derive_seed
from qanas.shipping.baselines import PREFIX
from qanas.tasks.resampling import DRAWS, interval_of
from turbofan_modes import MODES, RESULT

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "qanas"

USEFUL_MAE = 15.0
"""Cycles; nobody ships what is worse. Set before any result was seen."""
GRID = 200
AFTERWARDS = ", quantized afterwards"
DENSE = "dense networks on features"
NARROWED = "the reference, tuned, and narrowed"
SHOWN = (*MODES, "NAS (RS)" + AFTERWARDS, "NAS & HPO (TPE)" + AFTERWARDS, NARROWED, DENSE)

COMPARISONS = (
    ("NAS (RS), linear units", "NAS & HPO (TPE)", "paper: 13x, with 40 % better MAE"),
    ("NAS (RS)", "NAS & HPO (TPE)", "the same on logarithmic units"),
    ("NAS & HPO (TPE)", "QA-NAS & HPO (TPE)", "paper: 3x"),
    ("NAS & HPO (RS)", "QA-NAS & HPO (RS)", "the same trials"),
    ("NAS & HPO (TPE)" + AFTERWARDS, "QA-NAS & HPO (TPE)", "control: what the search gains by seeing INT8"),
    ("NAS (RS)" + AFTERWARDS, "QA-NAS & HPO (TPE)", "control: random networks, the reference's training"),
    (NARROWED, "QA-NAS & HPO (TPE)", "control: no search"),
    (DENSE, "QA-NAS & HPO (TPE)", "control: no LSTM"),
)

SplitName = Literal["val", "test"]
SPLITS: tuple[SplitName, ...] = ("val", "test")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Network:
    """A network of one split, trained several times.

    Attributes:
        entry: what the experiment's file says of it.
        folder: of the split.
        precision: that it ships in.
    """

    entry: Mapping[str, Any]
    folder: Path
    precision: Literal["float", "deployed"]

    @property
    def size(self) -> float:
        """Weight bytes as shipped."""
        return float(self.entry["costs"]["float_weight_bytes" if self.precision == "float" else "weight_bytes"])

    def scores(self, split: SplitName) -> Floats:
        """Return the MAE of each training, shape (trainings,)."""
        return np.array([metrics[self.precision][split]["mae"] for metrics in self.entry["metrics"]])

    @cached_property
    def _drawn(self) -> dict[SplitName, Floats]:
        found: dict[SplitName, Floats] = {}
        files = [np.load(self.folder / name) for name in self.entry["predictions"]]
        for split in SPLITS:
            shift = [m[self.precision][split]["mae"] - m["deployed"][split]["mae"] for m in self.entry["metrics"]]
            drawn = np.array([file[f"{split}_resampled_mae"] for file in files])
            found[split] = drawn + np.array(shift)[:, None]
        return found

    def drawn(self, split: SplitName) -> Floats:
        """Return the MAE of each training over each draw of engines, shape (trainings, draws)."""
        return self._drawn[split]


Points = Floats
"""Networks as rows of size in bytes and MAE in cycles."""


def front(points: Points) -> Points:
    """Return the points that no other dominates, sorted by size."""
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(ordered[:, 1])[:-1]])
    return ordered[ordered[:, 1] < best_before]


def smallest_size(points: Points, levels: Floats) -> Floats:
    """Return the size of the smallest network of a front that reaches each MAE."""
    # Along a front MAE falls as size grows: the first network that is good enough is the smallest.
    sizes: Floats = points[np.searchsorted(-points[:, 1], -levels), 0]
    return sizes


def log_ratio(large: Points, small: Points) -> float:
    """Return the mean logarithm of the ratio of sizes over the common range of MAE; nan where there is none."""
    large, small = front(large), front(small)
    low = max(large[:, 1].min(), small[:, 1].min())
    high = min(large[:, 1].max(), small[:, 1].max(), USEFUL_MAE)
    if low > high:
        return math.nan
    levels = np.linspace(low, high, GRID)
    return float(np.log(smallest_size(large, levels) / smallest_size(small, levels)).mean())


@dataclass(frozen=True)
class SplitResult:
    """One complete split.

    Attributes:
        folder: of it.
        content: of its file.
    """

    folder: Path
    content: Mapping[str, Any]

    def networks(self, side: str) -> list[Network]:
        """Return the networks of a mode, or of a control."""
        return self._networks[side]

    @cached_property
    def _networks(self) -> dict[str, list[Network]]:
        return {side: self._of(side) for side in SHOWN}

    def _of(self, side: str) -> list[Network]:
        everything = self.content["networks"]
        if side == DENSE:
            names = [name for name in everything if name.startswith(f"{PREFIX}dense")]
        elif side == NARROWED:
            names = [SEED_ID, *(name for name in everything if name.startswith(f"{PREFIX}narrowed"))]
        else:
            names = self.content["modes"][side.removesuffix(AFTERWARDS)]
        in_float = side in MODES and MODES[side].objectives[0].column == "mae_float"
        shipped = [everything[name] for name in names if not any(everything[name]["failures"])]
        return [Network(entry, self.folder, "float" if in_float else "deployed") for entry in shipped]

    def points(self, side: str, split: SplitName, draw: Draw | None) -> Points:
        """Return size and MAE of a side's networks: over all trainings and engines, or over those of a draw."""
        if draw is None:
            return np.array([(network.size, network.scores(split).mean()) for network in self.networks(side)])
        return np.array([(n.size, n.drawn(split)[draw.trainings, draw.engines].mean()) for n in self.networks(side)])


@dataclass(frozen=True)
class Draw:
    """What a bootstrap sample is of.

    Attributes:
        splits: their positions.
        trainings: their numbers.
        engines: which of the draws of engines.
    """

    splits: Sequence[int]
    trainings: Sequence[int]
    engines: int

    @classmethod
    def number(cls, number: int, splits: int, trainings: int) -> Draw:
        """Return one of the draws, the same for every comparison."""
        random = np.random.default_rng(derive_seed(0, "modes", number))
        return cls(
            random.integers(0, splits, splits).tolist(), random.integers(0, trainings, trainings).tolist(), number
        )


def compared(splits: Sequence[SplitResult], larger: str, smaller: str, split: SplitName) -> dict[str, Any]:
    """Return the ratio of sizes at equal MAE with its interval, and that of each split."""

    def mean(chosen: Sequence[int], draw: Draw | None) -> float:
        found = [log_ratio(*(splits[i].points(side, split, draw) for side in (larger, smaller))) for i in chosen]
        return float(np.nanmean(found)) if np.isfinite(found).any() else math.nan

    everything = range(len(splits))
    trainings = len(splits[0].networks(larger)[0].entry["metrics"])
    draws = [Draw.number(number, len(splits), trainings) for number in range(DRAWS)]
    spread = interval_of(np.array([mean(draw.splits, draw) for draw in draws]), len(splits))
    each = [mean([i], None) for i in everything]
    return {
        "ratio": _ratio(mean(everything, None)),
        "interval": [_ratio(spread.low), _ratio(spread.high)] if spread.known else None,
        "by_split": [_ratio(value) for value in each],
    }


def _ratio(logarithm: float) -> float | None:
    return math.exp(logarithm) if math.isfinite(logarithm) else None


def chosen_by_validation(splits: Sequence[SplitResult], side: str) -> dict[str, Any]:
    """Return size and scores of each split's network that is best on its validation engines."""
    best = [min(split.networks(side), key=lambda network: float(network.scores("val").mean())) for split in splits]
    return {
        "weight_bytes": [network.size for network in best],
        **{f"mae_{split}": [float(network.scores(split).mean()) for network in best] for split in SPLITS},
    }


def analyse(folder: Path) -> dict[str, Any]:
    """Return everything about one subset."""
    paths = sorted(folder.glob(f"split_*/{RESULT}"))
    splits = [SplitResult(path.parent, json.loads(path.read_text("utf-8"))) for path in paths]
    seconds = folder.glob("split_*/cpu_seconds.txt")
    return {
        "recipe": splits[0].content["recipe"],
        "splits": len(splits),
        "core_hours": sum(sum(map(float, path.read_text("ascii").split())) for path in seconds) / 3600,
        "tuned_epochs": [split.content["tuned_epochs"] for split in splits],
        "parity_steps_max": max(n["parity_steps_max"] for split in splits for n in split.content["networks"].values()),
        "comparisons": [
            {"larger": larger, "smaller": smaller, "note": note}
            | {split: compared(splits, larger, smaller, split) for split in SPLITS}
            for larger, smaller, note in COMPARISONS
        ],
        "best_on_validation": {side: chosen_by_validation(splits, side) for side in SHOWN},
        "networks": {
            side: [[_described(network) for network in split.networks(side)] for split in splits] for side in SHOWN
        },
    }  # fmt: skip


def _described(network: Network) -> dict[str, Any]:
    scores = {f"mae_{split}": [round(float(value), 4) for value in network.scores(split)] for split in SPLITS}
    return {"architecture": network.entry["config"]["architecture"], "weight_bytes": network.size, **scores}


COLOURS = ("#d29922", "#8b949e", "#d1570b", "#c0392b", "#58a6ff", "#1f6feb", "#2da44e", "#116329", "#c297e8", "#8250df")


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw all networks of all splits on test engines, and each side's that is best on validation as a larger dot."""
    figure, axes = plt.subplots(1, len(results), figsize=(6.4 * len(results), 4.6), layout="constrained", squeeze=False)
    for place, (subset, result) in zip(axes[0], results.items(), strict=True):
        for colour, side in zip(COLOURS, SHOWN, strict=True):
            every = [network for split in result["networks"][side] for network in split]
            sizes = [network["weight_bytes"] for network in every]
            place.plot(sizes, [np.mean(n["mae_test"]) for n in every], ".", ms=3, alpha=0.5, color=colour)
            best = result["best_on_validation"][side]
            size = float(np.exp(np.mean(np.log(best["weight_bytes"]))))
            spread = np.std(best["mae_test"], ddof=1) if result["splits"] > 1 else 0.0
            place.errorbar(size, np.mean(best["mae_test"]), spread, fmt="o", ms=6, color=colour, label=side)
        place.set(xscale="log", ylim=(None, USEFUL_MAE + 3), title=f"{subset}, {result['splits']} splits")
        place.set(xlabel="weight bytes as shipped (FP32 or INT8)", ylabel="test MAE [cycles]")
        place.grid(visible=True, which="both", alpha=0.2)
    axes[0][0].legend(fontsize=7, frameon=False)
    figure.savefig(path, metadata={"Date": None})


def markdown(results: Mapping[str, Any], name: str) -> list[str]:
    """Return the lines of the page."""
    lines = ["# C-MAPSS: five ways to search, on test engines, with controls", "", f"![networks]({name}.svg)", ""]
    lines += [
        "Small dots are finalists of all splits, large ones what is best on validation engines (mean over splits, the"
    ]
    lines += ["bar is the deviation over splits). What we make of it: [the log](../log.md)."]
    for subset, result in results.items():
        lines += ["", f"## {subset}: {result['splits']} splits, {result['core_hours']:.1f} core-hours", ""]
        lines += [*_ratio_lines(result), "", *_best_lines(result), ""]
        epochs = ", ".join(str(epochs) for epochs in result["tuned_epochs"])
        lines += [
            f"Epochs of the tuned reference by split: {epochs}. Largest difference between simulated and deployed"
        ]
        lines += [f"outputs: {result['parity_steps_max']} steps."]
    made, _, how = (turbofan_modes.__doc__ or "").partition("\n\nProtocol")
    commands = [line.strip() for line in made.splitlines() if line.startswith("    ")]
    lines += ["", "## Protocol", "", "Protocol" + how.strip("\n"), ""]
    lines += ["The ratio" + (__doc__ or "").partition("\n\nThe ratio")[2].strip("\n"), ""]
    recipe = turbofan_modes.RECIPE.read_text("utf-8").strip()
    lines += ["```toml", recipe, "```", "", "Made by", "", "```", *commands, "```", ""]
    return lines


def _ratio_lines(result: Mapping[str, Any]) -> list[str]:
    lines = ["| larger / smaller, at equal MAE | validation engines | test engines | |", "|---|---:|---:|---|"]
    for entry in result["comparisons"]:
        cells = [_ratio_cell(entry[split]) for split in SPLITS]
        lines.append(f"| {entry['larger']} / {entry['smaller']} | {' | '.join(cells)} | {entry['note']} |")
    return lines


def _ratio_cell(found: Mapping[str, Any]) -> str:
    if found["ratio"] is None:
        return "no common range"
    spread = "" if found["interval"] is None else " ({:.2f} to {:.2f})".format(*found["interval"])
    return f"**{found['ratio']:.2f}**{spread}"


def _best_lines(result: Mapping[str, Any]) -> list[str]:
    lines = ["| best on validation engines | weight bytes | MAE, validation | MAE, test |", "|---|---:|---:|---:|"]
    for side in SHOWN:
        best = result["best_on_validation"][side]
        sizes = sorted(best["weight_bytes"])
        span = f"{np.exp(np.mean(np.log(sizes))):,.0f} ({sizes[0]:,.0f} to {sizes[-1]:,.0f})"
        deviation = functools.partial(np.std, ddof=min(1, len(sizes) - 1))
        scores = [f"{np.mean(values):.2f} ± {deviation(values):.2f}" for values in (best["mae_val"], best["mae_test"])]
        lines.append(f"| {side} | {span} | {' | '.join(scores)} |")
    return lines


def main() -> None:
    """Write the three files, of all subsets that have a complete split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path, help="the result's path without its ending")
    arguments = parser.parse_args()
    subsets = sorted({path.parents[1].name for path in arguments.run.glob(f"*/split_*/{RESULT}")})
    results = {name: analyse(arguments.run / name) for name in subsets}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    draw(results, arguments.out.with_suffix(".svg"))
    write_page(arguments.out.with_suffix(".md"), "\n".join(markdown(results, arguments.out.name)))


if __name__ == "__main__":
    main()
