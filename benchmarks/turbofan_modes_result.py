"""The figures of `turbofan_modes.py`: curves, and how much smaller one mode's networks are than another's at equal MAE.

    python benchmarks/turbofan_modes_result.py runs/turbofan_modes docs/results/turbofan_modes

Everything is read from the experiment's folder; nothing is measured here.

The ratio at an MAE m is the size of the smallest network of the one front that reaches m, over that of the other. It is
averaged geometrically over the range of m that both fronts cover: from the worse of the two best values to the better
of the two values at the small end; and once more up to 15 cycles only, as nobody ships what is worse (set before any
result was seen). Its interval is a bootstrap (2,000 draws): over the three search seeds for fronts
of the search, over the three trainings for finalists.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

import turbofan_modes
from turbofan_modes import MODES, SEEDS, Mode, store_of

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "qanas"

NETWORKS = ("lstm", "tcn")
DRAWS = 2000
USEFUL_MAE = 15.0
GRID = 200
COMPARISONS = (
    ("NAS (RS)", "NAS & HPO (TPE)"),
    ("NAS & HPO (TPE)", "QA-NAS & HPO (TPE)"),
    ("NAS & HPO (RS)", "QA-NAS & HPO (RS)"),
    ("NAS (RS)", "NAS & small HPO (TPE)"),
    ("NAS & small HPO (TPE)", "QA-NAS & small HPO (TPE)"),
)
AFTERWARDS = ("NAS & HPO (TPE), quantized afterwards", "QA-NAS & HPO (TPE)")
PAPER = {COMPARISONS[0]: "13x, with 40 % better MAE", COMPARISONS[1]: "3x"}

Points = NDArray[np.float64]
"""Networks as rows of size in bytes and MAE in cycles."""


def front(points: Points) -> Points:
    """Return the points that no other dominates, sorted by size."""
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(ordered[:, 1])[:-1]])
    return ordered[ordered[:, 1] < best_before]


def smallest_size(points: Points, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the size of the smallest network of a front that reaches each MAE."""
    # Along a front MAE falls as size grows: the first network that is good enough is the smallest.
    sizes: NDArray[np.float64] = points[np.searchsorted(-points[:, 1], -levels), 0]
    return sizes


@dataclass(frozen=True)
class Ratio:
    """How much smaller the networks of one front are at equal MAE.

    Attributes:
        mean: geometric, over the common range.
        best: the largest single ratio.
        best_mae: where that is.
        low, high: the range of MAE.
    """

    mean: float
    best: float
    best_mae: float
    low: float
    high: float

    @classmethod
    def between(cls, large: Points, small: Points, ceiling: float) -> Ratio | None:
        """Compare two sets of points up to an MAE; None where their fronts have no range in common."""
        large, small = front(large), front(small)
        low = max(large[:, 1].min(), small[:, 1].min())
        high = min(large[:, 1].max(), small[:, 1].max(), ceiling)
        if low > high:
            return None
        levels = np.linspace(low, high, GRID)
        ratios = smallest_size(large, levels) / smallest_size(small, levels)
        best = int(ratios.argmax())
        return cls(float(np.exp(np.log(ratios).mean())), float(ratios[best]), float(levels[best]), low, high)


def interval(draw: Callable[[NDArray[np.int64]], Ratio | None]) -> list[float] | None:
    """Return the 95 % bootstrap interval of a ratio's mean, from draws of three indices with replacement."""
    random = np.random.default_rng(0)
    drawn = [draw(random.integers(0, len(SEEDS), len(SEEDS))) for _ in range(DRAWS)]
    means = [ratio.mean for ratio in drawn if ratio is not None]
    return [float(value) for value in np.quantile(means, [0.025, 0.975])] if len(means) > DRAWS / 2 else None


def searched(folder: Path, mode: Mode) -> list[Points]:
    """Return the measured trials of each search of a mode."""
    metric, cost = (objective.column for objective in mode.objectives)
    searches = [store_of(folder, mode, seed).records for seed in SEEDS]
    return [
        np.array([(r.costs[cost], r.metrics[metric]) for r in records if r.outcome == "measured"])
        for records in searches
    ]


@dataclass(frozen=True)
class FinalistScores:
    """A finalist of a mode.

    Attributes:
        entry: its configuration and costs.
        by_training: of each training, metrics by precision and split.
    """

    entry: dict[str, Any]
    by_training: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path, entry: dict[str, Any]) -> FinalistScores:
        """Read the trainings of a finalist."""
        paths = sorted((folder / "trainings" / entry["key"]).glob("*.json"))
        return cls(entry, [json.loads(path.read_text("utf-8")) for path in paths])

    def scores(self, precision: str, split: str) -> list[float]:
        """Return the MAE of each training."""
        return [training["metrics"][precision][split]["mae"] for training in self.by_training]

    def summary(self) -> dict[str, Any]:
        """Return what the JSON holds."""
        values = {
            f"{precision}_{split}": self.scores(precision, split)
            for precision in ("float", "quantized", "deployed")
            for split in ("val", "test")
        }
        parity = max(training["parity"]["max"] for training in self.by_training)
        return {**self.entry, "mae": values, "parity_steps_max": parity}


