"""Turn the folder of a finished run into the three files of a result in ``docs/results``: JSON, SVG, Markdown.

    python benchmarks/results.py runs/turbofan_fd001 docs/results/turbofan_fd001 --title "..."

Everything is read from the run's files; nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl
from matplotlib import pyplot as plt

from pages import write_page
from qanas.core.run_folder import RunFolder, read_table

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "qanas"

SHOWN = {"reference": ("*", "reference", 9), "baseline": ("s", "baselines", 4), "found": ("o", "found", 5)}
"""Marker, name and size of a model by its kind."""

METRIC = "mae"
COST = "weight_bytes"


def statistic(card: dict[str, Any], precision: str, split: str) -> str:
    """Return a metric of a card as text: mean +- sd over its trainings."""
    value = card["metrics"][precision][split][METRIC]
    return f"{value['mean']:.2f} ± {value['std']:.2f}"


def collect(folder: RunFolder) -> dict[str, Any]:
    """Return what the result's JSON holds."""
    cards = {name: card.model_dump(mode="json") for name, card in folder.cards().items()}
    left_out = ("task", "preprocessing", "protocol", "files", "schema_version", "input", "output", "inputs", "outputs")
    recipe = folder.read_recipe()
    recipe.pop("source", None)
    recipe["task"]["data"] = Path(recipe["task"]["data"]).name
    protocol = dict(next(iter(cards.values()))["protocol"])
    return {
        "recipe": recipe,
        "protocol": protocol,
        "summary": folder.read_summary(),
        "front": pl.read_csv(folder.front).to_dicts(),
        "models": {name: {k: v for k, v in card.items() if k not in left_out} for name, card in cards.items()},
    }


def draw(folder: RunFolder, path: Path, title: str) -> None:
    """Draw every trial, the front, and the shipped models with their spread over trainings."""
    trials = read_table(folder.trials).filter(pl.col("outcome") == "measured")
    front = pl.read_csv(folder.front)
    figure, axes = plt.subplots(figsize=(7.2, 4.0), layout="constrained")
    axes.scatter(trials[COST], trials["mae_quantized"], s=14, color="#9aa5b1", label="trials (INT8, one training)")
    axes.step(front[COST], front["mae_quantized"], where="post", color="#1f6feb", lw=1.2, label="front of the search")
    for card in folder.cards().values():
        value = card.metric("deployed", "val", METRIC)
        test = card.metric("deployed", "test", METRIC)
        marker, label, size = SHOWN[card.kind or "found"]
        axes.errorbar(card.weight_bytes, value.mean, value.std, fmt=marker, ms=size, color="#d1570b", label=label)
        axes.errorbar(card.weight_bytes, test.mean, test.std, fmt=marker, ms=size, color="#2da44e", alpha=0.7)
    axes.plot([], [], "o", color="#2da44e", label="the same on test engines")
    axes.set_xscale("log")
    best = float(front["mae_quantized"].min())  # type: ignore[arg-type]
    axes.set_ylim(best * 0.85, best * 2.0)
    axes.set_xlabel("weight bytes in the file")
    axes.set_ylabel("MAE of remaining useful life [cycles]")
    axes.set_title(title, fontsize=10)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(unique.values(), unique.keys(), fontsize=8, frameon=False)
    axes.grid(visible=True, which="both", alpha=0.2)
    figure.savefig(path, metadata={"Date": None})


COLUMNS = {
    "network": "---",
    "model": "---",
    "file bytes": "---:",
    "weight bytes": "---:",
    "arena bytes": "---:",
    "val MAE, INT8 in LiteRT": "---:",
    "test MAE, INT8 in LiteRT": "---:",
    "95 % over test engines": "---:",
    "test MAE, FP32": "---:",
    "parity: steps": "---:",
}


def table(models: dict[str, Any]) -> list[str]:
    """Return the shipped models as lines of a Markdown table, the smallest file first."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'|'.join(COLUMNS.values())}|"]
    for name, card in sorted(models.items(), key=lambda entry: int(entry[1]["file_bytes"])):
        interval = (card["intervals"] or {}).get("deployed", {}).get("test", {}).get(METRIC)
        cells = [
            f"{card['described']}{'' if card['kind'] == 'found' else ', ' + card['kind']}",
            f"`{name}`",
            *(f"{card[cost]:,}" for cost in ("file_bytes", "weight_bytes", "arena_bytes")),
            statistic(card, "deployed", "val"),
            statistic(card, "deployed", "test"),
            "" if interval is None else f"{interval['low']:.2f} to {interval['high']:.2f}",
            statistic(card, "float", "test"),
            str(card["parity_steps"]["max"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("out", type=Path, help="the result's path without its ending")
    parser.add_argument("--title", required=True)
    arguments = parser.parse_args()
    folder = RunFolder(arguments.run)
    folder.require()
    result = collect(folder)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    draw(folder, arguments.out.with_suffix(".svg"), arguments.title)
    trials, finalists = result["summary"]["trials"], result["summary"]["finalists"]
    counts = (
        f"{trials['measured']} trials measured, {trials['failed']} failed, {trials['rejected']} rejected; "
        f"{finalists['shipped']} models shipped, {finalists['failed']} failed. "
        f"Mean ± sample standard deviation over {result['protocol']['trainings']} trainings."
    )
    told = result["summary"].get("verdict", {}).get("sentences", [])
    picture = f"![front]({arguments.out.name}.svg)"
    end = "Protocol, recipe and versions: the JSON file beside this one."
    text = [f"# {arguments.title}", "", picture, "", *told, "", counts, "", *table(result["models"]), "", end, ""]
    write_page(arguments.out.with_suffix(".md"), "\n".join(text))


if __name__ == "__main__":
    main()