def finalists_of(folder: Path, name: str) -> list[FinalistScores]:
    """Return the finalists of a mode, the reference left out."""
    content = json.loads((folder / f"mode_{list(MODES).index(name)}.json").read_text("utf-8"))
    return [FinalistScores.read(folder, entry) for entry in content["finalists"] if not entry["is_seed"]]


def shipped_as(name: str) -> tuple[str, str]:
    """Return the precision that a mode's networks ship in, and the cost that counts."""
    return ("float", "float_weight_bytes") if MODES[name].objectives[0].column == "mae_float" else deployed()


def deployed() -> tuple[str, str]:
    """Return the precision and the cost of INT8 networks in the runtime."""
    return "deployed", "weight_bytes"


def finalist_points(finalists: Iterable[FinalistScores], precision: str, cost: str, drawn: Sequence[int]) -> Points:
    """Return size and mean validation MAE of finalists over some of their trainings."""
    rows = [
        (finalist.entry["costs"][cost], np.mean([finalist.scores(precision, "val")[index] for index in drawn]))
        for finalist in finalists
    ]
    return np.array(rows)


def compared(
    name: tuple[str, str], of: Callable[[Sequence[int]], tuple[Points, Points]], everything: Sequence[int]
) -> dict[str, Any]:
    """Return a ratio with its interval, as the JSON holds it."""
    entry: dict[str, Any] = {"larger": name[0], "smaller": name[1]}
    for title, ceiling in (("whole", np.inf), ("useful", USEFUL_MAE)):
        ratio = Ratio.between(*of(everything), ceiling)
        drawn = interval(functools.partial(_drawn, of, ceiling))
        entry[title] = None if ratio is None else {**vars(ratio), "interval": drawn}
    return entry


def _drawn(
    of: Callable[[Sequence[int]], tuple[Points, Points]], ceiling: float, indices: NDArray[np.int64]
) -> Ratio | None:
    return Ratio.between(*of([int(index) for index in indices]), ceiling)


def analyse(folder: Path) -> dict[str, Any]:
    """Return everything about one family of networks."""
    trials = {name: searched(folder, mode) for name, mode in MODES.items()}
    finalists = {name: finalists_of(folder, name) for name in MODES}

    def of_search(pair: tuple[str, str]) -> Callable[[Sequence[int]], tuple[Points, Points]]:
        return lambda drawn: tuple(np.concatenate([trials[name][i] for i in drawn]) for name in pair)  # type: ignore[return-value]

    def of_finalists(pair: tuple[str, str]) -> Callable[[Sequence[int]], tuple[Points, Points]]:
        def points(name: str, drawn: Sequence[int]) -> Points:
            mode = name.removesuffix(", quantized afterwards")
            return finalist_points(finalists[mode], *(shipped_as(mode) if mode == name else deployed()), drawn)

        return lambda drawn: (points(pair[0], drawn), points(pair[1], drawn))

    everything = range(len(SEEDS))
    return {
        "recipe": _portable(json.loads((folder / "recipe.json").read_text("utf-8"))),
        "core_hours": sum(map(float, (folder / "cpu_seconds.txt").read_text("ascii").split())) / 3600,
        "modes": {
            name: {
                "front_of_search": front(np.concatenate(trials[name])).tolist(),
                "finalists": [finalist.summary() for finalist in finalists[name]],
            }
            for name in MODES
        },
        "ratios_of_search": [compared(pair, of_search(pair), everything) for pair in COMPARISONS],
        "ratios_of_finalists": [compared(pair, of_finalists(pair), everything) for pair in (*COMPARISONS, AFTERWARDS)],
    }


def _portable(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a resolved recipe without the paths of the machine that ran it."""
    recipe.pop("source", None)
    recipe["task"]["data"] = Path(recipe["task"]["data"]).name
    return recipe


COLORS = dict(zip(MODES, ("#8b949e", "#d29922", "#d1570b", "#58a6ff", "#1f6feb", "#c297e8", "#8250df"), strict=True))


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the five fronts of each family, and the finalists with their spread over trainings."""
    figure, axes = plt.subplots(1, len(results), figsize=(5.2 * len(results), 4.2), layout="constrained", squeeze=False)
    for place, (network, result) in zip(axes[0], results.items(), strict=True):
        best = np.inf
        for name, mode in result["modes"].items():
            points = np.array(mode["front_of_search"])
            place.step(points[:, 0], points[:, 1], where="post", color=COLORS[name], lw=1.0, alpha=0.7, label=name)
            precision, cost = shipped_as(name)
            for finalist in mode["finalists"]:
                values = finalist["mae"][f"{precision}_val"]
                place.errorbar(
                    finalist["costs"][cost], np.mean(values), np.std(values, ddof=1), fmt="o", ms=4, color=COLORS[name]
                )
            best = min(best, float(points[:, 1].min()))
        place.set(xscale="log", ylim=(0.9 * best, 2.2 * best), title=f"{network.upper()}, FD001")
        place.set(xlabel="weight bytes as shipped (FP32 or INT8)", ylabel="validation MAE [cycles]")
        place.grid(visible=True, which="both", alpha=0.2)
    axes[0][0].legend(fontsize=7, frameon=False)
    figure.savefig(path, metadata={"Date": None})


def markdown(results: dict[str, Any], name: str) -> list[str]:
    """Return the lines of the page."""
    lines = ["# FD001: five ways to search, LSTM and TCN", "", f"![fronts]({name}.svg)", ""]
    lines += ["Lines are fronts of the searches (one training a network), dots the finalists (three trainings)."]
    lines += [
        "What we make of it: [the log](../log.md), 2026-11-21. All scores of these ratios are of validation engines;"
    ]
    lines += ["[on test engines](turbofan_modes_on_test.md) less is left.", ""]
    for network, result in results.items():
        lines += [f"## {network.upper()} ({result['core_hours']:.1f} core-hours)", "", *_ratio_table(result), ""]
        lines += [*_finalist_table(result), ""]
    made, _, how = (turbofan_modes.__doc__ or "").partition("\n\nProtocol")
    commands = [line.strip() for line in made.splitlines() if line.startswith("    ")]
    lines += ["## Protocol", "", "Protocol" + how.strip("\n"), ""]
    lines += ["The ratio" + (__doc__ or "").partition("\n\nThe ratio")[2].strip("\n"), ""]
    recipe = Path(__file__).with_name("turbofan_modes.toml").read_text("utf-8").strip()
    lines += ["```toml", recipe, "```", "", "Made by", "", "```", *commands, "```", ""]
    return lines


def _ratio_table(result: dict[str, Any]) -> list[str]:
    lines = ["| larger / smaller | from | MAE | ratio of sizes at equal MAE | 95 % interval | best single | paper |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|"]
    for source, title in (("ratios_of_finalists", "finalists"), ("ratios_of_search", "search")):
        for entry in result[source]:
            pair = (entry["larger"], entry["smaller"])
            ranges = [entry["whole"]] if entry["whole"] == entry["useful"] else [entry["whole"], entry["useful"]]
            for ratio in ranges:
                cells = ("", "no common range", "", "") if ratio is None else _ratio_cells(ratio)
                lines.append(f"| {' / '.join(pair)} | {title} | {' | '.join(cells)} | {PAPER.get(pair, '')} |")
    return lines


def _ratio_cells(ratio: dict[str, Any]) -> tuple[str, ...]:
    span = "-" if ratio["interval"] is None else "{:.2f} - {:.2f}".format(*ratio["interval"])
    best = f"{ratio['best']:.1f} at {ratio['best_mae']:.2f}"
    return f"{ratio['low']:.2f} - {ratio['high']:.2f}", f"**{ratio['mean']:.2f}**", span, best


def _finalist_table(result: dict[str, Any]) -> list[str]:
    lines = [
        "| mode | network | weight bytes | val MAE | test MAE | steps from simulated |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, mode in result["modes"].items():
        precision, cost = shipped_as(name)
        for finalist in sorted(mode["finalists"], key=lambda entry: float(entry["costs"][cost])):
            values = [finalist["mae"][f"{precision}_{split}"] for split in ("val", "test")]
            scores = " | ".join(f"{np.mean(v):.2f} ± {np.std(v, ddof=1):.2f}" for v in values)
            size = f"{finalist['costs'][cost]:,.0f} {'FP32' if precision == 'float' else 'INT8'}"
            row = (name, _shape(finalist["config"]["architecture"]), size, scores, str(finalist["parity_steps_max"]))
            lines.append(f"| {' | '.join(row)} |")
    return lines


def _shape(architecture: dict[str, Any]) -> str:
    """Return an architecture in a few characters: widths, and a TCN's kernel size and dilation base."""
    widths = "-".join(str(value) for name, value in sorted(architecture.items()) if name[-1].isdigit())
    if "kernel_size" not in architecture:
        return widths
    return f"{widths}, kernel {architecture['kernel_size']}, base {architecture.get('dilation_base', 1)}"


def main() -> None:
    """Write the three files, of the families whose experiment is complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path, help="the result's path without its ending")
    arguments = parser.parse_args()
    complete = [name for name in NETWORKS if (arguments.run / name / "recipe.json").is_file()]
    results = {name: analyse(arguments.run / name) for name in complete}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    draw(results, arguments.out.with_suffix(".svg"))
    arguments.out.with_suffix(".md").write_text("\n".join(markdown(results, arguments.out.name)), "utf-8")


if __name__ == "__main__":
    main()
